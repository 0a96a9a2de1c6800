#!/usr/bin/env bash
# Shows keevo-cli top in a terminal of tmux against a cluster that is written to, and prints what was on the screen: once as
# it starts, once sorted by rate, once with its help. Usage: top-capture.sh [ENDPOINT]; without one a node of its own is started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh
bin="$CARGO_TARGET_DIR/debug"
scratch=$(mktemp -d)
session="keevo-top-$$"
pids=()
cleanup() {
    tmux kill-session -t "$session" 2>/dev/null || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT

endpoint=${1:-}
if [ -z "$endpoint" ]; then
    endpoint=127.0.0.1:17101
    peers="1=127.0.0.1:17101,2=127.0.0.1:17102,3=127.0.0.1:17103"
    for id in 1 2 3; do
        "$bin/keevod" --node-id $id --peers "$peers" --grpc 127.0.0.1:1710$id --http 127.0.0.1:1810$id --shards 4 \
            --data-dir "$scratch/node-$id" --block-cache-mib 16 --write-buffer-mib 16 2>"$scratch/node-$id.log" &
        pids+=($!)
    done
fi
export KEEVO_ENDPOINTS=$endpoint
for _ in $(seq 100); do
    "$bin/keevo-cli" kv put capture/first 0 >/dev/null 2>&1 && break
    sleep 0.3
done
# A little load: each put is a process, so a few a second.
(n=0; while :; do n=$((n + 1)); "$bin/keevo-cli" kv put "capture/$((n % 500))" "$n" >/dev/null 2>&1 || sleep 0.2; done) &
pids+=($!)

tmux new-session -d -s "$session" -x 140 -y 24 "$bin/keevo-cli top --interval 500ms"
shot() {
    printf '\n=== %s\n' "$1"
    tmux capture-pane -p -t "$session" | sed 's/ *$//'
}
sleep 6
shot "keevo-cli top"
tmux send-keys -t "$session" s
sleep 1
shot "after s: sorted by rate"
tmux send-keys -t "$session" h
sleep 1
shot "after h: help"
tmux send-keys -t "$session" q
sleep 1
if tmux has-session -t "$session" 2>/dev/null; then
    echo "q did not end it" >&2
    exit 1
fi
printf '\n=== keevo-cli top --once\n'
"$bin/keevo-cli" top --once --width 140
