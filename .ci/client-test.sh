#!/usr/bin/env bash
# The TypeScript client of chat: types, size, unit tests, and its tests against a real `keevod`, which has to be built.
# Exits with 2 and one sentence where Node or the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

.ci/client-build.sh
cd chat/client-ts
npm run --silent types
KEEVOD="$CARGO_TARGET_DIR/debug/keevod" npm test --silent
