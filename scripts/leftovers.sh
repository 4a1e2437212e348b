#!/usr/bin/env bash
# Finds what tests left behind: leftovers.sh list | check "LIST FROM BEFORE"
# Namespaces, interfaces, control groups and temporary folders of the tests begin
# with the prefix below. Names that carry the id of a process that still runs
# (rwlab-PID-…) belong to another run on this machine and are left out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

prefix=rw

names() {
    { ls /run/netns 2>/dev/null | sed -n "s/^$prefix/namespace &/p"
      { ls -d /sys/fs/cgroup/rw* /sys/fs/cgroup/*/rw* 2>/dev/null || true; } | sed -n "s/.*\/\(${prefix}lab-.*\)/cgroup \1/p"
      ls /sys/class/net | sed -n "s/^$prefix/interface &/p"
      ls "${TMPDIR:-/tmp}" | sed -n "s/^${prefix}lab-/folder &/p"; } | sort -u
}

present() {
    local line pid
    names | while IFS= read -r line; do
        pid=$(sed -n 's/^[a-z]* [a-z]*-\([0-9][0-9]*\)\(-.*\)\{0,1\}$/\1/p' <<<"$line")
        [ -n "$pid" ] && [ -d "/proc/$pid" ] || printf '%s\n' "$line"
    done
}

case $1 in
list) present ;;
check)
    new=$(comm -13 <(printf '%s\n' "${2:-}" | sort -u) <(present | sort -u) | grep . || true)
    [ -n "$new" ] || exit 0
    warn "left behind by the tests:"
    sed 's/^/   /' <<<"$new" >&2
    exit 1
    ;;
*) die "leftovers.sh list | check LIST, not '$1'" ;;
esac
