#!/usr/bin/env bash
# Runs a third-party client's own test suite, unmodified, against keevod: the one that the source distribution of
# stream-python 5.1.1 brings, with the client of 5.4.0. Usage: feeds-suite.sh [1|3]  (nodes; 1 = `keevod dev`)
# The suite and the client are downloaded into the user's cache folder and are no part of this tree. The client reaches
# a server at localhost:8000 only, so that port has to be free. The last line is `feeds-suite: N passed, M failed`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

nodes=${1:-1}
case "$nodes" in 1 | 3) ;; *) echo "feeds-suite: one node or three, not '$nodes'" >&2 && exit 2 ;; esac
suite_version=5.1.1
client_version=5.4.0
folder="$keevo_cache/feeds-suite-$suite_version-$client_version"
bin="$CARGO_TARGET_DIR/debug"
key=suite-key secret=a-secret-of-the-suite-that-is-long-enough
http=8000

fetch() {
    if ! command -v python3 >/dev/null 2>&1; then
        echo "feeds-suite: python3 is missing: the suite is written in it" >&2
        return 1
    fi
    mkdir -p "$folder"
    # A half-made environment is made anew.
    if [ ! -f "$folder/complete" ]; then
        rm -rf "$folder/venv" "$folder/download"
        python3 -m venv "$folder/venv" || {
            echo "feeds-suite: python3 cannot make a virtual environment; on Debian install python3-venv" >&2
            return 1
        }
        local pip=("$folder/venv/bin/pip" --quiet --disable-pip-version-check --retries 2 --timeout 20)
        "${pip[@]}" download --no-deps --no-binary :all: -d "$folder/download" "stream-python==$suite_version" &&
            "${pip[@]}" install "stream-python==$client_version" pytest python-dateutil || {
            echo "feeds-suite: the suite cannot be downloaded here: Python's package index cannot be reached" >&2
            return 1
        }
        tar -xzf "$folder/download/stream-python-$suite_version.tar.gz" -C "$folder/download"
        touch "$folder/complete"
    fi
}

fetch
scratch=$(mktemp -d)
pids=()
finish() {
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT

if (exec 3<>"/dev/tcp/127.0.0.1/$http") 2>/dev/null; then
    echo "feeds-suite: port $http of localhost is taken, and the client knows no other" >&2
    exit 1
fi

# until_it SECONDS COMMAND…: tries it again until it succeeds.
until_it() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "feeds-suite: not within the time: $*" >&2; tail -n 20 "$scratch"/*.log >&2; return 1; }
        sleep 0.1
    done
}

if [ "$nodes" = 1 ]; then
    printf '%s:%s' "$key" "$secret" >"$scratch/app"
    "$bin/keevod" dev --data-dir "$scratch/data" --http 127.0.0.1:$http --grpc 127.0.0.1:0 --app-file "$scratch/app" \
        >"$scratch/ready" 2>"$scratch/node.log" &
    pids+=($!)
    until_it 60 grep -q 'is ready' "$scratch/ready"
else
    peers=1=127.0.0.1:7991,2=127.0.0.1:7992,3=127.0.0.1:7993
    for id in 1 2 3; do
        # The client asks node 1, and then whoever leads the shards: requests go through all three.
        "$bin/keevod" --data-dir "$scratch/$id" --node-id $id --peers "$peers" --grpc 127.0.0.1:799$id \
            --http 127.0.0.1:$((id == 1 ? http : http + id)) 2>"$scratch/node-$id.log" &
        pids+=($!)
    done
    for id in 1 2 3; do
        until_it 60 curl -fsS "http://127.0.0.1:$((id == 1 ? http : http + id))/ready"
    done
    export KEEVO_ENDPOINTS=127.0.0.1:7991
    KEEVO_APP_SECRET="$secret" until_it 60 "$bin/keevo-cli" app create suite --key "$key"
fi

cp -r "$folder/download/stream-python-$suite_version/stream/tests" "$scratch/tests"
report="$scratch/report.xml"
(
    cd "$scratch"
    LOCAL=1 STREAM_KEY="$key" STREAM_SECRET="$secret" timeout 300 "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider \
        --import-mode=importlib --tb=short --disable-warnings --junit-xml="$report" tests
) || true
read -r passed failed < <(python3 - "$report" <<'PY'
import sys, xml.etree.ElementTree as xml
suite = xml.parse(sys.argv[1]).getroot().find("testsuite")
failed = int(suite.get("failures")) + int(suite.get("errors"))
print(int(suite.get("tests")) - failed - int(suite.get("skipped")), failed)
PY
)
# Two of its tests ask google.com, one of them at the vendor's own address.
echo "feeds-suite: $passed passed, $failed failed"
[ "$passed" -ge 100 ]
