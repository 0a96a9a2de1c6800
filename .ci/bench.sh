#!/usr/bin/env bash
# The short form of the benchmarks, within 15 minutes: etcd, the rocksdb crate, Redis, PostgreSQL, NATS, a restart. With arguments it runs keevo-bench
# with them instead. The programs are built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh
bench="$CARGO_TARGET_DIR/release/keevo-bench"

if [ $# -gt 0 ]; then
    exec "$bench" "$@"
fi
"$bench" compare etcd --seconds 4 --rounds 2
echo
"$bench" compare rocksdb --seconds 4 --rounds 2
echo
"$bench" compare redis --seconds 4 --rounds 2
echo
"$bench" compare postgres --seconds 4 --rounds 2
echo
"$bench" compare nats --seconds 4 --rounds 2 --sockets 2000 --members 2000 --nats-server "$(.ci/nats-server.sh)"
echo
"$bench" restart --log-bytes 268435456
