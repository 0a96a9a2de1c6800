#!/bin/sh
# Assembles what a build with the feature cuda needs, on a machine without a GPU: CUDA 13.0's compiler and headers from
# PyPI's wheels by NVIDIA, and copies of two crates with the changes of huggingface/candle pull request 3916.
# usage: cuda_setup.sh DIR, then . DIR/env.sh, then cargo build … --features cuda --config DIR/cuda.toml (README.md)
set -eu
D=$(mkdir -p "$1" && cd "$1" && pwd); mkdir -p "$D/whl" "$D/x"
python3 -m pip download -q --no-deps --only-binary=:all: -d "$D/whl" \
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35
for w in "$D"/whl/*.whl; do python3 -m zipfile -e "$w" "$D/x"; done
rm -rf "$D/cuda"; mv "$D/x/nvidia/cu13" "$D/cuda"; rm -rf "$D/x"
chmod +x "$D"/cuda/bin/* "$D"/cuda/nvvm/bin/*; ln -sfn lib "$D/cuda/lib64"
"$D/cuda/bin/nvcc" --version | tail -2
# Needed until that pull request or its like is released.
cargo fetch -q
R=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-core-0.11.1 | head -1); R=$(dirname "$R")
rm -rf "$D/candle-core" "$D/candle-kernels"
cp -r "$R/candle-core-0.11.1" "$D/candle-core"; cp -r "$R/candle-kernels-0.11.1" "$D/candle-kernels"
sed -i 's/"dynamic-linking"/"dynamic-loading"/' "$D/candle-core/Cargo.toml"
python3 - "$D/candle-kernels/build.rs" <<'P'
import sys
p = sys.argv[1]; s = open(p).read(); a = s.index('    let mut moe_sources')
s = s[:a] + r'''    // BERT needs none of the statically compiled GGUF/MoE kernels: aborting stubs instead (saves ~8 CPU-minutes, no cudart, no libstdc++)
    let ffi = std::fs::read_to_string("src/ffi.rs").unwrap();
    let mut c = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
    for l in ffi.lines() {
        if let Some(r) = l.trim().strip_prefix("pub fn ") {
            let n = r.split('(').next().unwrap();
            c += &format!("void {n}(void) {{ fputs(\"{n}: not built\\n\", stderr); abort(); }}\n");
        }
    }
    std::fs::write(out_dir.join("stubs.c"), c).unwrap();
    let run = |p: &str, a: &[&str]| assert!(std::process::Command::new(p).current_dir(&out_dir).args(a).status().unwrap().success());
    run("cc", &["-O1", "-fPIC", "-c", "stubs.c", "-o", "stubs.o"]);
    run("ar", &["crs", "libmoe.a", "stubs.o"]);
    println!("cargo:rustc-link-search={}", out_dir.display());
    println!("cargo:rustc-link-lib=static=moe");
    Ok(())
}
'''
s = s.replace('const CUTILE_FEATURE: &str = "CARGO_FEATURE_CUTILE";\n', '')
open(p, 'w').write(s)
P
cat > "$D/cuda.toml" <<E2
[patch.crates-io]
candle-core = { path = "$D/candle-core" }
candle-kernels = { path = "$D/candle-kernels" }
E2
cat > "$D/env.sh" <<E2
export CUDA_HOME="$D/cuda" PATH="$D/cuda/bin:\$PATH" CUDA_COMPUTE_CAP=75
E2
du -sh "$D/cuda"
