#!/usr/bin/env bash
# Breaks a node in one way after another, in namespaces of its own, and shows what
# `ringway doctor` says first of each: the tests of perf/tests/network/diagnose.rs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_root "make diagnose"
export RINGWAY_BIN=$target_dir/release/ringway RINGWAY_PERF_BIN=$target_dir/release/ringway-perf
export RINGWAY_CNI_BIN=$target_dir/release/ringway-cni
say "building the tests"
program=$(run_cargo test --locked --no-run -p ringway-perf --test network --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"network","src_path".*"executable":"\([^"]*\)".*/\1/p')
[ -n "$program" ] || die "the build made no test program"

as_caller mkdir -p "$target_dir"
log=$target_dir/diagnose.log
code=0
(cd perf && timeout --kill-after=10 600 "$program" --test-threads=1 --nocapture diagnose::) </dev/null 2>&1 |
    tee "$log" | sed -u -n 's/^test diagnose::[a-z_]* \.\.\. \(.*[^ ]\)$/\1/; /^ok$/d; /: [0-9.]* s$/d; /INFO\|WARN\|^running\|^test result/d; /^[a-zA-Z]/p; /^   [a-z]/p' || code=$?
say "$(grep -E '^test result' "$log" || say "no result: see $log")"
exit "$code"
