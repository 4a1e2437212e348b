//! What the kernel has dropped at a socket, asked of the socket itself (`SO_MEMINFO`, linux/sock_diag.h).
//!
//! `SO_RXQ_OVFL` says the same beside a later datagram; this says it although none has come since.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys;

/// `SK_MEMINFO_VARS`: how many numbers there are.
const VARS: usize = 9;
/// `SK_MEMINFO_DROPS`: which of them counts drops (`sk->sk_drops`).
const DROPS: usize = 8;

/// Datagrams that the kernel dropped at this socket, in its life: its receive buffer was full, or their checksum
/// was wrong. Wraps at 2³².
///
/// # Errors
/// Not a socket, or a kernel before Linux 4.12.
pub fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the option gives an array of nine `u32`; fewer leave zeroes.
    let vars: [u32; VARS] =
        unsafe { sys::get_option_struct(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)? };
    Ok(vars[DROPS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn what_a_full_receive_buffer_drops_is_known_although_nothing_is_read() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        sys::set_option(receiver.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4096).unwrap();
        assert_eq!(dropped(receiver.as_fd()).unwrap(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1000], to).unwrap();
        }
        let lost = dropped(receiver.as_fd()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut room = [0; 1000];
        let read = std::iter::from_fn(|| receiver.recv(&mut room).ok()).count();
        assert!(
            lost > 0 && lost as usize + read == 100,
            "{lost} lost, {read} read"
        );
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let refused = dropped(file.as_fd()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTSOCK));
    }
}
