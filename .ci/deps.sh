#!/usr/bin/env bash
# Installs what building, testing and benchmarking need on Debian and Ubuntu. Looks first, so that it costs
# nothing when all is there. Usage: deps.sh [bench] [data] [faults] [moderation] [promtool] [web]
#   bench  also the peers of the benchmark (etcd, Redis); one that can't be had is a note, not a failure
#   data   also what the full demo data is fetched with (npm, the package index); likewise optional
#   faults what real processes are put under faults with: namespaces, packet filters, disk images, clocks; optional too
#   moderation  also the peers of the moderation benchmark (PyTorch, Flask); optional too
#   promtool  also what checks alert rules; optional too
#   web    also what the browser test runs in: chromium, Node; optional too
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/env.sh

rust_min=95 # 1.95

have() { command -v "$1" >/dev/null 2>&1; }

# The caller's PATH may leave out where administration programs lie.
have_admin() { have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang[.-][s0-9]*' >/dev/null || compgen -G '/usr/lib/libclang.so*' >/dev/null
}

# bindgen asks clang's own headers for stddef.h and its like.
have_clang_headers() {
    compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null ||
        compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null
}

missing=()
have c++ || missing+=(g++)
have make || missing+=(make)
have pkg-config || missing+=(pkg-config)
{ have_libclang && have_clang_headers; } || missing+=(libclang-dev)
have curl || missing+=(curl)
have git || missing+=(git)
have jq || missing+=(jq)

wanted=()
have ccache || wanted+=(ccache)
# A test copies verdicts to one; it is left out where there is none.
have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || wanted+=(postgresql)
index_missing=false
for group in "$@"; do
    case "$group" in
        bench)
            have etcd || wanted+=(etcd-server)
            have redis-server || wanted+=(redis-server)
            ;;
        data)
            have npm || wanted+=(npm)
            compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || index_missing=true
            ;;
        faults)
            have_admin ip || wanted+=(iproute2)
            have_admin iptables || wanted+=(iptables)
            have_admin mkfs.btrfs || wanted+=(btrfs-progs)
            have_admin mkfs.ext4 || wanted+=(e2fsprogs)
            compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || wanted+=(faketime)
            ;;
        promtool)
            have promtool || wanted+=(prometheus)
            ;;
        web)
            have chromium || wanted+=(chromium)
            have node || wanted+=(nodejs)
            have npm || wanted+=(npm)
            ;;
        moderation)
            /usr/bin/python3 -c 'import torch' 2>/dev/null || wanted+=(python3-torch)
            /usr/bin/python3 -c 'import flask' 2>/dev/null || wanted+=(python3-flask)
            /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || wanted+=(python3-venv)
            ;;
        *) echo "deps: there is no group '$group'; the groups are bench, data, faults, moderation, promtool and web" >&2 && exit 2 ;;
    esac
done

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && [ -t 0 ]; then
        sudo "$@"
    elif have sudo; then
        sudo -n "$@"
    else
        return 1
    fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null
}

if [ ${#missing[@]} -gt 0 ] || [ ${#wanted[@]} -gt 0 ] || $index_missing; then
    if have apt-get; then
        as_root apt-get update </dev/null || echo "deps: the package lists could not be renewed; trying with what is there" >&2
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "deps: installing ${missing[*]}"
    if ! { have apt-get && install "${missing[@]}"; }; then
        echo "deps: these packages are needed and could not be installed; install them by hand and try again: ${missing[*]}" >&2
        exit 1
    fi
fi
for package in "${wanted[@]}"; do
    echo "deps: installing $package"
    if ! { have apt-get && install "$package"; }; then
        echo "deps: note: $package could not be installed; going on without it" >&2
    fi
done

rust=$(rustc --version 2>/dev/null || true)
rust_minor=$(sed -nE 's/^rustc 1\.([0-9]+)\..*/\1/p' <<<"$rust")
if [ -z "$rust_minor" ] || [ "$rust_minor" -lt "$rust_min" ] || ! have cargo; then
    echo "deps: Keevo needs Rust 1.$rust_min or newer and this machine has ${rust:-none}: get it from https://rustup.rs, or with 'rustup update stable' where rustup is installed." >&2
    exit 1
fi
