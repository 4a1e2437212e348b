#!/usr/bin/env bash
# What the smallest loop over two TAPs (loop.c) reaches beside a kernel bridge, by
# iperf3, in turns: the limit of anybody who reads and writes TAPs on this machine.
#
#   sudo perf/tap-loop/tap-loop.sh [STREAMS] [ROUNDS] [SECONDS]     (4, 5, 3)
#
# Everything happens in namespaces of its own, which are removed at the end.
set -euo pipefail
streams=${1:-4} rounds=${2:-5} seconds=${3:-3}
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || { echo "error: it makes network namespaces: run:  sudo $0 $*" >&2; exit 1; }

prefix=rwtap$$
work=$(mktemp -d)
loop=
clean() {
    [ -z "$loop" ] || kill "$loop" 2>/dev/null || true
    for name in a b c d k; do ip netns del "$prefix$name" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT
cc -O2 -o "$work/loop" loop.c

host() { # NAMESPACE LAST-OCTET
    ip -n "$1" link set lo up
    ip -n "$1" addr add "10.77.9.$2/24" dev eth0
    ip -n "$1" link set eth0 mtu 1430 up
}
for name in a b c d k; do ip netns add "$prefix$name"; done
"$work/loop" "/run/netns/${prefix}a" "/run/netns/${prefix}b" &
loop=$!
sleep 0.5
host "${prefix}a" 2
host "${prefix}b" 3
ip -n "${prefix}k" link add br0 type bridge
ip -n "${prefix}k" link set br0 up
for name in c d; do
    ip -n "${prefix}k" link add "port$name" mtu 1430 type veth peer name eth0 netns "$prefix$name"
    ip -n "${prefix}k" link set "port$name" master br0 up
done
host "${prefix}c" 2
host "${prefix}d" 3

gbit() { # CLIENT SERVER
    ip netns exec "$2" iperf3 -s -1 >/dev/null 2>&1 &
    sleep 0.3
    ip netns exec "$1" iperf3 -c 10.77.9.3 -t "$seconds" -P "$streams" -J |
        sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9.e+]*\).*/\1/p' | awk '{printf "%.2f", $1 / 1e9}'
}
for ((round = 1; round <= rounds; round++)); do
    a=$(gbit "${prefix}a" "${prefix}b")
    b=$(gbit "${prefix}c" "${prefix}d")
    awk -v a="$a" -v b="$b" -v n="$round" 'BEGIN {printf "%d: loop %s, bridge %s Gbit/s, ratio %.2f\n", n, a, b, a / b}' | tee -a "$work/rounds"
done
sed 's/.*ratio //' "$work/rounds" | sort -n | awk '{r[NR] = $1} END {printf "median ratio %.2f (%.2f–%.2f), %d streams\n", r[int((NR + 1) / 2)], r[1], r[NR], '"$streams"'}'
