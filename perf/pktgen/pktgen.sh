#!/bin/sh
# UDP packets by the kernel's packet generator (Documentation/networking/pktgen.rst).
# POSIX sh: it also runs under the busybox of the virtual machine (`make zerocopy`).
set -eu

usage() {
    cat <<'END'
pktgen.sh --dev INTERFACE --to ADDRESS --mac MAC [OPTION...]

Sends plain UDP by INTERFACE to the MAC of the next hop, straight to the driver:
no socket, route or queueing discipline of this machine is on the way. Prints
what the driver took, its rate and errors; packets beyond the interface are for
the other end to count. Acts in the network namespace it is run in. As root.

  --dev INTERFACE   interface; nobody else's pktgen may be at work on it
  --to ADDRESS      destination, IPv4 or IPv6
  --mac MAC         MAC of the next hop
  --from ADDRESS    source (default: the interface's, as pktgen finds it)
  --port PORT       UDP destination port (9)
  --rate PPS        packets per second; 0: as many as go (0)
  --size SIZE       bytes of a frame without its check sequence: 64, 1400, any
                    number from 60 to 9014, or imix: 7:4:1 of 64, 570, 1400 (64)
  --flows N         flows: UDP source ports from 1024 on, in turn (1)
  --burst N         packets handed to the driver at once; drivers that cannot
                    refuse more than 1 (1)
  --count N         packets; 0: until --seconds are over (0)
  --seconds N       whole seconds (10)
  --queue N         kernel thread, that is CPU, to send from (0)
  --help            this

IPv6 packets below 78 bytes come out as 78: headers and pktgen's own 16 bytes.
Output: "sent N errors N pps N result OK". Ctrl-C stops it and removes what it set.
END
}

fail() {
    printf 'pktgen.sh: %s\n' "$1" >&2
    exit 2
}
number() { # option value low high
    case $2 in
    '' | *[!0-9]*) fail "$1 '$2': a number from $3 to $4" ;;
    esac
    if [ "${#2}" -gt 15 ] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        fail "$1 $2: from $3 to $4"
    fi
}

# pktgen takes 10.0.0.999 for an address.
ipv4() { # option value
    case $2 in
    *[!0-9.]* | *.*.*.*.* | .* | *. | *..*) fail "$1 '$2' is not an address" ;;
    *.*.*.*) ;;
    *) fail "$1 '$2' is not an address" ;;
    esac
    rest=$2.
    while [ -n "$rest" ]; do
        number "$1 $2:" "${rest%%.*}" 0 255
        rest=${rest#*.}
    done
}

dev='' to='' mac='' from='' port=9 rate=0 size=64 flows=1 burst=1 count=0 seconds=10 queue=0
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --dev | --to | --mac | --from | --port | --rate | --size | --flows | --burst | --count | --seconds | --queue)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        case $1 in
        --dev) dev=$2 ;;
        --to) to=$2 ;;
        --mac) mac=$2 ;;
        --from) from=$2 ;;
        --port) port=$2 ;;
        --rate) rate=$2 ;;
        --size) size=$2 ;;
        --flows) flows=$2 ;;
        --burst) burst=$2 ;;
        --count) count=$2 ;;
        --seconds) seconds=$2 ;;
        --queue) queue=$2 ;;
        esac
        shift 2
        ;;
    *) fail "unknown argument '$1'; see --help" ;;
    esac
done

[ -n "$dev" ] || fail "--dev is missing; see --help"
[ -n "$to" ] || fail "--to is missing; see --help"
[ -n "$mac" ] || fail "--mac is missing: the MAC of $to, or of the gateway to it (ip neigh)"
number --port "$port" 1 65535
number --rate "$rate" 0 1000000000
number --flows "$flows" 1 64000
number --burst "$burst" 1 1024
number --count "$count" 0 100000000000000
number --seconds "$seconds" 1 86400
number --queue "$queue" 0 1023
for address in "$to" "$from"; do
    case $address in
    '' | *:*) ;;
    *) ipv4 "--to or --from" "$address" ;;
    esac
done
[ "$size" = imix ] || number --size "$size" 60 9014

