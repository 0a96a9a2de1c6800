#!/usr/bin/env bash
# Makes the Debian packages keevod and keevo-cli of programs that are built, with dpkg's own tools. Usage: deb.sh [PROFILE],
# the profile of the build, release unless said otherwise. The packages go to the cache folder; the last lines name them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

built="$CARGO_TARGET_DIR/${1:-release}"
from=keevo-server/packaging
version=$(awk -F '"' '/^version = / { print $2; exit }' Cargo.toml)
architecture=$(dpkg --print-architecture)
maintainer="Keevo maintainers <maintainers@keevo.invalid>"
# The same tree gives the same packages: times are those of the last commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
out="$keevo_cache/deb"
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
umask 022

for tool in dpkg-deb dpkg-shlibdeps strip gzip; do
    command -v "$tool" >/dev/null || { echo "deb: there is no $tool; install dpkg-dev and binutils" >&2 && exit 1; }
done

# package NAME PROGRAM SECTION_OF_THE_MANUAL SUMMARY: what both have; the rest of its files lie in $root by then.
package() {
    local name=$1 program=$2 section=$3 summary=$4 doc="$root/usr/share/doc/$1"
    [ -x "$built/$program" ] || { echo "deb: $built/$program is not built" >&2 && exit 1; }
    install -D -m 0755 "$built/$program" "$root/usr/bin/$program"
    strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/$program"
    install -D -m 0644 "$from/debian/copyright" "$doc/copyright"
    printf '%s (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n' "$name" "$version" "$version" "$maintainer" \
        "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
    install -d "$root/usr/share/man/man$section"
    gzip -9nc "$from/debian/$program.$section" >"$root/usr/share/man/man$section/$program.$section.gz"
    chmod 0644 "$doc/changelog.gz" "$root/usr/share/man/man$section/$program.$section.gz"
    # What libraries the program needs, and from which version on.
    mkdir -p "$scratch/shlibs/debian"
    printf 'Source: keevo\n\nPackage: %s\nArchitecture: any\n' "$name" >"$scratch/shlibs/debian/control"
    local needs
    needs=$(cd "$scratch/shlibs" && dpkg-shlibdeps -O "$root/usr/bin/$program" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
    mkdir -p "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: $name
Source: keevo
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -ks --exclude=DEBIAN "$root" | cut -f 1)
Depends: $needs${extra:+, $extra}
Section: database
Priority: optional
Description: $summary
 Keevo is a sharded, replicated key-value database with activity feeds and chat
 on top: one binary, Raft for every shard, RocksDB on every node.
$about
CONTROL
    (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group --build "$root" "$out/${name}_${version}_$architecture.deb" >/dev/null
    echo "$out/${name}_${version}_$architecture.deb"
}

root="$scratch/keevod"
mkdir -p "$root/DEBIAN"
install -D -m 0644 "$from/systemd/keevod.service" "$root/lib/systemd/system/keevod.service"
install -D -m 0644 "$from/systemd/keevo.sysusers" "$root/usr/lib/sysusers.d/keevo.conf"
install -D -m 0644 "$from/systemd/keevo.tmpfiles" "$root/usr/lib/tmpfiles.d/keevo.conf"
install -D -m 0644 "$from/keevod.toml" "$root/etc/keevo/keevod.toml"
echo /etc/keevo/keevod.toml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 0755 "$from/debian/keevod.$script" "$root/DEBIAN/$script"
done
# The feeds fetch pages and send webhooks: without roots to trust the daemon does not start.
extra="adduser, ca-certificates" about=" .
 This package has the daemon and its systemd service, which is neither enabled
 nor started: edit /etc/keevo/keevod.toml first."
package keevod keevod 8 "distributed key-value database with feeds and chat"

root="$scratch/keevo-cli"
mkdir -p "$root"
install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
"$built/keevo-cli" completions bash >"$root/usr/share/bash-completion/completions/keevo-cli"
"$built/keevo-cli" completions zsh >"$root/usr/share/zsh/vendor-completions/_keevo-cli"
"$built/keevo-cli" completions fish >"$root/usr/share/fish/vendor_completions.d/keevo-cli.fish"
extra="" about=" .
 This package has the command-line tool for keys, feeds, chat and
 administration."
package keevo-cli keevo-cli 1 "command-line tool of the Keevo database"
