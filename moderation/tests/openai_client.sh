#!/bin/sh
# Asks a sidecar by OpenAI's own Python client, unmodified. Usage: openai_client.sh PROGRAM
# Needs python3 with pip and a package index; where there is none it says so and ends well.
set -eu
program=${1:?usage: openai_client.sh PROGRAM}
folder=$(mktemp -d)
pid=
end() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT
if ! python3 -m venv "$folder/venv" >/dev/null 2>&1 ||
    ! "$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai >"$folder/pip.log" 2>&1; then
    echo "openai client: SKIPPED, python3 -m venv and pip install openai do not work here"
    exit 0
fi
"$program" serve --http 127.0.0.1:0 --device cpu 2>"$folder/log" &
pid=$!
tries=0
while [ $tries -lt 600 ]; do
    port=$(sed -n 's/.*127\.0\.0\.1:\([0-9][0-9]*\).*/\1/p' "$folder/log" | head -n 1)
    if [ -n "$port" ] && python3 - "$port" <<'PYTHON'
import sys, urllib.request
try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health")
except Exception:
    sys.exit(1)
PYTHON
    then
        break
    fi
    tries=$((tries + 1))
    sleep 0.1
done
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import sys
import openai

client = openai.OpenAI(base_url=f"http://127.0.0.1:{sys.argv[1]}/v1", api_key="unused-key", max_retries=0)
answer = client.moderations.create(input=["good morning, how are you?", "you are a stupid idiot"])
fine, bad = answer.results
assert not fine.flagged and bad.flagged, answer
assert bad.categories.harassment and bad.category_scores.harassment > 0.5, answer
assert not bad.categories.sexual_minors, answer
one = client.moderations.create(model="omni-moderation-latest", input=[{"type": "text", "text": "you idiot"}])
assert one.results[0].flagged, one
for wrong, kind in [
    ({"input": ""}, openai.BadRequestError),
    ({"input": "a", "model": "no-such-model"}, openai.NotFoundError),
]:
    try:
        client.moderations.create(**wrong)
        raise SystemExit(f"{wrong} was not refused")
    except kind:
        pass
print(f"openai client {openai.__version__}: passed; model {answer.model},",
      f"harassment {bad.category_scores.harassment:.4f} and {fine.category_scores.harassment:.4f}")
PYTHON
