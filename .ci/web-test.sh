#!/usr/bin/env bash
# The tutorials in a real browser, against `keevod dev`: Debian's chromium, the npm packages that the tutorials name. They are
# installed into the user's cache folder and are no part of this tree. Usage: web-test.sh [FOLDER FOR SCREENSHOTS]
# Exits with 2 and one sentence where the browser, Node or the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

tutorials=docs/tutorials
bin="$CARGO_TARGET_DIR/debug"
key=tutorial-key secret=a-secret-of-the-tutorial-that-is-long-enough
pictures=${1:+$(realpath -m "$1")}

for program in node npm chromium; do
    if ! command -v "$program" >/dev/null 2>&1; then
        package=$program && [ "$program" = node ] && package=nodejs
        echo "web-test: $program is missing: install Debian's package $package, for which \`.ci/deps.sh web\` is enough" >&2
        exit 2
    fi
done
# modules_of FOLDER: installs the packages of its package.json, once for each version of it, and prints where.
modules_of() {
    local modules="$keevo_cache/web-$(sha256sum "$1/package.json" | cut -c1-12)"
    if [ ! -f "$modules/complete" ]; then
        rm -rf "$modules" && mkdir -p "$modules" && cp "$1/package.json" "$modules/"
        npm install --prefix "$modules" --no-fund --no-audit --ignore-scripts >/dev/null || {
            echo "web-test: the npm packages cannot be installed here: the package registry cannot be reached" >&2
            exit 2
        }
        touch "$modules/complete"
    fi
    printf '%s' "$modules"
}

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

# said FILE PATTERN: waits until the file has a line with it, and prints that line.
said() {
    local end=$((SECONDS + 60))
    until grep -m1 -E "$2" "$1" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { echo "web-test: nothing in $1 within a minute" >&2; cat "$scratch"/*.log >&2; return 1; }
        sleep 0.1
    done
}

printf '%s:%s' "$key" "$secret" >"$scratch/app"
"$bin/keevod" dev --data-dir "$scratch/data" --http 127.0.0.1:0 --grpc 127.0.0.1:0 --app-file "$scratch/app" \
    >"$scratch/ready" 2>"$scratch/node.log" &
pids+=($!)
ready=$(said "$scratch/ready" 'is ready')
app_id=$(sed -E 's/^app ([^ ]+) is ready.*/\1/' <<<"$ready")
api=$(sed -E 's/.*(http:[^ ]+)$/\1/' <<<"$ready")

export CHROMIUM
CHROMIUM=$(command -v chromium)

MODULES=$(modules_of "$tutorials/feeds-timeline")
export MODULES
KEEVO_API="$api" KEEVO_APP_ID="$app_id" KEEVO_KEY="$key" KEEVO_APP_SECRET="$secret" PORT=0 \
    node "$tutorials/feeds-timeline/server.mjs" >"$scratch/page" 2>"$scratch/page.log" &
pids+=($!)
page=$(said "$scratch/page" '^http:')
APP="$page" SCREENSHOT="${pictures:+$pictures/feeds-timeline.png}" timeout 180 node "$tutorials/feeds-timeline/test.mjs"

# The client of chat is built from this tree, and copied as the tutorial has npm do it.
.ci/client-build.sh
MODULES=$(modules_of "$tutorials/chat")
taken="$MODULES/node_modules/@keevo/chat"
rm -rf "$taken" && mkdir -p "$taken" && cp -r chat/client-ts/package.json chat/client-ts/dist "$taken/"
KEEVO="$api" APP="$key:$secret" SCREENSHOT="${pictures:+$pictures/chat.png}" timeout 300 node "$tutorials/chat/test.mjs"
