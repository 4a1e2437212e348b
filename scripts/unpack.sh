#!/usr/bin/env bash
# Unpacks Debian packages without installing them: unpack.sh [--whole] PACKAGE...
# Each goes to target/debs/PACKAGE, once; nothing of it is set up and no service
# starts. --whole: with all packages that it needs and this machine lacks, in the
# same folder. Prints that folder. Where apt cannot, one line says so and the exit
# code is 1. A folder target/debs/PACKAGE that was filled by hand is taken as is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

whole=
if [ "${1:-}" = --whole ]; then
    whole=1
    shift
fi
[ $# -gt 0 ] || die "unpack.sh [--whole] PACKAGE..."
debs=$target_dir/debs
missing=()
for package in "$@"; do [ -d "$debs/$package" ] || missing+=("$package"); done

if [ ${#missing[@]} -gt 0 ]; then
    for command in apt-get dpkg; do
        command -v "$command" >/dev/null || die "cannot unpack ${missing[*]}: this machine has no $command"
    done
    as_caller mkdir -p "$debs"
    work=$(as_caller mktemp -d "$debs/.unpack-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # A package, or it and what it needs here.
    parts() {
        [ -n "$whole" ] || { say "$1" && return; }
        apt-get -q -s --no-install-recommends install "$1" </dev/null 2>>"$work/log" | awk '$1 == "Inst" {print $2}' | grep .
    }
    # As root apt would download as a user of its own, who may not write here.
    download() {
        local package names
        : >"$work/log"
        for package in "${missing[@]}"; do
            as_caller mkdir -p "$work/$package.debs"
            names=$(parts "$package") || return
            # shellcheck disable=SC2086 # a list of names
            (cd "$work/$package.debs" && as_caller apt-get -q -o APT::Sandbox::User= download $names) </dev/null >>"$work/log" 2>&1 || return
        done
    }
    # Fresh images come without package lists, old ones with stale lists.
    download || { is_root && apt-get -q update </dev/null >/dev/null 2>&1 && download; } ||
        die "cannot unpack ${missing[*]}: $(grep -m 1 '^E:' "$work/log" || echo 'apt-get download failed')"
    for package in "${missing[@]}"; do
        for deb in "$work/$package.debs"/*.deb; do as_caller dpkg -x "$deb" "$work/$package"; done
        # By rename: a folder that is there is whole.
        as_caller mv "$work/$package" "$debs/$package"
    done
fi
say "$debs"
