//! Links: what holds a program at an interface.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{ATTACH_TYPE_XDP, Words, bpf, id, info, owned};

const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_GET_FD_BY_ID: u32 = 30;
const LINK_GET_NEXT_ID: u32 = 31;
const LINK_DETACH: u32 = 34;
const LINK_TYPE_XDP: u32 = 6;

/// Attaches a program to an interface of the calling thread's network namespace. `flags`: the mode
/// (`XDP_FLAGS_*`, linux/if_link.h). Linux 5.9.
pub(crate) fn link_create_xdp(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = Words([program.as_raw_fd() as u32, ifindex, ATTACH_TYPE_XDP, flags]);
    // SAFETY: the layout of LINK_CREATE (program, target, type, flags), without addresses.
    unsafe { bpf(LINK_CREATE, &mut attr) }.map(owned)
}

/// Puts another program in the place of the link's, between two frames.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Words([link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0]);
    // SAFETY: the layout of LINK_UPDATE (link, program, flags, old program), without addresses.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link, whoever else holds a descriptor of it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Words([link.as_raw_fd() as u32]);
    // SAFETY: the layout of LINK_DETACH, without addresses.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(drop)
}

/// A descriptor of the link with that id. Needs `CAP_SYS_ADMIN`.
pub(crate) fn link_fd_by_id(link: u32) -> io::Result<OwnedFd> {
    // SAFETY: the layout of LINK_GET_FD_BY_ID, without addresses.
    unsafe { bpf(LINK_GET_FD_BY_ID, &mut id(link)) }.map(owned)
}

/// The smallest id of a link above `after`, `None` behind the last. Needs `CAP_SYS_ADMIN`.
pub(crate) fn link_next_id(after: u32) -> io::Result<Option<u32>> {
    let mut attr = id(after);
    // SAFETY: the layout of LINK_GET_NEXT_ID, without addresses.
    match unsafe { bpf(LINK_GET_NEXT_ID, &mut attr) } {
        Ok(_) => Ok(Some(attr.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A link of XDP.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct XdpLink {
    pub(crate) id: u32,
    pub(crate) program: u32,
    /// In the network namespace of the interface; 0 once detached.
    pub(crate) ifindex: u32,
}

/// What a link is (`struct bpf_link_info`: type, id, program, then at 16 what its type has); `None` if it
/// is not one of XDP.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<Option<XdpLink>> {
    let words = info::<5>(link)?;
    Ok((words[0] == LINK_TYPE_XDP).then_some(XdpLink {
        id: words[1],
        program: words[2],
        ifindex: words[4],
    }))
}
