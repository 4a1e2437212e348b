#!/usr/bin/env bash
# Everything that can be said about the code without running it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

deny_version=0.20.2

rustdoc() { RUSTDOCFLAGS="-D warnings" run_cargo doc --locked --workspace --no-deps --quiet; }

find_cargo_deny() { # sets $deny, or $deny_missing to the reason
    local tools=$target_dir/tools
    deny=$tools/bin/cargo-deny
    [ -x "$deny" ] && return 0
    deny=$(command -v cargo-deny) && return 0
    say "   cargo-deny $deny_version goes into ${tools#"$root_dir/"} (once, some minutes)"
    # It runs for a second: without optimisation it is built in half the time.
    if run_cargo install cargo-deny --debug --config profile.dev.debug=false --locked --version "$deny_version" --root "$tools" \
        --target-dir "$tools/build" >"$target_dir/cargo-deny.log" 2>&1; then
        rm -rf "$tools/build"
        deny=$tools/bin/cargo-deny
        return 0
    fi
    deny_missing="cargo-deny is not installed and could not be: $(grep -m1 -i error "$target_dir/cargo-deny.log" || tail -1 "$target_dir/cargo-deny.log")"
    return 1
}

# One by one: bash reads the first file only, the others are its arguments.
shell_syntax() {
    local file code=0
    for file in scripts/*.sh perf/tap-loop/*.sh .ci/run; do bash -n "$file" || code=1; done
    return "$code"
}

can_update_advisories() { timeout 20 git ls-remote -q https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; }

check "rustfmt" run_cargo fmt --all --check
check "clippy, all targets, warnings denied" run_cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
if command -v c++ >/dev/null; then
    check "clippy, fuzz targets" run_cargo clippy --locked --quiet -p ringway-fuzz --features libfuzzer --bins -- -D warnings
else
    skip "clippy, fuzz targets" "no C++ compiler for the libFuzzer runtime"
fi
if command -v clang >/dev/null && command -v m4 >/dev/null && pkg-config --exists libelf zlib; then
    check "clippy, comparison with xsk-rs" run_cargo clippy --locked --quiet -p ringway-perf --features xsk-rs --all-targets -- -D warnings
else
    skip "clippy, comparison with xsk-rs" "no clang, m4, libelf-dev or zlib1g-dev for its C libraries"
fi
check "rustdoc, warnings denied" rustdoc
check "purity of the packet path" scripts/purity.sh
check "size and shape of the crates" scripts/structure.sh
check "shell syntax" shell_syntax
check "shell syntax, POSIX" sh -n perf/pktgen/pktgen.sh

as_caller mkdir -p "$target_dir"
if find_cargo_deny; then
    check "cargo-deny: licences, bans, sources" as_caller "$deny" --log-level error check licenses bans sources
    if can_update_advisories; then
        check "cargo-deny: advisories" as_caller "$deny" --log-level error check advisories
    else
        skip "cargo-deny: advisories" "the RustSec database cannot be reached"
    fi
else
    skip "cargo-deny" "$deny_missing"
fi

[ "$failed" = 0 ] || die "lint: $failed checks failed"
say "lint: all checks passed"
