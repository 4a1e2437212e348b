//! ICMP and ICMPv6 echo over a raw socket (RFC 792, RFC 4443 section 4.1).

use super::pattern::bytes;
use super::{Latency, Result, TrafficError};
use crate::lab::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct PingReport {
    /// Requests sent.
    pub sent: usize,
    /// A round-trip time for each reply with the right payload.
    pub times: Vec<Duration>,
    /// Replies whose payload was not what had been sent.
    pub corrupt: usize,
}

impl PingReport {
    /// Every request was answered, unharmed.
    pub fn all(&self) -> bool {
        self.sent > 0 && self.times.len() == self.sent && self.corrupt == 0
    }

    /// Percentiles of the round trips.
    pub fn latency(&self) -> Latency {
        Latency::of(&self.times)
    }
}

impl std::fmt::Display for PingReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} answered, {} corrupt",
            self.times.len(),
            self.sent,
            self.corrupt
        )
    }
}

static IDENTIFIER: AtomicU16 = AtomicU16::new(0x5277);

/// Sends `count` requests with `size` bytes of payload one after the other; each waits at most
/// `limit` for its reply, then the next is sent.
pub fn ping(
    from: &Netns,
    to: IpAddr,
    count: usize,
    size: usize,
    limit: Duration,
) -> Result<PingReport> {
    paced_ping(from, to, count, size, limit, Duration::ZERO)
}

/// The same with `pause` between a reply and the next request.
pub fn paced_ping(
    from: &Netns,
    to: IpAddr,
    count: usize,
    size: usize,
    limit: Duration,
    pause: Duration,
) -> Result<PingReport> {
    from.run(|| exchange(to, count, size, limit, pause))?
        .map_err(TrafficError::io(format!("ping {to} with {size} bytes")))
}

fn exchange(
    to: IpAddr,
    count: usize,
    size: usize,
    limit: Duration,
    pause: Duration,
) -> io::Result<PingReport> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // std has no raw sockets; the calls used here are the same for all datagram sockets.
    let socket = UdpSocket::from(raw);
    let id = IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    let mut report = PingReport::default();
    let mut buffer = vec![0; 66_000];
    for sequence in 0..count {
        let sequence = sequence as u16;
        let payload = bytes(u64::from(id) << 16 | u64::from(sequence), size);
        let message = echo_request(request, id, sequence, &payload);
        let begin = Instant::now();
        socket.send_to(&message, SocketAddr::new(to, 0))?;
        report.sent += 1;
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let len = match socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            };
            let Some(icmp) = message_of(to, &buffer[..len]) else {
                continue;
            };
            // The socket hears every ICMP message of the namespace.
            if icmp.len() < 8 || icmp[0] != reply || icmp[4..8] != message[4..8] {
                continue;
            }
            match icmp[8..] == payload[..] {
                true => report.times.push(begin.elapsed()),
                false => report.corrupt += 1,
            }
            break;
        }
        std::thread::sleep(pause);
    }
    Ok(report)
}

/// An ICMPv4 raw socket delivers the IP header, an ICMPv6 one does not.
fn message_of(to: IpAddr, received: &[u8]) -> Option<&[u8]> {
    match to {
        IpAddr::V4(_) => received.get(usize::from(received.first()? & 15) * 4..),
        IpAddr::V6(_) => Some(received),
    }
}

fn echo_request(kind: u8, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(payload);
    // The kernel fills ICMPv6's in; the sum over a message that is overwritten does no harm.
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_right() {
        // Type 8, id 1, sequence 1, "ab": 0800 + 0001 + 0001 + 6162 = 6964, complement 969b.
        assert_eq!(
            echo_request(8, 1, 1, b"ab"),
            [8, 0, 0x96, 0x9b, 0, 1, 0, 1, b'a', b'b']
        );
    }
}
