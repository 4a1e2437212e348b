#!/usr/bin/env bash
# Proves what the design says of its size and shape:
#
#  1. no crate has more than $most lines without tests, but those in $large;
#  2. in the crates of $no_circles no file imports, by whatever detour, a file that
#     imports it (circles.awk says what counts); between crates cargo sees to that;
#  3. no function in the crates of $few_arguments has more than six arguments: clippy
#     looks (clippy.toml beside their Cargo.toml), here it is made sure that it may.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

most=10000
large="perf"
no_circles="encap tables switch cluster cluster/etcd worker kernel cni"
few_arguments="switch worker"

bad=0
complain() { warn "   $*"; bad=1; }

# Files of a crate that are no tests: by the house rules those are files and folders of that name, and
# what stands last in a file.
sources() { find "$1/src" -name '*.rs' -not -name tests.rs -not -path '*/tests/*' | sort; }
lines() { sources "$1" | while IFS= read -r file; do awk '/^#\[cfg\(test\)\]/ {exit} {print}' "$file"; done | wc -l; }

crates=$(sed -n 's/^members = \[\(.*\)\]/\1/p' Cargo.toml | tr -d '",')
[ -n "$crates" ] || die "the members of the workspace are not on one line of Cargo.toml"
for crate in $crates; do
    [ -d "$crate/src" ] || continue
    case " $large " in *" $crate "*) continue ;; esac
    count=$(lines "$crate")
    [ "$count" -le "$most" ] || complain "$crate has $count lines without tests, more than $most: split it"
done

for crate in $no_circles; do
    # shellcheck disable=SC2046
    circle=$(awk -f scripts/circles.awk $(sources "$crate")) ||
        complain "circle of files in $crate; move what both sides need to a file below them:"$'\n'"$circle"
done

for crate in $few_arguments; do
    grep -qx 'too-many-arguments-threshold = 6' "$crate/clippy.toml" ||
        complain "$crate/clippy.toml lacks too-many-arguments-threshold = 6"
    hits=$(grep -rn 'too_many_arguments' "$crate/Cargo.toml" "$crate/src" || true)
    [ -z "$hits" ] || complain "$crate switches too_many_arguments off: $hits"
done

exit "$bad"
