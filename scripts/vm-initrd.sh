#!/usr/bin/env bash
# vm-initrd.sh KERNEL_DIR PROGRAM_DIR IO FILE: writes the virtual machine's initramfs.
#
# In it: perf/vm/init, perf/pktgen/pktgen.sh, busybox, ip, our two programs from
# PROGRAM_DIR, each with the libraries it needs; the modules below with all they
# depend on, and in /modules/order the order to load them. IO is what the agents
# are told in `underlay.io`.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

kernel=$1 programs=$2 io=$3 out=$4
modules="virtio_pci virtio_net tun veth vxlan pktgen"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,modules}

put() { # PROGRAM: without its symbols, which are most of ours
    local file library
    file=$(command -v "$1") || die "there is no '$1'"
    strip -s -o "$root/bin/$(basename "$1")" "$file"
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [ -e "$root$library" ] || install -D "$library" "$root$library"
    done
}

put busybox
put ip
put "$programs/ringway"
put "$programs/ringway-perf"
install perf/vm/init "$root/init"
install perf/pktgen/pktgen.sh "$root/bin/pktgen.sh"
printf '%s\n' "$io" >"$root/io"

folder=$(echo "$kernel"/root/lib/modules/*)
# modules.dep: "module: all it needs", the one to load first last. A module that
# is not there is built in; the packages do not list those.
order() { # module
    awk -v module="$1" '{
        name = $1; sub(/:$/, "", name); sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name)
        if (name == module) for (i = NF; i >= 1; i--) { sub(/:$/, "", $i); print $i }
    }' "$folder/modules.dep"
}
for module in $modules; do order "$module"; done | awk '!seen[$0]++' | while read -r file; do
    name=$(basename "$file" | sed 's/\.ko.*//')
    case $file in
    *.xz) xz -dc "$folder/$file" ;;
    *.zst) zstd -dc "$folder/$file" ;;
    *) cat "$folder/$file" ;;
    esac >"$root/modules/$name.ko"
    printf '%s\n' "$name" >>"$root/modules/order"
done

# Not compressed: the emulated processor would take longer than the loader does.
(cd "$root" && find . | busybox cpio -o -H newc) >"$out.new" 2>/dev/null
mv "$out.new" "$out"