# Of this namespace: /proc/net is the calling process's.
pktgen=/proc/net/pktgen
[ "$(id -u)" = 0 ] || fail "pktgen takes orders from root only: run it with sudo"
if [ ! -d $pktgen ]; then
    modprobe pktgen 2>/dev/null || true
    [ -d $pktgen ] || fail "the kernel $(uname -r) has no pktgen (CONFIG_NET_PKTGEN; Debian's cloud kernels and most distributions have it as a module; install linux-modules-extra on Ubuntu); without it: ringway-perf generate"
fi
thread=$pktgen/kpktgend_$queue
[ -f "$thread" ] || fail "--queue $queue: no such thread of pktgen; it has one for each CPU: $(cd $pktgen && echo kpktgend_*)"
[ ! -e "$pktgen/$dev" ] || fail "$dev is in use by another pktgen: echo rem_device_all > $thread"

tell() { # file command
    printf '%s\n' "$2" >"$1" 2>/dev/null || fail "pktgen of this kernel refuses '$2'"
}

running='' timer=''
clean() {
    trap - EXIT INT TERM HUP
    [ -z "$timer" ] || kill "$timer" 2>/dev/null || true
    if [ -n "$running" ]; then
        printf 'stop\n' >$pktgen/pgctrl 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    printf 'rem_device_all\n' >"$thread" 2>/dev/null || true
}
report() {
    # pkts-sofar and errors, the rate and the verdict are on lines of their own.
    sed -n -e 's/.*pkts-sofar: *\([0-9]*\) *errors: *\([0-9]*\).*/sent \1 errors \2/p' \
        -e 's/^ *\([0-9]*\)pps .*/pps \1/p' -e 's/^Result: *\([A-Za-z]*\).*/result \1/p' "$pktgen/$dev" |
        tr '\n' ' ' | sed 's/\(result [A-Za-z]*\) *\(pps [0-9]*\)/\2 \1/; s/ *$//'
    echo
}
interrupted() {
    trap - INT TERM HUP
    [ -z "$timer" ] || kill "$timer" 2>/dev/null || true
    printf 'stop\n' >$pktgen/pgctrl 2>/dev/null || true
    [ -z "$running" ] || wait "$running" 2>/dev/null || true
    running=''
    report
    clean
    exit 130
}
trap clean EXIT
trap interrupted INT TERM HUP

[ -d "/sys/class/net/$dev" ] || ip link show "$dev" >/dev/null 2>&1 || fail "--dev $dev: no such interface in this network namespace"
tell "$thread" rem_device_all
tell "$thread" "add_device $dev"
file=$pktgen/$dev

tell "$file" "count $count"
tell "$file" "clone_skb 0"
# Its own clock in its own header: the other end can tell when a packet was made.
case $to in
*:*)
    tell "$file" "dst6 $to"
    [ -z "$from" ] || tell "$file" "src6 $from"
    # IPv6 has no UDP without a checksum (RFC 8200 section 8.1).
    tell "$file" "flag UDPCSUM"
    ;;
*)
    tell "$file" "dst $to"
    if [ -n "$from" ]; then
        tell "$file" "src_min $from"
        tell "$file" "src_max $from"
    fi
    ;;
esac
tell "$file" "dst_mac $mac"
tell "$file" "udp_dst_min $port"
tell "$file" "udp_dst_max $port"
tell "$file" "udp_src_min 1024"
# One above the last; counts up packet by packet.
tell "$file" "udp_src_max $((1024 + flows))"
if [ "$size" = imix ]; then
    tell "$file" "pkt_size 1400"
    tell "$file" "imix_weights 64,7 570,4 1400,1"
else
    tell "$file" "pkt_size $size"
fi
[ "$burst" = 1 ] || tell "$file" "burst $burst"
if [ "$rate" = 0 ]; then tell "$file" "delay 0"; else tell "$file" "ratep $rate"; fi

# Blocks until the count is sent or somebody says stop. In the background, or a
# shell would not see a signal before that.
{ printf 'start\n' >$pktgen/pgctrl; } 2>/dev/null &
running=$!
if [ "$count" = 0 ]; then
    { sleep "$seconds"; printf 'stop\n' >$pktgen/pgctrl; } 2>/dev/null &
    timer=$!
fi
wait "$running" || true
running=''
report
