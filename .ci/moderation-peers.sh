#!/usr/bin/env bash
# Makes the Python that `keevo-bench moderation` compares with, in the cache folder, and prints its path: PyTorch and Flask
# from Debian or Ubuntu, onnx and onnxruntime from PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh
.ci/deps.sh moderation >&2
folder="$keevo_cache/moderation-peers"
if ! "$folder/bin/python" -c 'import torch, flask, onnx, onnxruntime' 2>/dev/null; then
    # The system's own Python, for which the packages are, whatever else is on the PATH; and its NumPy, which they need.
    /usr/bin/python3 -m venv --clear --system-site-packages "$folder"
    "$folder/bin/pip" install --quiet 'numpy<2' onnx onnxruntime >&2
fi
echo "$folder/bin/python"
