#!/usr/bin/env bash
# Unpacks Debian packages without installing them: unpack.sh PACKAGE...
# Each goes to target/debs/PACKAGE, once; nothing of it is set up and no service
# starts. Prints that folder. Where apt cannot, one line says so and the exit
# code is 1. A folder target/debs/PACKAGE that was filled by hand is taken as is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || die "unpack.sh PACKAGE..."
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
    # As root apt would download as a user of its own, who may not write here.
    download() { (cd "$work" && as_caller apt-get -q -o APT::Sandbox::User= download "${missing[@]}") </dev/null >"$work/log" 2>&1; }
    # Fresh images come without package lists, old ones with stale lists.
    download || { is_root && apt-get -q update </dev/null >/dev/null 2>&1 && download; } ||
        die "cannot unpack ${missing[*]}: $(grep -m 1 '^E:' "$work/log" || echo 'apt-get download failed')"
    for package in "${missing[@]}"; do
        as_caller dpkg -x "$work/${package}"_*.deb "$work/$package"
        # By rename: a folder that is there is whole.
        as_caller mv "$work/$package" "$debs/$package"
    done
fi
say "$debs"
