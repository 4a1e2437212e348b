#!/usr/bin/env bash
# What the smallest loop over TAPs (loop.c) reaches beside a kernel bridge, in turns: the
# limit of anybody who reads and writes TAPs on this machine. TCP between two hosts by
# iperf3, then the same with pings between two others beside it.
#
#   sudo perf/tap-loop/tap-loop.sh [STREAMS] [ROUNDS] [SECONDS]     (4, 5, 3)
#
# Everything happens in namespaces of its own, which are removed at the end.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
streams=${1:-4} rounds=${2:-5} seconds=${3:-3}
cd perf/tap-loop
is_root || die "it makes network namespaces" "run:  sudo perf/tap-loop/tap-loop.sh $*"

prefix=rwtap$$
work=$(mktemp -d)
loop=
# a and b, c and d: hosts of the loop, of which the first pair carries the streams; e to h: of the bridge k.
loop_hosts="a b c d" bridge_hosts="e f g h"
clean() {
    [ -z "$loop" ] || kill "$loop" 2>/dev/null || true
    for name in $loop_hosts $bridge_hosts k; do ip netns del "$prefix$name" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT
cc -O2 -o "$work/tap-loop" loop.c

host() { # NAMESPACE LAST-OCTET
    ip -n "$1" link set lo up
    ip -n "$1" addr add "10.77.9.$2/24" dev eth0
    ip -n "$1" link set eth0 mtu 1430 up
}
for name in $loop_hosts $bridge_hosts k; do ip netns add "$prefix$name"; done
# shellcheck disable=SC2086 # one path each
"$work/tap-loop" $(printf "/run/netns/$prefix%s " $loop_hosts) &
loop=$!
sleep 0.5
ip -n "${prefix}k" link add br0 type bridge
ip -n "${prefix}k" link set br0 up
for name in $bridge_hosts; do
    ip -n "${prefix}k" link add "port$name" mtu 1430 type veth peer name eth0 netns "$prefix$name"
    ip -n "${prefix}k" link set "port$name" master br0 up
done
octet=2
for name in $loop_hosts; do host "$prefix$name" $octet; octet=$((octet + 1)); done
octet=2
for name in $bridge_hosts; do host "$prefix$name" $octet; octet=$((octet + 1)); done

streams() { # CLIENT SERVER: Gbit/s
    ip netns exec "$prefix$2" iperf3 -s -1 >/dev/null 2>&1 &
    sleep 0.3
    ip netns exec "$prefix$1" iperf3 -c 10.77.9.3 -t "$seconds" -P "$streams" -J |
        sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9.e+]*\).*/\1/p' | awk '{printf "%.2f", $1 / 1e9}'
}
turn() { # CLIENT SERVER CLIENT: Gbit/s; median and 99th percentile of pings beside the same, in ms
    streams "$1" "$2"
    streams "$1" "$2" >/dev/null &
    local load=$!
    sleep 0.5
    ip netns exec "$prefix$3" ping -i 0.004 -w $((seconds > 1 ? seconds - 1 : 1)) 10.77.9.5 |
        sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | sort -n |
        awk '{t[NR] = $1} END {printf " %.3f %.3f\n", t[int((NR + 1) / 2)], t[int((NR + 1) * 0.99)]}'
    wait "$load"
}
for ((round = 1; round <= rounds; round++)); do
    turn a b c >"$work/loop"
    turn e f g >"$work/bridge"
    paste -d' ' "$work/loop" "$work/bridge" | awk -v n="$round" '{
        printf "%d: loop %s, bridge %s Gbit/s, ratio %.2f; ping beside, median %s and %s ms, ratio %.1f, p99 %s and %s, ratio %.1f\n",
            n, $1, $4, $1 / $4, $2, $5, $2 / $5, $3, $6, $3 / $6
        print $1 / $4, $2 / $5, $3 / $6 >>"'"$work/ratios"'"}'
done
median() { # COLUMN
    cut -d' ' -f"$1" "$work/ratios" | sort -n | awk '{r[NR] = $1} END {printf "%.2f (%.2f–%.2f)", r[int((NR + 1) / 2)], r[1], r[NR]}'
}
echo "median ratios, $streams streams: Gbit/s $(median 1), ping $(median 2), its p99 $(median 3)"
