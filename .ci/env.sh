# Sourced by every target: where build output and the compiler cache lie.
# A value that the caller has set already is kept. Output goes to the user's cache folder, so that every clone
# of the tree shares one compiled RocksDB; where that folder can't be written, it goes to target/ in the tree.

if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi

keevo_cache="${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/keevo"
if ! { mkdir -p "$keevo_cache/target" "$keevo_cache/ccache" && [ -w "$keevo_cache/target" ] && [ -w "$keevo_cache/ccache" ]; } 2>/dev/null; then
    keevo_cache="$PWD/target/keevo"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$keevo_cache/target}"
export CCACHE_DIR="${CCACHE_DIR:-$keevo_cache/ccache}"

if command -v ccache >/dev/null 2>&1; then
    export CC="${CC:-ccache cc}" CXX="${CXX:-ccache c++}"
fi

# RocksDB is compiled once, by .ci/rocksdb.sh, for every profile and clone: cargo alone compiles it again for each. The
# folder is named by all that the library depends on: its version, the compiler and the flags.
keevo_rocksdb=$(awk '/^name = "librocksdb-sys"/ { getline; gsub(/"/, "", $3); print $3; exit }' Cargo.lock 2>/dev/null || true)
if [ -n "$keevo_rocksdb" ]; then
    keevo_rocksdb="$keevo_cache/rocksdb/$keevo_rocksdb-$({ c++ --version; cat .cargo/config.toml; echo "${CXXFLAGS:-}"; } 2>/dev/null | cksum | cut -d ' ' -f 1)"
    if [ -z "${ROCKSDB_LIB_DIR:-}" ] && [ -f "$keevo_rocksdb/librocksdb.a" ]; then
        export ROCKSDB_LIB_DIR="$keevo_rocksdb" ROCKSDB_STATIC=1
    fi
fi

# No progress bars into a log, and nothing that waits for an answer.
if [ ! -t 1 ]; then
    export CARGO_TERM_PROGRESS_WHEN="${CARGO_TERM_PROGRESS_WHEN:-never}"
fi
export DEBIAN_FRONTEND=noninteractive

# Clones that share the folder have the same package names in it, and cargo compares times only: what another clone built
# last would pass for the build of this one's older sources. So they become newer when it was another clone's turn.
if [ -f Cargo.toml ] && [ "$(cat "$CARGO_TARGET_DIR/.clone" 2>/dev/null)" != "$PWD" ]; then
    find . \( -path ./target -o -path ./.git \) -prune -o -type f -exec touch {} +
    { mkdir -p "$CARGO_TARGET_DIR" && printf '%s' "$PWD" >"$CARGO_TARGET_DIR/.clone"; } 2>/dev/null || true
fi
