#!/usr/bin/env bash
# Installs the packages of deb.sh in a fresh minimal Debian (debootstrap, chroot), runs the daemon as its own user with the
# configuration that they bring, writes and reads, reinstalls, removes and purges. Needs root. Usage: deb-check.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

. /etc/os-release
debs=("$keevo_cache"/deb/keevod_*.deb "$keevo_cache"/deb/keevo-cli_*.deb)
command -v debootstrap >/dev/null || apt-get install -y --no-install-recommends debootstrap </dev/null
base="$keevo_cache/debootstrap-$VERSION_CODENAME.tar"
chroot=$(mktemp -d)
daemon=
end() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    umount -q "$chroot/proc" 2>/dev/null || true
    rm -rf "$chroot"
}
trap end EXIT
if [ ! -f "$base" ]; then
    debootstrap --variant=minbase --include=adduser,ca-certificates,libstdc++6 "$VERSION_CODENAME" "$chroot/new" >/dev/null
    tar -C "$chroot/new" -cf "$base.part" . && mv "$base.part" "$base"
    rm -rf "$chroot/new"
fi
tar -C "$chroot" -xf "$base"
mount -t proc proc "$chroot/proc"
cp "${debs[@]}" "$chroot/tmp/"
words=(/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)
inside() { chroot "$chroot" "${words[@]}" "$@"; }
# check WHAT COMMAND…: the command succeeds, or the whole check ends.
check() {
    local what=$1
    shift
    "$@" || { echo "deb-check: FAILED: $what" >&2 && exit 1; }
    echo "deb-check: $what"
}
# says WANTED COMMAND…: what the command writes is this.
says() {
    local wanted=$1 said
    shift
    said=$("$@") && [ "$said" = "$wanted" ] || { echo "deb-check: '$said' instead of '$wanted'" >&2 && return 1; }
}
absent() { [ ! -e "$chroot$1" ]; }
cli() { inside keevo-cli --endpoints 127.0.0.1:27101 "$@"; }

check "they install" inside sh -c 'dpkg -i /tmp/*.deb'
check "the data folder is the service's own" says "keevo 750" inside stat -c '%U %a' /var/lib/keevo
check "the configuration is root's, and read by the service" says "root:keevo 640" inside stat -c '%U:%G %a' /etc/keevo/keevod.toml
check "the service is not enabled" absent /etc/systemd/system/multi-user.target.wants/keevod.service

# As the unit starts it: its command, as its user.
command=$(sed -n 's/^ExecStart=//p' "$chroot/lib/systemd/system/keevod.service")
ports=(--grpc 127.0.0.1:27101 --http 127.0.0.1:28101 --disk-low-water-mib 0)
# shellcheck disable=SC2086 # the command's words
chroot "$chroot" "${words[@]}" setpriv --reuid keevo --regid keevo --init-groups --no-new-privs --bounding-set -all $command "${ports[@]}" &
daemon=$!
for _ in $(seq 100); do
    cli kv put user/alice Alice >/dev/null 2>&1 && break
    sleep 0.2
done
check "it runs as its user, writes and reads" says Alice cli kv get user/alice --raw
check "its data is its user's" says keevo inside stat -c %U /var/lib/keevo/node
kill "$daemon"
check "it stops in order" wait "$daemon"
daemon=

sed -i 's/^log_level = .*/log_level = "warn"/' "$chroot/etc/keevo/keevod.toml"
check "it is upgraded" inside sh -c 'dpkg -i /tmp/keevod_*.deb'
check "an upgrade keeps the changed configuration" grep -q '^log_level = "warn"' "$chroot/etc/keevo/keevod.toml"
check "they are removed" inside dpkg -r keevod keevo-cli
check "a removal takes the program" absent /usr/bin/keevod
check "and keeps the configuration" test -e "$chroot/etc/keevo/keevod.toml"
check "it is purged" inside dpkg -P keevod
check "a purge takes the configuration" absent /etc/keevo
check "and keeps the data" test -d "$chroot/var/lib/keevo/data"
echo "deb-check: all passed"
