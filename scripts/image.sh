#!/usr/bin/env bash
# Makes the container image as an OCI archive (target/image/ringway-VERSION-ARCH.tar), from scratch and without a
# container tool. Needs no root.
#
# One layer: ringway, the static plugin, the programs the agent runs (nft, iptables), libpcap for the filters of
# captures, what those load, Mozilla's certificates. Which libraries that takes is computed: what a file says it needs, and what that needs. Every file
# that is not ours is one of this machine's Debian packages, which are printed, and whose copyrights go along.
# The same commit on the same machine gives the same bytes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Nothing under target/ may end up root's.
if [ -n "$caller" ]; then as_caller "$0" "$@"; exit; fi

command -v dpkg >/dev/null || die "the image is made of Debian's packages, and this machine has no dpkg" "make it on Debian or Ubuntu"
umask 022
triple=$(rustc -vV | sed -n 's/^host: //p')
case $triple in
x86_64-unknown-linux-gnu) arch=amd64 ;;
aarch64-unknown-linux-gnu) arch=arm64 ;;
*) die "there is no image for $triple" "make it on x86_64 or aarch64 with the GNU C library" ;;
esac
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=localhost/ringway:$version
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
libraries=/usr/lib/$(cc -print-multiarch)

image=$target_dir/image
root=$image/root
layout=$image/layout
archive=$image/ringway-$version-$arch.tar
rm -rf "$root" "$layout"
mkdir -p "$root"/{dev,etc,proc,run,sys,tmp,usr/{lib,lib64,local/bin,sbin},var} "$layout/blobs/sha256"
chmod 1777 "$root/tmp"
# Runtimes name network namespaces below /var/run.
ln -s ../run "$root/var/run"
for folder in lib lib64 sbin; do ln -s "usr/$folder" "$root/$folder"; done

# --- what is built here

say "building ringway and a static ringway-cni"
# One that is built already, as for a test run.
ringway=${RINGWAY_BIN:-}
if [ -z "$ringway" ]; then
    run_cargo build --quiet --locked --release -p ringway-agent
    ringway=$target_dir/release/ringway
fi
# It is copied to hosts with whatever C library they have, or none.
variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_RUSTFLAGS
env "$variable=-C target-feature=+crt-static" cargo build --quiet --locked --release -p ringway-cni --target "$triple"
plugin=$target_dir/$triple/release/ringway-cni
says() { readelf --wide --program-headers --dynamic "$1"; }
if says "$plugin" | grep -E 'INTERP|\(NEEDED\)'; then die "$plugin is not static" "see the lines above"; fi

# --- what comes from packages

declare -A packages=()
# dpkg knows some files by their place before /lib became a link to /usr/lib.
package_of() { # file
    local file found
    for file in "$1" "${1#/usr}"; do
        if found=$(dpkg-query --search "$file" 2>/dev/null); then printf '%s' "${found%%: *}"; return; fi
    done
    die "$1 is not of a Debian package" "the image takes nothing else; remove what hides the package's file"
}

declare -A taken=()
take() { # file: copies it to the same place, and whatever it needs
    local file=$1 line needed
    [ -z "${taken[$file]:-}" ] || return 0
    taken[$file]=1
    packages[$(package_of "$(realpath "$file")")]=1
    install -D -m "$(if [ -x "$file" ]; then echo 755; else echo 644; fi)" "$file" "$root$file"
    needs "$file"
}
needs() { # file: takes what the dynamic linker would load for it, and the linker itself
    local file=$1 needed
    while IFS= read -r needed; do
        take "$needed"
    done < <(says "$file" | sed -n -e "s|.*(NEEDED).*\[\(.*\)\]|$libraries/\1|p" -e 's|.*interpreter: /lib\(.*\)\]|/usr/lib\1|p')
}
find_program() { realpath "$(command -v "$1")" || die "there is no $1 on this machine" "run:  scripts/deps.sh nft ip6tables tcpdump"; }

