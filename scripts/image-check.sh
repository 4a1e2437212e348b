#!/usr/bin/env bash
# Runs what is in the image that scripts/image.sh has made, each program in the unpacked image as its root, and
# the plugin in a root that holds nothing else. Needs root, or a kernel that lets a user have namespaces.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

archive=$(ls -t "$target_dir"/image/ringway-*.tar 2>/dev/null | head -1)
[ -n "$archive" ] || die "there is no image in ${target_dir#"$root_dir/"}/image" "run:  make image"
enter=(chroot)
if ! is_root; then
    enter=(unshare --map-root-user chroot)
    if ! "${enter[@]}" / true 2>/dev/null; then
        skip "image: what is in it runs" "chroot needs root here: sudo scripts/image-check.sh"
        exit 0
    fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{layout,image,empty}
in_image() { "${enter[@]}" "$work/image" "$@" </dev/null; }

# Whoever loads it computes the same digests: a wrong one would be refused.
digests_are_right() {
    local blob sum
    for blob in "$work"/layout/blobs/sha256/*; do
        sum=$(sha256sum "$blob" | cut -d' ' -f1)
        [ "$sum" = "${blob##*/}" ] || { say "   ${blob##*/} has the digest $sum"; return 1; }
    done
    # Each is named once where it is used, and nothing is named that is not there.
    local named
    named=$(grep -ho '"digest":"sha256:[0-9a-f]*"' "$work"/layout/index.json "$work"/layout/blobs/sha256/* 2>/dev/null | grep -o '[0-9a-f]\{64\}' | sort)
    [ "$named" = "$(cd "$work/layout/blobs/sha256" && printf '%s\n' * | sort)" ]
}

unpack() {
    local layer
    tar --extract --file "$archive" --directory "$work/layout" &&
        layer=$(sed -n 's/.*"Layers":\["\([^"]*\)"\].*/\1/p' "$work/layout/manifest.json") &&
        tar --extract --gzip --file "$work/layout/$layer" --directory "$work/image"
}

# help VERB...: the verb's help and that of all below it.
verbs=0
help() {
    local text below
    text=$(in_image /usr/local/bin/ringway "$@" --help) || { say "   ringway $* --help failed"; return 1; }
    verbs=$((verbs + 1))
    while IFS= read -r below; do
        help "$@" "$below" || return 1
    done < <(awk '/^Commands:/ {on = 1; next} /^[A-Z]/ {on = 0} on && /^  [a-z]/ {print $1}' <<<"$text")
}
every_verb_runs() {
    help || return 1
    say "   $verbs verbs"
    [ "$verbs" -gt 10 ]
}

the_other_programs_run() {
    in_image nft --version | grep -q '^nftables v' &&
        in_image iptables -V | grep -q nf_tables && in_image ip6tables -V | grep -q nf_tables &&
        in_image iptables-legacy -V | grep -q legacy && in_image ip6tables-legacy -V | grep -q legacy
}

# Without an agent it gets as far as the socket.
filters_are_compiled() {
    local said
    said=$(in_image /usr/local/bin/ringway --socket /none capture tcp port 80 2>&1) && return 1
    grep -q '/none' <<<"$said" || { say "   $said"; return 1; }
}

# On a host with another C library, or none.
the_plugin_runs_alone() {
    cp "$work/image/usr/local/bin/ringway-cni" "$work/empty/"
    local said
    said=$("${enter[@]}" "$work/empty" /ringway-cni <<<'{"cniVersion":"1.1.0"}' 2>&1) && return 1
    # Without CNI_COMMAND it says so, as the specification wants it.
    grep -q CNI_COMMAND <<<"$said" || { say "   $said"; return 1; }
    said=$(CNI_COMMAND=VERSION "${enter[@]}" "$work/empty" /ringway-cni <<<'{"cniVersion":"1.1.0"}') || return 1
    grep -q '"supportedVersions"' <<<"$said"
}

check "image: it unpacks" unpack
check "image: digests are those of the blobs" digests_are_right
check "image: every verb of ringway runs in it" every_verb_runs
check "image: nft and iptables run in it" the_other_programs_run
check "image: ringway capture compiles filters in it" filters_are_compiled
check "image: the plugin runs where there is nothing else" the_plugin_runs_alone
[ "$failed" = 0 ] || die "$failed checks of the image failed: ${archive#"$root_dir/"}"
