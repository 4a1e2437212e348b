#!/usr/bin/env bash
# Counts instructions per packet and holds them against perf/instructions.toml:
# instructions.sh check | update REASON
#
# Exact, so nothing else on the machine matters; but they belong to a compiler,
# a C library and CPU features. With others than the file's they are shown, and
# the check is SKIPPED; so it is where valgrind cannot be had.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

what=${1:-check}
name="instructions per packet"
case $what in
check) ;;
update)
    [ -n "${2:-}" ] || die "no reason given" "run:  make instructions-update REASON=\"why they change\""
    ;;
*) die "instructions.sh $what: check or update" ;;
esac
if ! scripts/deps.sh valgrind; then
    [ "$what" = check ] || exit 1
    skip "$name" "valgrind is not installed and could not be"
    exit 0
fi

run_cargo build --locked --release -p ringway-agent -p ringway-perf
compiler="$(as_caller rustc -V)${RUSTFLAGS:+, RUSTFLAGS $RUSTFLAGS}"
count_them() { as_caller "$target_dir/release/ringway-perf" instructions --compiler "$compiler" "$@" </dev/null; }

if [ "$what" = update ]; then
    count_them --update "$2"
    exit
fi
as_caller mkdir -p "$target_dir"
code=0
count_them 2>"$target_dir/instructions-why" || code=$?
case $code in
0) check "$name" true ;;
77) skip "$name" "$(tail -1 "$target_dir/instructions-why")" ;;
*)
    cat "$target_dir/instructions-why" >&2
    check "$name" false
    exit 1
    ;;
esac
