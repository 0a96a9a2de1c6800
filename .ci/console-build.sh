#!/usr/bin/env bash
# Builds the web console into keevo-server/console/dist, whose files are committed and embedded in keevod. With `check` it
# builds elsewhere, and fails where what is committed is not what comes out. Usage: console-build.sh [check]
# Exits with 2 and one sentence where Node or the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../keevo-server/console"

for program in node npm; do
    if ! command -v "$program" >/dev/null 2>&1; then
        package=$program && [ "$program" = node ] && package=nodejs
        echo "console: $program is missing: install Debian's package $package, for which \`.ci/deps.sh web\` is enough" >&2
        exit 2
    fi
done
lock=$(sha256sum package-lock.json | cut -c1-12)
if [ "$(cat node_modules/.keevo-lock 2>/dev/null)" != "$lock" ]; then
    npm ci --no-fund --no-audit --ignore-scripts >/dev/null || {
        echo "console: the npm packages cannot be installed here: the package registry cannot be reached" >&2
        exit 2
    }
    printf '%s' "$lock" >node_modules/.keevo-lock
fi
npm run --silent types
if [ "${1:-}" != check ]; then
    npm run --silent build
    exit
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
npm run --silent build -- --outDir "$scratch/new" --emptyOutDir --logLevel warn
cp -r dist "$scratch/old"
# How tightly gzip packs is not the same everywhere; what is in it is.
gunzip "$scratch"/old/*.gz "$scratch"/new/*.gz
if ! diff -rq "$scratch/old" "$scratch/new"; then
    echo "console: keevo-server/console/dist is not what its sources give: run \`make console\` and commit it" >&2
    exit 1
fi
echo "console: the committed files are what the sources give"
