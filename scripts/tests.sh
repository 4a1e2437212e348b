#!/usr/bin/env bash
# Tests of what every script here relies on (lib.sh), reported as libtest does:
# scripts/test.sh runs and counts them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# What the scripts under test count is nobody's check.
unset RINGWAY_COUNTS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 bad=0

# script LINE...: runs a script of those lines, from its fourth line on, that
# begins as all do. Sets $code, $out and $err.
script() {
    code=0
    printf '%s\n' '#!/usr/bin/env bash' 'set -euo pipefail' ". '$root_dir/scripts/lib.sh'" "$@" >"$work/script.sh"
    out=$(bash "$work/script.sh" 2>"$work/err") || code=$?
    err=$(cat "$work/err")
}

# expect WHAT SEEN WANTED
expect() {
    [ "$2" != "$3" ] || return 0
    fine=no
    printf '%s: %s\n    saw:    %s\n    wanted: %s\n' "$name" "$1" "$2" "$3" >>"$work/failures"
}

# Each is called with its name in $name and says no in $fine.

test_failing_command_is_named_with_file_and_line() {
    script 'echo before' 'sh -c "exit 7"' 'echo after'
    expect "exit code" "$code" 7
    expect "stdout" "$out" before
    expect "stderr" "$err" "error: $work/script.sh:5: exit code 7 from: sh -c \"exit 7\""
}

test_failure_in_a_function_names_its_callers() {
    script 'inner() {' '    sh -c "exit 3"' '}' 'outer() { inner; }' 'outer'
    expect "exit code" "$code" 3
    expect "stderr" "$err" "error: $work/script.sh:5: exit code 3 from: sh -c \"exit 3\"
       in inner, called at $work/script.sh:7
       in outer, called at $work/script.sh:8"
}

test_failure_in_a_subshell_ends_the_script() {
    script '(' '    false' '    echo inside' ')' 'echo after'
    expect "exit code" "$code" 1
    expect "stdout" "$out" ""
    expect "first line" "${err%%$'\n'*}" "error: $work/script.sh:5: exit code 1 from: false"
}

test_failure_in_a_command_substitution_ends_the_script() {
    script 'value=$(false; echo value)' 'echo "$value"'
    expect "exit code" "$code" 1
    expect "stdout" "$out" ""
    expect "first line" "${err%%$'\n'*}" "error: $work/script.sh:4: exit code 1 from: false"
}

test_failure_at_the_begin_of_a_pipeline_is_seen() {
    script 'sh -c "exit 4" | cat'
    expect "exit code" "$code" 4
    expect "stderr" "$err" "error: $work/script.sh:4: exit code 4 from: cat  (its pipeline ended with 4 0)"
}

test_handled_failures_say_nothing() {
    script 'works() { false; echo on; }' 'works || echo never' 'if false; then echo never; fi' '! true || echo never' \
        'code=0' 'sh -c "exit 6" || code=$?' 'value=$(false) || value=none' 'for i in 1 2; do [ "$i" = 3 ] && break; done' \
        'check "a check that fails" false' 'echo "$code $value $failed"'
    expect "exit code" "$code" 0
    expect "stderr" "$err" ""
    expect "last line" "${out##*$'\n'}" "6 none 1"
}

test_die_says_its_own_words_only() {
    script 'stop() { die "no such thing" "run:  another"; }' 'stop'
    expect "exit code" "$code" 1
    expect "stderr" "$err" "error: no such thing
       run:  another"
}

test_every_script_begins_alike() {
    local file
    for file in scripts/*.sh perf/tap-loop/*.sh .ci/run; do
        [ "$file" != scripts/lib.sh ] || continue
        grep -qx 'set -euo pipefail' "$file" || expect "$file" "no set -euo pipefail" "set -euo pipefail"
        grep -qE '^\. .*lib\.sh"?$' "$file" || expect "$file" "does not source lib.sh" "lib.sh sourced"
    done
}

test_only_listed_skips_are_allowed() {
    local line seen
    for line in "SKIPPED segmentation: no USO here" "SKIPPED containerd: runc could not be had"; do
        seen=no
        ! may_skip "$line" || seen=yes
        expect "$line" "$seen" yes
    done
    for line in "SKIPPED everything: too tired" "SKIPPED: # What a test may say"; do
        seen=no
        ! may_skip "$line" || seen=yes
        expect "$line" "$seen" no
    done
}

for name in $(compgen -A function test_); do
    fine=yes
    "$name"
    if [ "$fine" = yes ]; then passed=$((passed + 1)) result=ok; else bad=$((bad + 1)) result=FAILED; fi
    say "test ${name#test_} ... $result"
done
if [ "$bad" != 0 ]; then
    say "failures:"
    cat "$work/failures"
fi
[ "$bad" = 0 ] && result=ok || result=FAILED
say "test result: $result. $passed passed; $bad failed; 0 ignored"
exit $((bad > 0))
