//! bpf(2), one function per command we need (`enum bpf_cmd`, `union bpf_attr`; linux/bpf.h).
//!
//! The attributes are written out as structs without padding. The kernel takes any length and reads
//! what is missing as zero, so each ends with the last field its command needs here.

pub(crate) mod insn;
mod link;
mod map;
mod prog;

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub(crate) use link::{
    link_create_xdp, link_detach, link_fd_by_id, link_info, link_next_id, link_update,
};
pub(crate) use map::{map_create_shared, map_create_xsk, map_delete, map_update};
#[cfg(test)]
pub(crate) use prog::prog_test_run_socket_filter;
pub(crate) use prog::{
    LoadError, load, prog_fd_by_id, prog_info, prog_load_socket_filter, prog_load_xdp,
    prog_test_run,
};

const OBJ_GET_INFO_BY_FD: u32 = 15;
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

#[repr(C)]
struct Id {
    id: u32,
    next: u32,
    flags: u32,
}
// SAFETY: three words.
unsafe impl Attr for Id {}

fn id(id: u32) -> Id {
    Id {
        id,
        next: 0,
        flags: 0,
    }
}

#[repr(C)]
struct ObjInfo {
    fd: u32,
    len: u32,
    info: u64,
}
// SAFETY: two words and an aligned double word.
unsafe impl Attr for ObjInfo {}

/// The first `WORDS` 32-bit words of the info struct of an object.
fn info<const WORDS: usize>(fd: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut words = [0u32; WORDS];
    let mut attr = ObjInfo {
        fd: fd.as_raw_fd() as u32,
        len: (WORDS * 4) as u32,
        info: words.as_mut_ptr() as u64,
    };
    // SAFETY: the layout of OBJ_GET_INFO_BY_FD; the kernel writes at most `len` bytes to a live local
    // of that size. Being zero, it asks for no further output through addresses in it.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(words)
}

/// Attributes of the LINK commands: three or four words.
#[repr(C)]
struct Words<const N: usize>([u32; N]);
// SAFETY: words.
unsafe impl<const N: usize> Attr for Words<N> {}
