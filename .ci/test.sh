#!/usr/bin/env bash
# The whole check of the tree, stage by stage. A failing stage does not stop the later ones; any of them fails the
# whole. The last line is always `N passed, N failed`, where a failed stage without tests counts as one failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh
exec </dev/null

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
counts="$scratch/counts" # lines: package passed failed
stages="$scratch/stages" # lines: seconds result name
: >"$counts"
: >"$stages"
began=$SECONDS
failed_stages=0

# stage NAME COMMAND…: runs it and notes its wall time. A stage that runs tests adds its own counts.
stage() {
    local name=$1 start=$SECONDS result=ok
    shift
    printf '\n=== %s\n' "$name"
    if ! "$@"; then
        result=FAILED
        failed_stages=$((failed_stages + 1))
    fi
    printf '%6d s  %-6s  %s\n' $((SECONDS - start)) "$result" "$name" >>"$stages"
    [ "$result" = ok ]
}

clippy() { cargo clippy --workspace --all-targets -- -D warnings; }

rustdoc() { RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --workspace --no-deps; }

# libtest SUFFIX COMMAND…: runs a `cargo test` and adds its counts, by the crate or test file that each header names.
libtest() {
    local suffix=$1 status=0
    shift
    "$@" 2>&1 | tee "$scratch/output" || status=1
    awk -v suffix="$suffix" '
        / Running unittests / { name = $NF; sub(/.*\//, "", name); sub(/-[0-9a-f]+\)$/, "", name) }
        / Running tests\//    { name = $2 }
        / Doc-tests /         { name = $NF }
        /^test result:/       { print name suffix "\t" $4 "\t" $6 }
    ' "$scratch/output" >>"$counts"
    return "$status"
}

tests_nextest() {
    rm -f target/nextest/ci/junit.xml
    local status=0
    cargo nextest run --workspace --profile ci --no-fail-fast || status=$?
    if [ ! -f target/nextest/ci/junit.xml ]; then
        return 1
    fi
    # <testsuite name="keevo-core::conformance" tests="3" skipped="0" errors="0" failures="1">
    awk '
        function attribute(name) {
            return match($0, " " name "=\"[^\"]*") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : 0
        }
        /<testsuite / {
            package = attribute("name")
            sub(/::.*/, "", package)
            failed = attribute("failures") + attribute("errors")
            print package "\t" attribute("tests") - failed - attribute("skipped") - attribute("disabled") "\t" failed
        }
    ' target/nextest/ci/junit.xml >>"$counts"
    return "$status"
}

# Two passes over one build: what starts whole clusters runs alone, as .config/nextest.toml has it.
tests_libtest() {
    local status=0
    local targets=(--workspace --lib --bins --tests --no-fail-fast)
    libtest "" cargo test "${targets[@]}" -- --skip cluster_ || status=1
    libtest "" cargo test "${targets[@]}" -- --test-threads=1 cluster_ || status=1
    return "$status"
}

example() { cargo build --workspace --examples && "$CARGO_TARGET_DIR/debug/examples/embedded"; }
# A few seeds, and the simulator's own promises. Its build output is apart from all other: see the Makefile.
simulation() (
    export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/sim" RUSTFLAGS="${RUSTFLAGS:-} --cfg tokio_unstable"
    libtest "" cargo test -p keevo-sim --test sim && cargo run -q -p keevo-sim -- --seeds 3 --replay-every 2
)
doc_tests() { libtest " (doc)" cargo test --workspace --doc --no-fail-fast; }

if ! stage deps .ci/deps.sh; then
    printf '\n0 passed, 1 failed\n'
    exit 1
fi
# Once more: what was just installed, such as the compiler cache, counts for every stage, or RocksDB is compiled twice.
. .ci/env.sh
if ! stage rocksdb .ci/rocksdb.sh; then
    printf '\n0 passed, 1 failed\n'
    exit 1
fi
. .ci/env.sh
stage format cargo fmt --all --check
stage clippy clippy
if cargo nextest --version >/dev/null 2>&1; then
    stage tests tests_nextest
else
    stage tests tests_libtest
fi
stage doc-tests doc_tests
stage rustdoc rustdoc
if cargo deny --version >/dev/null 2>&1; then
    stage deny cargo deny --offline check licenses bans sources
else
    echo "note: cargo-deny is not installed; the tidy test checks licences, bans and sources itself"
fi
if [ -f keevo-core/examples/embedded.rs ]; then
    stage example example
fi
stage training moderation/train/check.sh
if command -v promtool >/dev/null 2>&1; then
    stage promtool .ci/promtool.sh
else
    echo "note: promtool is not installed; make promtool checks the alert rules"
fi
stage sim simulation
# These start clusters that wait for each other: what waits for ever fails its stage, not the whole check by its silence.
stage demo timeout --kill-after=1m 15m make --no-print-directory demo CHECK=1 EXTRACT=1
stage faults timeout --kill-after=1m 15m make --no-print-directory faults SHORT=1

printf '\n=== wall time per stage\n'
cat "$stages"
printf '%6d s  all\n' $((SECONDS - began))

printf '\n=== tests per package\n'
awk -F '\t' '
    { passed[$1] += $2; failed[$1] += $3 }
    END { for (name in passed) printf "%-28s %5d passed  %3d failed\n", name, passed[name], failed[name] }
' "$counts" | sort

passed=$(awk -F '\t' '{ n += $2 } END { print n + 0 }' "$counts")
failed=$(awk -F '\t' '{ n += $3 } END { print n + 0 }' "$counts")
if [ "$passed" -eq 0 ]; then
    echo "no test ran: that is a failure"
fi
if [ "$failed" -eq 0 ] && { [ "$failed_stages" -gt 0 ] || [ "$passed" -eq 0 ]; }; then
    failed=$((failed_stages > 0 ? failed_stages : 1))
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
