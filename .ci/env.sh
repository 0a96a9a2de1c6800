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
