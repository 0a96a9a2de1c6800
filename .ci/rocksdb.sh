#!/usr/bin/env bash
# Compiles RocksDB once into the user's cache folder, where .ci/env.sh has every build find it: debug and release,
# whole workspace and single package, this clone and the next. Costs nothing when it is there already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

# There already, or the caller names a library of their own.
if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    exit 0
fi
if [ -z "$keevo_rocksdb" ]; then
    echo "rocksdb: the version in Cargo.lock could not be read; cargo compiles RocksDB itself" >&2
    exit 0
fi

echo "rocksdb: compiling it once, into $keevo_rocksdb (about 26 minutes of processor time)"
built=$(cargo build -p librocksdb-sys --message-format=json-render-diagnostics |
    jq -rs '[.[] | select(.reason == "build-script-executed" and (.package_id | test("librocksdb-sys"))) | .out_dir] | last // ""')
if [ ! -f "$built/librocksdb.a" ]; then
    echo "rocksdb: no librocksdb.a came out of the build; cargo compiles RocksDB itself" >&2
    exit 0
fi
# Whole or not at all: a copy that was cut short must never be linked.
mkdir -p "$keevo_rocksdb"
cp "$built/librocksdb.a" "$keevo_rocksdb/librocksdb.a.$$"
mv "$keevo_rocksdb/librocksdb.a.$$" "$keevo_rocksdb/librocksdb.a"
