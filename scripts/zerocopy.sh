#!/usr/bin/env bash
# Two Ringway nodes in a virtual machine whose kernel and NICs can do AF_XDP
# zero-copy, whatever this machine's can: zerocopy.sh [socket|xdp]
#
# The kernel (scripts/vm-kernel.sh) is fetched once and kept in target/vm; with it
# and the release binaries an initramfs is made (scripts/vm-initrd.sh), which
# `ringway-perf vm` boots under qemu, to show what is found in there. The console
# goes to target/vm/console.log. Root is not needed, except to install what is
# missing, before the build. Where qemu or a kernel cannot be had, the check is SKIPPED.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

io=${1:-xdp}
name="two nodes in a virtual machine, io = \"$io\""
vm_dir=$target_dir/vm
programs=$target_dir/release
commands=(ip qemu-system-x86_64 busybox depmod xz)

need_commands() {
    # Who is not root is told what to install; a mirror that has none of it is
    # no fault of ours.
    if is_root; then scripts/deps.sh "${commands[@]}"; else scripts/deps.sh "${commands[@]}" || exit 1; fi
}
if ! need_commands; then
    skip "$name" "apt-get could not install what the virtual machine needs"
    exit 0
fi

run_cargo build --locked --release -p ringway-agent -p ringway-perf
as_caller mkdir -p "$vm_dir"
code=0
as_caller scripts/vm-kernel.sh "$vm_dir/kernel" 2>"$vm_dir/why" || code=$?
case $code in
0) ;;
3)
    skip "$name" "$(tail -1 "$vm_dir/why")"
    exit 0
    ;;
*)
    cat "$vm_dir/why" >&2
    die "no kernel for the virtual machine"
    ;;
esac
say "kernel $(cat "$vm_dir/kernel/release")"

as_caller scripts/vm-initrd.sh "$vm_dir/kernel" "$programs" "$io" "$vm_dir/initrd"

boot() {
    as_caller "$programs/ringway-perf" vm --kernel "$vm_dir/kernel/vmlinuz" --initrd "$vm_dir/initrd" \
        --console "$vm_dir/console.log" </dev/null
}
check "$name" boot
[ "$failed" = 0 ] || die "the check in the virtual machine failed; its console: ${vm_dir#"$root_dir/"}/console.log"
