//! AF_PACKET sockets: whole Ethernet frames out of and into an interface, beside whoever else uses it
//! (packet(7)).
//!
//! Not a port of the switch: what `ringway-perf` generates and counts with, on interfaces where AF_XDP
//! cannot or should not be. A sender bypasses the queueing discipline, as the kernel's own pktgen does: a
//! frame the device has no room for is refused at once, and is the sender's to count. A receiver sees a
//! copy of every frame, superframes in one piece with the metadata that says where they are to be cut.

mod error;
mod receiver;
mod sender;

pub use error::RawError;
pub use receiver::{RawFrame, RawReceiver};
pub use sender::RawSender;

use std::os::fd::{AsFd, OwnedFd};

use crate::sys;

/// Most frames of one system call.
pub const BATCH: usize = 64;

/// A socket that has nothing to do with any interface yet.
fn open() -> Result<OwnedFd, RawError> {
    sys::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0).map_err(RawError::Socket)
}

/// Binds to an interface; `protocol` 0 receives nothing.
fn bind(fd: &OwnedFd, ifindex: u32, protocol: u16) -> Result<(), RawError> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is that of the family.
    unsafe { sys::bind(fd.as_fd(), &address) }.map_err(|source| RawError::Bind { ifindex, source })
}

/// Sets an option of the socket's own level.
fn set(fd: &OwnedFd, option: i32, name: &'static str) -> Result<(), RawError> {
    sys::set_option(fd.as_fd(), libc::SOL_PACKET, option, 1).map_err(|source| RawError::Option {
        option: name,
        source,
    })
}
