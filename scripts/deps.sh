#!/usr/bin/env bash
# Sees to it that the named commands exist: deps.sh ip iperf3 ethtool ping c++ cc
# Installs what is missing with apt-get on Debian or Ubuntu, as root or by sudo,
# after one line that lists it; otherwise says exactly what to run. Starts no service.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

packages=()
for command in "$@"; do
    command -v "$command" >/dev/null && continue
    case $command in
    ip) packages+=(iproute2) ;;
    ping) packages+=(iputils-ping) ;;
    iperf3 | ethtool | make | git | valgrind | debootstrap | tcpdump) packages+=("$command") ;;
    c++) packages+=(g++) ;;
    cc) packages+=(gcc libc6-dev) ;;
    qemu-system-x86_64) packages+=(qemu-system-x86) ;;
    busybox) packages+=(busybox-static) ;;
    depmod) packages+=(kmod) ;;
    xz) packages+=(xz-utils) ;;
    nft) packages+=(nftables) ;;
    ip6tables) packages+=(iptables) ;;
    *) die "deps.sh does not know which package has '$command'" ;;
    esac
done
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    die "missing: ${packages[*]} (Debian's names), and this machine has no apt-get" "install them with its own package manager"
fi
root=()
if ! is_root; then
    command -v sudo >/dev/null ||
        die "missing packages: ${packages[*]}" "run as root:  apt-get install --no-install-recommends ${packages[*]}"
    root=(sudo)
fi
say "installing with ${root[*]:+sudo }apt-get: ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt_get() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null >>"$log" 2>&1; }
install() { apt_get install -y --no-install-recommends "${packages[@]}"; }
# Fresh images come without package lists, old ones with stale lists.
if ! install && ! { : >"$log" && apt_get update && install; }; then
    cat "$log" >&2
    die "apt-get could not install ${packages[*]}" "to try it by hand, as root:  apt-get install --no-install-recommends ${packages[*]}"
fi
for command in "$@"; do
    command -v "$command" >/dev/null || die "'$command' is still not there after installing ${packages[*]}"
done
