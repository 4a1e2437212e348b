//! Frames out: sendmmsg(2).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{BATCH, RawError, bind, open, set};

/// linux/if_packet.h
const PACKET_QDISC_BYPASS: i32 = 20;

/// A socket that sends.
#[derive(Debug)]
pub struct RawSender {
    fd: OwnedFd,
}

impl RawSender {
    /// Sends by interface `ifindex` of the calling thread's namespace.
    ///
    /// # Errors
    /// See [`RawError`].
    pub fn open(ifindex: u32) -> Result<RawSender, RawError> {
        let fd = open()?;
        set(&fd, PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS")?;
        bind(&fd, ifindex, 0)?;
        Ok(RawSender { fd })
    }

    /// Sends the first frames of `frames`, at most [`BATCH`]; returns how many the device took.
    ///
    /// # Errors
    /// The device did not take the first one: ENOBUFS or EAGAIN, its queue is full; ENETDOWN, its link is
    /// down; EMSGSIZE, the frame is longer than its MTU and the Ethernet header.
    pub fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let frames = &frames[..frames.len().min(BATCH)];
        let mut parts = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: a mmsghdr of zeroes is valid: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for ((frame, part), header) in frames.iter().zip(&mut parts).zip(&mut headers) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: as many headers as frames, each with one part, which is a live slice; the kernel only
        // reads them. Safe wrappers allocate their arrays or want addresses besides.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                frames.len() as u32,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
