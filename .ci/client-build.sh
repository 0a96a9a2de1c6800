#!/usr/bin/env bash
# Builds the TypeScript client of chat into chat/client-ts/dist, and prints the size of its bundle. npm's packages lie in
# chat/client-ts/node_modules; neither folder is part of this tree.
# Exits with 2 and one sentence where Node or the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../chat/client-ts"

for program in node npm; do
    if ! command -v "$program" >/dev/null 2>&1; then
        package=$program && [ "$program" = node ] && package=nodejs
        echo "client: $program is missing: install Debian's package $package, for which \`.ci/deps.sh web\` is enough" >&2
        exit 2
    fi
done
lock=$(sha256sum package-lock.json | cut -c1-12)
if [ "$(cat node_modules/.keevo-lock 2>/dev/null)" != "$lock" ]; then
    npm ci --no-fund --no-audit --ignore-scripts >/dev/null || {
        echo "client: the npm packages cannot be installed here: the package registry cannot be reached" >&2
        exit 2
    }
    printf '%s' "$lock" >node_modules/.keevo-lock
fi
npm run --silent build
