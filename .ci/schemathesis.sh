#!/usr/bin/env bash
# Fuzzes the HTTP APIs of keevod by their OpenAPI documents, with schemathesis: feeds, and chat twice, once with names that
# are made up and once about a channel that is there. Usage: schemathesis.sh [CASES]  (of each operation in each pass)
# SEED=7 generates the same again. No answer may be a 5xx, and each must be JSON as the document says.
# The last line is `api-fuzz: N cases of M operations in P passes, F failed`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

cases=${1:-10}
seed=${SEED:-1}
version=4.32.5
folder="$keevo_cache/schemathesis-$version"
bin=${KEEVOD_BIN:-"$CARGO_TARGET_DIR/debug"}
key=fuzz-key secret=a-secret-of-the-fuzzer-that-is-long-enough

if [ ! -f "$folder/complete" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder" || {
        echo "api-fuzz: python3 cannot make a virtual environment; on Debian install python3-venv" >&2
        exit 2
    }
    "$folder/bin/pip" --quiet --disable-pip-version-check --retries 2 --timeout 20 install "schemathesis==$version" || {
        echo "api-fuzz: schemathesis $version cannot be downloaded here: Python's package index cannot be reached" >&2
        exit 2
    }
    touch "$folder/complete"
fi

scratch=$(mktemp -d)
pid=
finish() {
    if [ -n "$pid" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT

printf '%s:%s' "$key" "$secret" >"$scratch/app"
"$bin/keevod" dev --data-dir "$scratch/data" --http 127.0.0.1:0 --grpc 127.0.0.1:0 --app-file "$scratch/app" \
    >"$scratch/ready" 2>"$scratch/node.log" &
pid=$!
end=$((SECONDS + 60))
until grep -q 'is ready' "$scratch/ready"; do
    [ $SECONDS -lt $end ] || { echo "api-fuzz: keevod was not ready within a minute" >&2; tail -n 20 "$scratch/node.log" >&2; exit 1; }
    sleep 0.1
done
base=$(grep -oE 'http://127\.0\.0\.1:[0-9]+' "$scratch/ready" | head -n 1)

token() {
    python3 - "$secret" "$1" <<'PY'
import base64, hashlib, hmac, sys
secret, claims = sys.argv[1:]
encode = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")
head = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(claims.encode())
print((head + b"." + encode(hmac.new(secret.encode(), head, hashlib.sha256).digest())).decode())
PY
}
server=$(token '{"resource":"*","action":"*","feed_id":"*","user_id":"*"}')

# ask METHOD PATH BODY: one call of a server about Ann, which has to succeed.
ask() {
    curl -fsS -o /dev/null -X "$1" -H "Authorization: $chat" -H 'Content-Type: application/json' \
        "$base/chat/v1/$2?api_key=$key&user_id=ann" -d "$3"
}
chat=$(token '{"resource":"*","action":"*"}')
ask POST channels '{"type":"team","id":"a","members":["bob"]}'
ask POST channels/team/a/messages '{"id":"m","text":"hello"}'
ask POST channels/team/a/polls '{"id":"p","name":"Tea?","options":[{"id":"o","text":"yes"}],"suggestions":true,"answers":true}'
ask POST channels/team/a/locations '{"id":"l","latitude":1,"longitude":2,"for_ms":3600000}'
ask PUT groups/g '{"name":"Group"}'

# A name of the document's own that is set for all calls of a pass.
named() { printf '"%s" = "%s"\n' "$1" "$2"; }
auth() { printf '[auth.openapi.key]\napi_key = "%s"\n[auth.openapi.token]\napi_key = "%s"\n' "$key" "$1"; }
auth "$server" >"$scratch/feeds.toml"
auth "$chat" >"$scratch/chat.toml"
{
    printf '[parameters]\n'
    named query.user_id ann
    named path.type team
    named path.id a
    named path.message m
    named path.user bob
    named path.poll p
    named path.option o
    named path.group g
    named path.kind team
    auth "$chat"
} >"$scratch/about.toml"

passes=0 failed=0
: >"$scratch/all.log"
# pass NAME DOCUMENT CONFIGURATION ARGUMENTS…
pass() {
    local name=$1 document=$2 config=$3 status=0
    shift 3
    echo "== $name"
    # It leaves files where it runs. One worker: Python 3.11 fails when two threads parse Python source, which the fuzzer does.
    (cd "$scratch" && exec "$folder/bin/schemathesis" --config-file "$config" run "$base$document" --no-color --seed "$seed" --max-examples "$cases" \
        --phases examples,coverage,fuzzing --continue-on-failure --request-timeout 30 --workers 1 --warnings off \
        --generation-with-security-parameters false --generation-database none --suppress-health-check all \
        --checks not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance "$@") \
        >"$scratch/$name.log" 2>&1 || status=$?
    # What failed and the counts; the rest is how the run went.
    sed -nE '/^=+ (FAILURES|ERRORS|SUMMARY) =+$/,$p' "$scratch/$name.log" | head -n 200
    cat "$scratch/$name.log" >>"$scratch/all.log"
    passes=$((passes + 1))
    [ "$status" = 0 ] || failed=$((failed + 1))
}
pass feeds /openapi.json "$scratch/feeds.toml"
pass chat /chat/v1/openapi.json "$scratch/chat.toml"
# What would take the channel or its users away comes last.
pass about-a-channel /chat/v1/openapi.json "$scratch/about.toml" --exclude-operation-id deleteChannel --exclude-operation-id eraseUser \
    --exclude-operation-id disableChannel --exclude-operation-id putBeforeSend --exclude-operation-id deletePoll
pass and-its-end /chat/v1/openapi.json "$scratch/about.toml" --include-operation-id deleteChannel --include-operation-id restoreChannel \
    --include-operation-id eraseUser --include-operation-id disableChannel --include-operation-id deletePoll --include-operation-id getDeletion
panics=$(grep -c 'panicked' "$scratch/node.log" || true)
kill -0 "$pid" 2>/dev/null || { echo "api-fuzz: keevod ended" >&2; tail -n 20 "$scratch/node.log" >&2; failed=$((failed + 1)); }

count() { grep -oE "$1" "$scratch/all.log" | grep -oE '[0-9,]+' | tr -d , | awk '{ sum += $1 } END { print sum + 0 }'; }
echo "api-fuzz: $(count '[0-9,]+ generated') cases of $(count 'Tested: +[0-9,]+') operations in $passes passes, $failed failed, $panics panics; seed $seed"
[ "$failed" = 0 ] && [ "$panics" = 0 ]
