#!/bin/sh
# A tiny run of the training path: fine-tunes the small random model on the sample and looks at what came out.
# Needs PyTorch; where there is none it says so and ends well.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-}
for candidate in "$python" python3 /usr/bin/python3; do
    if [ -n "$candidate" ] && "$candidate" -c "import torch" 2>/dev/null; then python=$candidate; break; fi
    python=
done
if [ -z "$python" ]; then
    echo "train/check.sh: skipped, there is no Python with PyTorch (Debian: python3-torch)"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for run in first second; do
    "$python" -B train.py --data sample.csv --base ../tests/testdata/f32 --out "$out/$run" --epochs 6 --batch 16 --rate 2e-3 --seed 3
done
cmp "$out/first/model.safetensors" "$out/second/model.safetensors"
"$python" -B - "$out/first/evaluation.json" <<'P'
import json, sys
found = json.load(open(sys.argv[1], encoding="utf-8"))["rude"]["auc"]
assert found > 0.9, f"the tiny run learned nothing: AUC {found}"
print(f"train/check.sh: AUC {found} on the sample, twice the same weights")
P
