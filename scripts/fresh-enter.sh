#!/usr/bin/env bash
# Runs a command on the fresh machine of scripts/fresh.sh, as somebody who has just
# logged in there: fresh-enter.sh FRESH_DIR RUST_SYSROOT CRATES USER 'COMMAND'
#
# FRESH_DIR/root becomes the root directory of a mount, process and host name
# namespace of its own; with the command's end everything in there is gone. The
# network is the machine's, or neither apt nor cargo would reach theirs: what
# Ringway does happens in network namespaces that are made inside.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

fresh_dir=$1 sysroot=$2 crates=$3 user=$4 command=$5
root=$fresh_dir/root
if [ "${6:-}" != inside ]; then
    exec unshare --mount --pid --uts --fork --kill-child "$0" "$@" inside
fi

bind() { # from to [options]
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")" && touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    [ -z "${3:-}" ] || mount -o "remount,bind,$3" "$root$2"
}

mount --make-rprivate /
mount --bind "$root" "$root"
hostname fresh
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty net/tun; do bind "/dev/$device" "/dev/$device"; done
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$root/dev/${stream#*:}"; done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"

bind "$sysroot" /usr/local/rust ro
bind "$crates" /usr/local/cargo/registry ro
bind "$fresh_dir/archives" /var/cache/apt/archives
bind "$fresh_dir/target" /home/somebody/ringway/target

mkdir -p "$root/.before"
cd "$root"
pivot_root . .before
exec env -i TERM="${TERM:-dumb}" /usr/sbin/chroot . /bin/sh -c '
    umount -n -l /.before && rmdir /.before && exec su - "$0" -c "cd /home/somebody/ringway && $1"' "$user" "$command"
