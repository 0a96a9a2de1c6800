#!/bin/sh
# Compiles bert.cu to bert.ptx for GPUs from sm_75 (T4) on; newer ones translate it when it is loaded.
# usage: kernels/build.sh        (nvcc of CUDA 13.0 on the PATH)
set -eu
cd "$(dirname "$0")"
nvcc --ptx -arch=sm_75 -O3 -std=c++17 bert.cu -o bert.ptx
# No path of the machine that compiled it, and one line feed at the end.
sed -i -e 's/[[:space:]]*$//' bert.ptx
sed -i -e :a -e '/^\n*$/{$d;N;ba' -e '}' bert.ptx
