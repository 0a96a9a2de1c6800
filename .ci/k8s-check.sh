#!/usr/bin/env bash
# Checks the Kubernetes manifests against the schemas of Kubernetes, of which PyPI's kubernetes-validate brings copies.
# Usage: k8s-check.sh [VERSION of Kubernetes]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

tool="$keevo_cache/kubernetes-validate-1.37.0"
if [ ! -x "$tool/bin/kubernetes-validate" ]; then
    python3 -m venv "$tool"
    "$tool/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
fi
"$tool/bin/kubernetes-validate" --strict ${1:+-k "$1"} keevo-server/packaging/kubernetes/*.yaml
echo "k8s-check: passed"
