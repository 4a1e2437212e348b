#!/usr/bin/env bash
# Finds what tests left behind: leftovers.sh list | check "LIST FROM BEFORE"
# Namespaces, interfaces, control groups and temporary folders of the tests begin
# with the prefix below. Names that carry the id of a process that still runs
# (rwlab-PID-…) belong to another run on this machine and are left out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# A folder that is not there, or has none of these, is no failure: /run/netns is
# made by the first `ip netns add` since the machine started.
shopt -s nullglob

names() {
    list namespace /run/netns/rw*
    list cgroup /sys/fs/cgroup/rwlab-* /sys/fs/cgroup/*/rwlab-*
    list interface /sys/class/net/rw*
    list folder "${TMPDIR:-/tmp}"/rwlab-*
}

list() { # kind path...: "kind name" for each
    local kind=$1 path
    shift
    for path in "$@"; do printf '%s %s\n' "$kind" "${path##*/}"; done
}

present() {
    local line pid
    names | sort -u | while IFS= read -r line; do
        pid=$(sed -n 's/^[a-z]* [a-z]*-\([0-9][0-9]*\)\(-.*\)\{0,1\}$/\1/p' <<<"$line")
        [ -n "$pid" ] && [ -d "/proc/$pid" ] || printf '%s\n' "$line"
    done
}

case ${1:-} in
list) present ;;
check)
    # Not within <( ): a failure there would end as "nothing left behind".
    now=$(present)
    new=$(comm -13 <(sort -u <<<"${2:-}") <(sort -u <<<"$now") | grep . || true)
    [ -n "$new" ] || exit 0
    warn "left behind by the tests:"
    sed 's/^/   /' <<<"$new" >&2
    exit 1
    ;;
*) die "leftovers.sh list | check LIST, not '${1:-}'" ;;
esac
