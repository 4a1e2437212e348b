#!/usr/bin/env bash
# vm-kernel.sh DIR: sees to a kernel for the virtual machine in DIR.
#
# virtio_net has AF_XDP zero-copy since Linux 6.13, newer than the kernel of many
# distributions, so that the newest cloud kernel of Debian's stable backports is
# taken (or of stable itself, should that be new enough). Packages come from the
# machine's own Debian mirror through apt, with sources, lists and cache of our
# own under DIR: the machine's are read, never written. apt checks the signature
# of the index, the hash in the index is checked once more here.
#
# Afterwards DIR holds `release` (written last), `vmlinuz` and `root/lib/modules`,
# and the next run needs no network; remove DIR to have a newer one. Exit code 3,
# with the reason on stderr: such a kernel cannot be had on this machine.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

oldest=6.13
dir=$1
[ ! -s "$dir/release" ] || exit 0

cannot() { warn "$*"; exit 3; }

name=unknown
if [ -r /etc/os-release ]; then name=$(. /etc/os-release && printf '%s %s' "$ID" "$PRETTY_NAME"); fi
read -r id pretty <<<"$name"
[ "$(uname -m)" = x86_64 ] || cannot "the virtual machine's kernel comes from Debian's amd64 packages, and this is $(uname -m)"
[ "$id" = debian ] || cannot "the virtual machine's kernel (>= $oldest) comes from a Debian mirror, and this is ${pretty:-$id}"

sources=$(scripts/apt-sources.sh 2>&1) || cannot "${sources#error: }"
read -r mirror _ <<<"$sources"

rm -rf "$dir"
mkdir -p "$dir"/apt/{lists/partial,cache/archives/partial,empty.d} "$dir/debs"
dir=$(cd "$dir" && pwd)
: >"$dir/apt/status"
# A hook of the machine's cleans what is the machine's, or fails for who is not root.
cat >"$dir/apt/conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::SourceList "$dir/apt/sources.list";
Dir::Etc::SourceParts "$dir/apt/empty.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$dir/apt/empty.d";
Dir::State::Lists "$dir/apt/lists";
Dir::State::Status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
APT::Sandbox::User "$(id -un)";
APT::Update::Error-Mode "any";
END

keyring=
for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    [ ! -r "$file" ] || { keyring=$file && break; }
done
[ -n "$keyring" ] || cannot "there is no keyring of the Debian archive (package debian-archive-keyring)"

update() { # suite
    printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$1" >"$dir/apt/sources.list"
    apt-get -c "$dir/apt/conf" -q update >"$dir/apt/log" 2>&1
}

# An older release's keyring need not know the key that signs the newer suite. A
# newer keyring comes through the machine's own apt, so that trust begins there.
newer_keyring() {
    grep -q NO_PUBKEY "$dir/apt/log" || return 1
    (cd "$dir/debs" && apt-get -q -o APT::Sandbox::User="$(id -un)" download debian-archive-keyring >>"$dir/apt/log" 2>&1) &&
        dpkg-deb -x "$dir"/debs/debian-archive-keyring_*.deb "$dir/apt/keyring" || return 1
    keyring=$dir/apt/keyring/usr/share/keyrings/$(basename "$keyring")
}

packages() { apt-cache -c "$dir/apt/conf" pkgnames "$1"; }
new_enough() { [ "$(printf '%s\n' "$oldest" "$1" | sort -V | head -1)" = "$oldest" ]; }

# The newest first; a mirror may be a moment behind its index, hence the next ones.
releases() {
    local release
    packages linux-image- | sed -n 's/^linux-image-\([0-9].*-cloud-amd64\)$/\1/p' | sort -rV | head -3 |
        while read -r release; do if new_enough "$release"; then printf '%s\n' "$release"; fi; done
}

# What one kernel is made of has changed with time: take what there is of these.
fetch() { # release
    local kind wanted=() package file hash
    for kind in image binary modules; do
        package=$(packages "linux-$kind-$1" | grep -Fx "linux-$kind-$1" || true)
        [ -z "$package" ] || wanted+=("$package")
    done
    (cd "$dir/debs" && apt-get -c "$dir/apt/conf" -q download "${wanted[@]}") >>"$dir/apt/log" 2>&1 || return 1
    rm -rf "$dir/root"
    for package in "${wanted[@]}"; do
        file=$(echo "$dir/debs/${package}"_*.deb)
        hash=$(apt-cache -c "$dir/apt/conf" show --no-all-versions "$package" | sed -n 's/^SHA256: //p')
        printf '%s  %s\n' "$hash" "$file" | sha256sum --check --status || die "$file is not what the signed index names"
        dpkg-deb -x "$file" "$dir/root"
    done
    # As on a system with merged /usr, which is what depmod looks for.
    [ -e "$dir/root/lib" ] || ln -s usr/lib "$dir/root/lib"
    cp "$(find "$dir/root" -name 'vmlinuz*' -type f | head -1)" "$dir/vmlinuz"
    # It warns that the packages do not list what is built in.
    depmod -b "$dir/root" "$1" 2>>"$dir/apt/log"
}

why="the mirror's index has no cloud kernel >= $oldest"
for suite in stable-backports stable; do
    if ! update "$suite" && { ! newer_keyring || ! update "$suite"; }; then
        why="$(grep -m1 '^[EW]:' "$dir/apt/log" || echo "apt-get update failed for $suite")"
        continue
    fi
    for release in $(releases); do
        say "   kernel $release of $suite, once"
        if fetch "$release"; then
            rm -rf "$dir/debs" "$dir/apt"
            printf '%s\n' "$release" >"$dir/release"
            exit 0
        fi
        why="$(grep '^E:' "$dir/apt/log" | tail -1 || echo "$release could not be fetched")"
    done
done
cannot "no kernel for the virtual machine: $why"
