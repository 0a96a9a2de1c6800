#!/usr/bin/env bash
# The web console in a real browser, against keevod as it is built. Usage: console-test.sh [FOLDER FOR SCREENSHOTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

command -v chromium >/dev/null 2>&1 || {
    echo "console: chromium is missing: install Debian's package chromium, for which \`.ci/deps.sh web\` is enough" >&2
    exit 2
}
.ci/console-build.sh check
BIN="$CARGO_TARGET_DIR/debug" CHROMIUM="$(command -v chromium)" SCREENSHOTS="${1:+$(realpath -m "$1")}" \
    timeout 300 node keevo-server/console/test/test.mjs
