//! The error queue of a socket (ip(7) `IP_RECVERR`): ICMP errors, and the path MTU a send exceeded.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::address::Name;
use super::cmsg::Control;
use super::report::TxReport;

/// Entries read per visit: a flood of ICMP must not hold up the worker.
pub(super) const MAX_ENTRIES: usize = 64;
/// `struct sock_extended_err` (linux/errqueue.h): errno u32, origin, type, code, pad, info u32, data u32.
const EXTENDED_ERR: usize = 16;

/// One entry of the error queue.
struct Entry {
    errno: i32,
    origin: u8,
    info: u32,
    name: Name,
}

/// Empties the error queue of `socket`: counts ICMP errors, learns path MTUs and who is unreachable. Returns the
/// entries read.
pub(super) fn drain(socket: &OwnedFd, report: &mut TxReport) -> usize {
    for count in 0..MAX_ENTRIES {
        let Some(entry) = next(socket) else {
            return count;
        };
        if matches!(
            entry.origin,
            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
        ) {
            report.icmp_errors += 1;
        }
        match entry.name.dest() {
            Some(dest) if entry.errno == libc::EMSGSIZE => report.learn(dest.into(), entry.info),
            Some(dest) => report.heard(dest.into(), entry.errno),
            None => {}
        }
    }
    MAX_ENTRIES
}

fn next(socket: &OwnedFd) -> Option<Entry> {
    let mut name = Name::empty();
    let mut control = Control::new();
    let mut quoted = [0u8; 64];
    let mut part = libc::iovec {
        iov_base: quoted.as_mut_ptr().cast(),
        iov_len: quoted.len(),
    };
    // SAFETY: a msghdr of zeroes is valid: null pointers and zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = Name::SIZE;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr();
    header.msg_controllen = Control::SIZE as _;
    // SAFETY: every pointer in the header is to a live local of the length given with it.
    let read = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    if read < 0 {
        return None;
    }
    let mut entry = Entry {
        errno: 0,
        origin: 0,
        info: 0,
        name,
    };
    for (level, kind, data) in control.entries(header.msg_controllen) {
        let ours = matches!(
            (level, kind),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        if let (true, Some(error)) = (ours, data.first_chunk::<EXTENDED_ERR>()) {
            entry.errno = i32::from_ne_bytes([error[0], error[1], error[2], error[3]]);
            entry.origin = error[4];
            entry.info = u32::from_ne_bytes([error[8], error[9], error[10], error[11]]);
        }
    }
    Some(entry)
}
