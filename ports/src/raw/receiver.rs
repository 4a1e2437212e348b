//! Frames in: recvmmsg(2), each behind the header that says what was left undone in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ringway_packet::offload::{Offload, OffloadError, VNET_HDR_LEN};

use super::{BATCH, RawError, bind, open, set};
use crate::sys::{self, Mapping};

// linux/if_packet.h
const PACKET_STATISTICS: i32 = 6;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// Room for a superframe and its header, in whole pages.
const SLOT: usize = 17 * 4096;

/// A frame, as long as the next call.
#[derive(Debug)]
pub struct RawFrame<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// What the kernel said of it.
    pub offload: Result<Offload, OffloadError>,
    /// It was longer than what there is room for; `bytes` is its beginning.
    pub truncated: bool,
}

/// A socket that receives what others send to an interface.
#[derive(Debug)]
pub struct RawReceiver {
    fd: OwnedFd,
    /// [`BATCH`] slots; pages that no frame has reached are not there.
    memory: Mapping,
    overrun: u64,
}

impl RawReceiver {
    /// Receives from interface `ifindex` of the calling thread's namespace; `buffer` bytes may wait in the
    /// kernel (it counts its own overhead in), as far as `CAP_NET_ADMIN` or `net.core.rmem_max` allow.
    ///
    /// # Errors
    /// See [`RawError`].
    pub fn open(ifindex: u32, buffer: usize) -> Result<RawReceiver, RawError> {
        let fd = open()?;
        set(&fd, PACKET_VNET_HDR, "PACKET_VNET_HDR")?;
        set(&fd, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING")?;
        let bytes = i32::try_from(buffer).unwrap_or(i32::MAX);
        if sys::set_option(
            fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            bytes / 2,
        )
        .is_err()
        {
            let _ = sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes / 2);
        }
        let memory = Mapping::anonymous(BATCH * SLOT).map_err(RawError::Socket)?;
        // Last: before that, frames of all interfaces would come.
        bind(&fd, ifindex, libc::ETH_P_ALL as u16)?;
        Ok(RawReceiver {
            fd,
            memory,
            overrun: 0,
        })
    }

    /// Shows each of at most [`BATCH`] frames that wait to `look`; returns how many. 0: nothing waits.
    ///
    /// # Errors
    /// The interface is gone or went down (ENETDOWN, once).
    pub fn receive(&mut self, mut look: impl FnMut(RawFrame<'_>)) -> io::Result<usize> {
        let mut parts = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: SLOT,
        }; BATCH];
        // SAFETY: a mmsghdr of zeroes is valid: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (i, (part, header)) in parts.iter_mut().zip(&mut headers).enumerate() {
            // SAFETY: slot `i` of `BATCH` lies in the mapping.
            part.iov_base = unsafe { self.memory.as_ptr().add(i * SLOT) }.cast();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every part is a slot of its own of memory that `&mut self` keeps to this call. Safe
        // wrappers allocate their arrays for each call.
        let count = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (i, header) in headers.iter().enumerate().take(count) {
            let len = (header.msg_len as usize).min(SLOT);
            // SAFETY: within slot `i`, which the kernel zeroed and then wrote; nobody writes to it during
            // the borrow, which ends before the next call.
            let bytes =
                unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(i * SLOT), len) };
            let Some((vnet, bytes)) = bytes.split_first_chunk::<VNET_HDR_LEN>() else {
                continue;
            };
            look(RawFrame {
                bytes,
                offload: Offload::read(vnet, bytes.len()),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(count)
    }

    /// Frames that found no room in the socket's buffer so far.
    ///
    /// # Errors
    /// getsockopt(2) fails: the socket is not what it was.
    pub fn overrun(&mut self) -> io::Result<u64> {
        // SAFETY: the structure is that of the option, and made of numbers.
        let since: libc::tpacket_stats = unsafe {
            sys::get_option_struct(self.fd.as_fd(), libc::SOL_PACKET, PACKET_STATISTICS)?
        };
        // Reading resets it.
        self.overrun += u64::from(since.tp_drops);
        Ok(self.overrun)
    }
}

impl AsFd for RawReceiver {
    /// For polling.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
