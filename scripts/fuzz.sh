#!/usr/bin/env bash
# Coverage-guided fuzzing on stable Rust: fuzz.sh [TARGET...]
#
# libFuzzer comes with the libfuzzer-sys crate and wants only edge counters and
# compares from the compiler; both are LLVM passes that stable rustc can switch
# on (what `cargo fuzz --sanitizer none` does). The flags reach every crate that
# is linked in, hence the target folder of their own; `--target` keeps them away
# from build scripts.
#
# Each target runs for $FUZZ_SECONDS, as many at once as there are processors.
# The corpus grows in target/fuzz/corpus and starts from fuzz/seeds; an input that
# crashes a target is written to target/fuzz/crashes. Put it into fuzz/seeds/TARGET
# once fixed: `cargo test` replays all of them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

seconds=${FUZZ_SECONDS:-30}
fuzz_dir=$target_dir/fuzz
host=$(run_cargo -vV | sed -n 's/^host: //p')
targets=("$@")
if [ $# = 0 ]; then
    names=$(sed -n 's/^name = "fuzz_\(.*\)"/\1/p' fuzz/Cargo.toml)
    mapfile -t targets <<<"$names"
fi

flags="-Cpasses=sancov-module -Ccodegen-units=1"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$flag"
done

say "building the fuzz targets with coverage: ${targets[*]}"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "fuzz_$target"); done
RUSTFLAGS=$flags run_cargo build --locked --profile fuzz --target "$host" --target-dir "$fuzz_dir/build" \
    -p ringway-fuzz --features libfuzzer "${bins[@]}"

fuzz_one() {
    local target=$1 seeds=fuzz/seeds/$1 corpus=$fuzz_dir/corpus/$1
    as_caller mkdir -p "$corpus" "$fuzz_dir/crashes" "$seeds"
    as_caller "$fuzz_dir/build/$host/fuzz/fuzz_$target" "$corpus" "$seeds" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -use_value_profile=1 \
        -artifact_prefix="$fuzz_dir/crashes/$target-" -print_final_stats=1 </dev/null >"$fuzz_dir/$target.log" 2>&1
}

finish() { # target pid
    local target=$1 pid=$2 log=$fuzz_dir/$1.log corpus=$fuzz_dir/corpus/$1 code=0 first last
    # A sign of life every ten seconds.
    while sleep 1 && kill -0 "$pid" 2>/dev/null; do
        [ $((SECONDS % 10)) != 0 ] || say "   $(grep -E '^#[0-9]' "$log" | tail -1 | cut -c1-100)"
    done
    wait "$pid" || code=$?
    first=$(sed -n 's/.*INITED *cov: \([0-9]*\).*/\1/p' "$log" | head -1)
    last=$(sed -n 's/^#.* cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    say "   $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, coverage ${first:-?} → ${last:-?} edges, corpus $(find "$corpus" -type f | wc -l) inputs"
    if [ "$code" != 0 ]; then
        grep -E 'panicked|^SUMMARY|Test unit written|^==.*ERROR' "$log" | sed 's/^/   /' || tail -20 "$log"
        say "   replay: $fuzz_dir/build/$host/fuzz/fuzz_$target INPUT     log: $log"
        return 1
    fi
    # Coverage that was never counted would make every run a success.
    [ "${last:-0}" -gt 20 ] || { say "   no coverage feedback: are the RUSTFLAGS of this script in effect?"; return 1; }
}

processors=$(nproc)
for ((first = 0; first < ${#targets[@]}; first += processors)); do
    group=("${targets[@]:first:processors}") pids=()
    for target in "${group[@]}"; do
        fuzz_one "$target" &
        pids+=($!)
    done
    for i in "${!group[@]}"; do check "fuzz ${group[i]}, $seconds s" finish "${group[i]}" "${pids[i]}"; done
done
[ "$failed" = 0 ] || die "$failed fuzz targets failed"
