#!/usr/bin/env bash
# Builds the book into the cache folder and checks every link of its pages. mdBook is compiled once, into the cache folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

version=0.5.4
tool="$keevo_cache/mdbook-$version"
if [ ! -x "$tool/bin/mdbook" ]; then
    # Build output of its own: its dependencies have other features than Keevo's.
    CARGO_TARGET_DIR="$tool/target" cargo install --quiet --locked --root "$tool" --version "$version" --no-default-features --features search mdbook
    rm -rf "$tool/target"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git ls-files -z --cached --others --exclude-standard docs ':!docs/tidy' | xargs -0 cp --parents -t "$scratch"
# The pages of measurements are added here: they grow with every one.
for page in "$scratch"/docs/evidence/*.md; do
    name=$(basename "$page")
    [ "$name" = README.md ] || echo "  - [${name%.md}](evidence/$name)" >>"$scratch/docs/SUMMARY.md"
done
book="$keevo_cache/book"
rm -rf "$book"
"$tool/bin/mdbook" build --dest-dir "$book/docs" "$scratch/docs"
python3 .ci/book-links.py "$book"
echo "book: $book/docs/index.html"
