#!/usr/bin/env bash
# `make mutants`: each seeded defect of keevo_core::mutants on the simulator until a seed notices it, and the ordinary
# build over as many seeds, which must pass them all. The last line is `mutants: N passed, M failed, …`, where passed
# means caught. SEEDS=50 is how many seeds a defect has; MUTANTS="lost-dedup guard-ignored" runs only these.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

seeds=${SEEDS:-50}
source=keevo-core/src/mutants.rs
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Tokio seeds its own choices only so; the output lies apart, since the flag changes every package.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg tokio_unstable"
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/sim"
build() {
    cargo build -p keevo-sim --bin keevo-sim "${@:2}"
    cp "$CARGO_TARGET_DIR/debug/keevo-sim" "$scratch/$1"
}
build ordinary
build mutated --features mutants

# Name and meaning of each, from the list in the source: `/// It does this.` and then `ItsName,`.
awk '
    /^    \/\/\/ / { told = substr($0, 9) }
    /^pub enum Mutant/ { inside = 1 }
    /^}/ { inside = 0 }
    inside && /^    [A-Z][A-Za-z]*,$/ {
        name = $1
        sub(/,/, "", name)
        gsub(/[A-Z]/, "-&", name)
        print substr(tolower(name), 2) "\t" told
    }
' "$source" >"$scratch/mutants"
if [ -n "${MUTANTS:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    printf '%s\n' $MUTANTS | while read -r name; do grep "^$name"$'\t' "$scratch/mutants"; done >"$scratch/chosen"
    mv "$scratch/chosen" "$scratch/mutants"
fi

# one NAME: runs a defect, or none for the name `ordinary`.
one() {
    local name=$1 binary=mutated mutant=$1 flags=(--until-failure)
    if [ "$name" = ordinary ]; then
        binary=ordinary mutant="" flags=()
    fi
    KEEVO_MUTANT=$mutant "$scratch/$binary" --seeds "$seeds" --replay-every 0 "${flags[@]}" >"$scratch/$name.log" 2>&1 ||
        touch "$scratch/$name.failed"
}
export -f one
export scratch seeds
{ echo ordinary && cut -f 1 "$scratch/mutants"; } | xargs -P "$(nproc)" -I{} bash -c 'one {}'

# last NAME FIELD: a count of the line `sim: P passed, F failed, …`.
last() { sed -nE "s/^sim: ([0-9]+) passed, ([0-9]+) failed.*/\\$2/p" "$scratch/$1.log" | tail -1; }

passed=0 failed=0 most=0
printf '| mutant | what it breaks | caught by | seeds |\n| --- | --- | --- | --- |\n'
while IFS=$'\t' read -r name told; do
    if [ "$(last "$name" 2)" = 1 ]; then
        needed=$(($(last "$name" 1) + 1))
        by=$(sed -nE 's/^seed [0-9]+ at [0-9]+ ms: ([^:]*).*/\1/p' "$scratch/$name.log" | head -1)
        printf '| %s | %s | %s | %s |\n' "$name" "$told" "$by" "$needed"
        passed=$((passed + 1))
        most=$((needed > most ? needed : most))
    else
        printf '| %s | %s | NOT CAUGHT | %s |\n' "$name" "$told" "$(last "$name" 1)"
        tail -3 "$scratch/$name.log" >&2
        failed=$((failed + 1))
    fi
done <"$scratch/mutants"

ordinary=$(last ordinary 1)
if [ -e "$scratch/ordinary.failed" ]; then
    grep -E '^(seed|sim:) ' "$scratch/ordinary.log" || tail -5 "$scratch/ordinary.log"
fi
printf 'mutants: %d passed, %d failed, at most %d of %d seeds needed, without a defect %s of %d seeds passed\n' \
    "$passed" "$failed" "$most" "$seeds" "${ordinary:-0}" "$seeds"
[ "$passed" -gt 0 ] && [ "$failed" -eq 0 ] && [ ! -e "$scratch/ordinary.failed" ]
