#!/usr/bin/env bash
# Builds and runs the tests: test.sh unit | all
#
#   unit  the pure crates, as the caller: no root, no namespaces
#   all   every crate and the lab suites (real TAPs, real kernel peers), as root
#
# cargo only builds here. The test programs are then started one by one, because
# builds belong to the caller and only programs that make namespaces to root,
# and because each gets its own time, log and limit. Every log stays in
# target/test-logs. The last line counts what libtest counted; a test that
# found a kernel feature or binary missing prints a line beginning "SKIPPED" and
# counts as skipped, and fails the run unless scripts/may-skip.txt allows it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

what=${1:-all}
long=${RINGWAY_LONG:-}
# One hung test must not hang the run; the lab's own limits are far below.
limit=$([ -n "$long" ] && echo 7200 || echo 900)
logs=$target_dir/test-logs
passed=0 failed_tests=0 skipped=0 failed_suites=()

pure="packet encap tables switch cluster config fuzz"
# Needs no root either, but a TLS library and a client of Kubernetes and etcd, which take minutes to build.
# These wait for servers and timers most of their time, and run beside the others.
servers="kubernetes etcd"
rootless="$pure $servers benches"
[ "$what" = unit ] || need_root "make test"

as_caller mkdir -p "$logs"
# Logs of an earlier run as root would not be the caller's to overwrite.
rm -f "$logs"/*.log

packages=()
if [ "$what" = unit ]; then
    for crate in $pure; do packages+=(-p "ringway-$crate"); done
else
    packages=(--workspace)
    say "building the release binaries"
    run_cargo build --locked --release -p ringway-agent -p ringway-cni -p ringway-perf
    # The lab runs what users run, not what the last debug build left.
    export RINGWAY_BIN=$target_dir/release/ringway RINGWAY_PERF_BIN=$target_dir/release/ringway-perf
    export RINGWAY_CNI_BIN=$target_dir/release/ringway-cni
    # What calls the plugin in earnest. Without it those tests say SKIPPED, as nobody can install it for them.
    RINGWAY_DEBS=$(scripts/unpack.sh containerd runc containernetworking-plugins busybox-static) || RINGWAY_DEBS=
    export RINGWAY_DEBS
    # The same for the source that reads it; the others do not need it.
    scripts/unpack.sh etcd-server >/dev/null || true
    # A browser for the page of `ringway ui`.
    scripts/unpack.sh --whole chromium-headless-shell >/dev/null || true
    # And for what scrapes an agent.
    scripts/unpack.sh prometheus >/dev/null || true
    # What the DaemonSet runs.
    if scripts/image.sh >"$logs/image.log" 2>&1; then
        RINGWAY_IMAGE=$target_dir/image/$(sed -n '$s,.*/,,p' "$logs/image.log")
    else
        tail -5 "$logs/image.log"
        RINGWAY_IMAGE=
    fi
    export RINGWAY_IMAGE
fi
say "building the tests"
# One line per program: manifest path, target kind, target name, executable.
programs=$(run_cargo test --locked --no-run "${packages[@]}" --message-format=json-render-diagnostics |
    sed -n 's/.*"manifest_path":"\([^"]*\)".*"target":{"kind":\["\([a-z-]*\)".*"name":"\([^"]*\)","src_path".*"overflow_checks":[a-z]*,"test":true}.*"executable":"\([^"]*\)".*/\1 \2 \3 \4/p')
[ -n "$programs" ] || die "the build made no test programs"

# A lab suite shows each test as it ends; the others are over too soon for that.
show_progress() { if [ "$1" = lab ]; then grep --line-buffered -E '^test .* \.\.\. ' | sed -u 's/^/   /' || true; else cat >/dev/null; fi; }

