//! bpf(2), one function per command we need (`enum bpf_cmd`, `union bpf_attr`; linux/bpf.h).
//!
//! The attributes are written out as structs without padding. The kernel takes any length and reads
//! what is missing as zero, so each ends with the last field its command needs here.

mod map;
mod prog;

use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd};

pub(super) use map::{map_create_xsk, map_delete, map_update};
pub(super) use prog::{prog_load_xdp, prog_test_run};

/// `BPF_XDP`, a type of attachment.
const ATTACH_TYPE_XDP: u32 = 37;
const NAME_LEN: usize = 16;

/// A type without padding that the kernel may read and, within it, write.
///
/// # Safety
/// `repr(C)`, no padding, valid for any bytes.
unsafe trait Attr {}

/// One call. The result is a new descriptor for the commands that make one.
///
/// # Safety
/// `T` must be the layout of `command`, and every address in it valid for what the command does there
/// until it returns.
unsafe fn bpf<T: Attr>(command: u32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the pointer and size are those of a live exclusive reference; what it points to is vouched
    // for by the caller. Neither std nor libc has a function for bpf(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}

/// The descriptor that a command has made.
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only called with the result of a command that returns a new descriptor (closed on exec),
    // which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

fn name_bytes(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}
