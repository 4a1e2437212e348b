#!/usr/bin/env bash
# Proves what the design says of the packet path: the crates a packet's fate is
# decided in hold no unsafe code and can reach no I/O, clock or thread.
#
#  1. they forbid unsafe_code at their root;
#  2. every crate in their dependency tree is on a list of known pure ones;
#  3. they name nothing of the standard library that does I/O or reads a clock
#     (tests may);
#  4. the CNI plugin, which a runtime starts for every pod, depends on nothing
#     but the parser of JSON;
#  5. the word `unsafe` stands nowhere outside ports/ and the files listed here.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

pure_crates="packet encap tables switch"
# thiserror is macros only; arc-swap is the atomic behind table snapshots.
may_depend="ringway-packet ringway-encap ringway-tables ringway-switch
thiserror thiserror-impl proc-macro2 quote syn unicode-ident arc-swap rustversion"
# Folders (with a slash behind) and files that may hold unsafe code.
# xsk-rs' calls are unsafe; the file is compiled for a measurement only (feature `xsk-rs` of perf).
may_be_unsafe="ports/ perf/src/ring/xsk_rs.rs"
impure='\bstd::(fs|io|process|thread|env|os|time)\b|\bstd::net::(Tcp|Udp|ToSocketAddrs)|\bstd::\{[^}]*\b(fs|io|process|thread|env|os|time)\b|\b(SystemTime|Instant)\b|\be?println!'

bad=0
complain() { warn "   $*"; bad=1; }

# The code of a file without comments and without its test modules (which stand
# last in a file, by the house rules), each line with its number.
code() { awk '/^#\[cfg\(test\)\]/ {exit} {l=$0; sub(/\/\/.*/, "", l); print FNR ":" l}' "$1"; }

for crate in $pure_crates; do
    grep -q '^#!\[forbid(unsafe_code)\]' "$crate/src/lib.rs" ||
        complain "$crate/src/lib.rs lacks #![forbid(unsafe_code)]"

    tree=$(run_cargo tree --locked -p "ringway-$crate" -e normal,build --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
    [ -n "$tree" ] || complain "ringway-$crate: cargo tree says nothing"
    for dependency in $tree; do
        case " $(echo $may_depend) " in
        *" $dependency "*) ;;
        *) complain "ringway-$crate depends on $dependency, which is not on the list of pure crates" ;;
        esac
    done

    files=$(find "$crate/src" -name '*.rs' | sort)
    while IFS= read -r file; do
        case $file in */tests.rs | */tests/*) continue ;; esac
        hits=$(code "$file" | grep -nE "$impure" | cut -d: -f2- || true)
        [ -z "$hits" ] || complain "$file is not pure: $hits"
    done <<<"$files"
done

# The desired state and its plans are as pure; the sources beside them read files.
grep -q '^#!\[forbid(unsafe_code)\]' cluster/src/lib.rs || complain "cluster/src/lib.rs lacks #![forbid(unsafe_code)]"
while IFS= read -r file; do
    hits=$(code "$file" | grep -nE "$impure" | cut -d: -f2- || true)
    [ -z "$hits" ] || complain "$file is not pure: $hits"
done < <(find cluster/src/model -name '*.rs' | sort)

plugin_may_depend="ringway-cni serde serde_core serde_derive serde_json itoa ryu zmij memchr
proc-macro2 quote syn unicode-ident"
tree=$(run_cargo tree --locked -p ringway-cni -e normal,build --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
for dependency in $tree; do
    case " $(echo $plugin_may_depend) " in
    *" $dependency "*) ;;
    *) complain "ringway-cni depends on $dependency: the plugin shall start in a few milliseconds" ;;
    esac
done

# is_exempt FILE: whether it is, or lies in, one of $may_be_unsafe
is_exempt() {
    local exempt
    for exempt in $may_be_unsafe; do
        case $exempt in
        */) [[ $1 != "$exempt"* ]] || return 0 ;;
        *) [[ $1 != "$exempt" ]] || return 0 ;;
        esac
    done
    return 1
}

# An exemption that has nothing to exempt is one for whatever comes there next.
for exempt in $may_be_unsafe; do
    if [[ $exempt = */ ]]; then [ -d "$exempt" ]; else [ -f "$exempt" ]; fi ||
        complain "$exempt may hold unsafe code and is not there: take it off the list in $0"
done

files=$(find . -name '*.rs' -not -path './target/*' -not -path './.git/*' | sed 's,^\./,,' | sort)
while IFS= read -r file; do
    ! is_exempt "$file" || continue
    hits=$(awk '{l=$0; sub(/\/\/.*/, "", l); gsub(/"[^"]*"/, "", l); print FNR ":" l}' "$file" | grep -wE 'unsafe' || true)
    [ -z "$hits" ] || complain "unsafe where none may be: $file:$hits"
done <<<"$files"

exit "$bad"