tally() { # suite log exit-code seconds
    local suite=$1 log=$2 code=$3 seconds=$4 p f i s
    read -r p f i <<<"$(awk '/^test result: / {gsub(";", ""); p += $4; f += $6; i += $8} END {print p + 0, f + 0, i + 0}' "$log")"
    s=$(grep -c '^SKIPPED' "$log" || true)
    passed=$((passed + p - s)) failed_tests=$((failed_tests + f)) skipped=$((skipped + i + s))
    printf '%-44s %4d passed %3d failed %3d skipped %6.1f s\n' "$suite" $((p - s)) "$f" $((i + s)) "$seconds"
    grep -E '^SKIPPED|^XFAIL|^test .* \.\.\. ignored' "$log" | sed 's/^/   /' || true
    while IFS= read -r line; do
        if ! may_skip "$line"; then
            say "   not allowed by scripts/may-skip.txt: $line"
            failed_suites+=("$suite (skipped what may not be)")
            failed_tests=$((failed_tests + 1))
        fi
    done < <(grep '^SKIPPED' "$log" || true)
    if [ "$code" != 0 ]; then
        # A crash or the time limit leaves no "test result" to count.
        [ "$f" != 0 ] || failed_tests=$((failed_tests + 1))
        [ "$code" != 124 ] || say "   stopped after $limit s"
        failed_suites+=("$suite (exit code $code)")
        sed -n '/^failures:/,$p' "$log" | grep . | head -150 | sed 's/^/   /' || true
        [ "$f" != 0 ] || tail -30 "$log" | sed 's/^/   /'
        say "   whole log: $log"
    fi
}

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {print b - a}'; }

log_of() { printf '%s' "$logs/${1//[\/ ]/-}.log"; }

run_suite() { # suite folder kind-of-run program
    execute "$@"
    tally_suite "$1"
}

# Leaves a log, and beside it exit code and seconds.
execute() { # suite folder kind-of-run program
    local suite=$1 folder=$2 kind=$3 program=$4 code=0 begin run=() args=(--show-output) log
    log=$(log_of "$suite")
    begin=$(now)
    case $kind in
    pure) run=(as_caller) ;;
    lab) args+=(--test-threads=1) && say "── $suite, one test at a time" ;;
    esac
    (cd "$folder" && "${run[@]}" timeout --kill-after=10 "$limit" "$program" "${args[@]}") </dev/null 2>&1 |
        tee "$log" | show_progress "$kind" || code=$?
    say "$code $(since "$begin")" >"$log.outcome"
}

tally_suite() { # suite
    local log code seconds
    log=$(log_of "$1")
    read -r code seconds <"$log.outcome"
    rm "$log.outcome"
    tally "$1" "$log" "$code" "$seconds"
}

before=$(scripts/leftovers.sh list)
begin_all=$(now)
run_suite scripts "$root_dir" pure scripts/tests.sh
declare -A suites=([here]='' [beside]='' [lab]='')
while read -r manifest target_kind name program; do
    folder=$(dirname "$manifest")
    crate=$(basename "$folder")
    kind=root place=here
    case " $rootless " in *" $crate "*) kind=pure ;; esac
    case " $servers " in *" $crate "*) place=beside ;; esac
    if [ "$crate" = perf ] && [ "$target_kind" = test ]; then kind=lab place=lab; fi
    suites[$place]+="$crate/$name $folder $kind $program"$'\n'
done < <(sort -k2,2 -k1,1 <<<"$programs")

each() { # command place: the command for each suite of that place
    local suite
    while read -r -a suite; do
        [ ${#suite[@]} = 0 ] || "$1" "${suite[@]}"
    done <<<"${suites[$2]}"
}
each execute beside &
beside=$!
each run_suite here
wait "$beside"
each tally_suite beside
# The lab last: what breaks a unit test breaks it too, and says so worse.
each run_suite lab

begin=$(now) code=0
doc_packages=()
for crate in packet encap tables switch; do doc_packages+=(-p "ringway-$crate"); done
[ "$what" = unit ] || doc_packages=(--workspace)
run_cargo test --locked --doc "${doc_packages[@]}" </dev/null >"$logs/doc.log" 2>&1 || code=$?
tally "examples in the documentation" "$logs/doc.log" "$code" "$(since "$begin")"

if ! scripts/leftovers.sh check "$before"; then
    failed_suites+=("network namespaces or interfaces left behind")
    failed_tests=$((failed_tests + 1))
fi

count "$passed" "$failed_tests" "$skipped" "tests"
printf '%d passed, %d failed, %d skipped, %.0f s\n' "$passed" "$failed_tests" "$skipped" "$(since "$begin_all")"
if [ ${#failed_suites[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed_suites[@]}"
    exit 1
fi