install -m 755 "$ringway" "$plugin" "$root/usr/local/bin/"
# Names stay, so that a backtrace can be read.
strip --strip-debug "$root"/usr/local/bin/*
needs "$root/usr/local/bin/ringway"
for program in nft iptables-nft iptables-legacy; do take "$(find_program "$program")"; done
for family in iptables ip6tables; do
    ln -s xtables-nft-multi "$root/usr/sbin/$family"
    ln -s xtables-legacy-multi "$root/usr/sbin/$family-legacy"
done
# What `ringway capture` loads to compile a filter.
take "$libraries/libpcap.so.0.8"
# iptables loads a library for each kind of match and target that it meets in somebody's rules.
for file in "$libraries"/xtables/lib{xt,ipt,ip6t}_*.so; do
    [ -L "$file" ] || take "$file"
done
for file in "$libraries"/xtables/lib{xt,ipt,ip6t}_*.so; do
    [ ! -L "$file" ] || cp -P "$file" "$root$file"
done

# Of the package, not of this machine, which may trust others as well.
debs=$(scripts/unpack.sh ca-certificates)
mkdir -p "$root/etc/ssl/certs"
cat "$debs"/ca-certificates/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
packages[ca-certificates]=1

say 'root:x:0:0:root:/:/usr/sbin/nologin' >"$root/etc/passwd"
say 'root:x:0:' >"$root/etc/group"
say 'hosts: files dns' >"$root/etc/nsswitch.conf"
install -D -m 644 LICENSE "$root/usr/share/doc/ringway/copyright"
for package in "${!packages[@]}"; do
    file=/usr/share/doc/${package%%:*}/copyright
    [ "$package" != ca-certificates ] || file=$debs/ca-certificates$file
    install -D -m 644 "$(realpath "$file")" "$root/usr/share/doc/${package%%:*}/copyright"
done

# --- the archive

pack() { # folder file: the same bytes for the same files
    tar --create --file "$2" --directory "$1" --sort=name --format=gnu --mtime="@$epoch" --owner=0 --group=0 --numeric-owner .
}
digest() { sha256sum "$1" | cut -d' ' -f1; }
blob() { # file: moves it among the blobs; prints its digest and size
    local sum size
    sum=$(digest "$1")
    size=$(stat -c %s "$1")
    mv "$1" "$layout/blobs/sha256/$sum"
    say "$sum $size"
}
pack "$root" "$image/layer.tar"
uncompressed=$(digest "$image/layer.tar")
gzip --no-name --best --force "$image/layer.tar"
read -r layer layer_size <<<"$(blob "$image/layer.tar.gz")"
created=$(date --utc --date="@$epoch" +%Y-%m-%dT%H:%M:%SZ)
labels="\"org.opencontainers.image.title\":\"ringway\",\"org.opencontainers.image.version\":\"$version\""
labels+=",\"org.opencontainers.image.revision\":\"$revision\",\"org.opencontainers.image.licenses\":\"Apache-2.0\""
cat >"$image/config.json" <<JSON
{"created":"$created","architecture":"$arch","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/sbin"],"Entrypoint":["/usr/local/bin/ringway"],"Labels":{$labels}},"rootfs":{"type":"layers","diff_ids":["sha256:$uncompressed"]},"history":[{"created":"$created","created_by":"scripts/image.sh"}]}
JSON
read -r config config_size <<<"$(blob "$image/config.json")"
types=application/vnd.oci.image
cat >"$image/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"$types.manifest.v1+json","config":{"mediaType":"$types.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"$types.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size <<<"$(blob "$image/manifest.json")"
say '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
cat >"$layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"$types.index.v1+json","manifests":[{"mediaType":"$types.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"platform":{"architecture":"$arch","os":"linux"},"annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"$name"}}]}
JSON
# What `docker load` of before version 25 reads instead.
cat >"$layout/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$name"],"Layers":["blobs/sha256/$layer"]}]
JSON
pack "$layout" "$archive"

# --- what is in it

say "packages:"
for package in "${!packages[@]}"; do
    case $package in
    ca-certificates) say "  $package $(sed -n 's/.*(\(.*\)).*/\1/p' <(zcat -f "$debs/ca-certificates/usr/share/doc/ca-certificates/changelog"*) | head -1)" ;;
    *) dpkg-query --show --showformat '  ${Package} ${Version}\n' "$package" ;;
    esac
done | sort
say "contents:"
(cd "$root" && find . -type f -not -path './usr/share/doc/*' -not -path './usr/lib/*/xtables/*' -printf '  %10s  %P\n' | sort -k2)
count=$(find "$root" -path '*/xtables/*' | wc -l)
say "  $(du --apparent-size -sb "$root$libraries/xtables" | cut -f1) ${libraries#/}/xtables/ ($count files)"
say "$name for $arch: $(stat -c %s "$archive") bytes packed, $(du --apparent-size -sb "$root" | cut -f1) bytes unpacked"
say "${archive#"$root_dir/"}"
