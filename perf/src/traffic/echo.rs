//! UDP datagrams of chosen sizes to an echo server and back, payloads checked at both ends.

use super::pattern::bytes;
use super::udp_pair::udp_pair;
use super::{Result, TrafficError};
use crate::lab::{Family, Netns};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What became of the datagrams.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UdpEcho {
    /// Sizes that came back unharmed.
    pub ok: Vec<usize>,
    /// Sizes that did not come back, or not unharmed, with the reason.
    pub failed: Vec<(usize, String)>,
}

/// Payloads as DNS has them: a query, the classic limit, EDNS's usual limits.
pub const DNS_SIZES: [usize; 4] = [32, 512, 1232, 4096];

/// Payload sizes around everything that could matter: empty, one, the MTU's neighbourhood (sent
/// whole and in fragments), and the largest UDP has.
pub fn echo_sizes(family: Family, mtu: usize) -> Vec<usize> {
    let whole = mtu - family.udp_overhead();
    let mut sizes = vec![0, 1, 2, 17, 18, 63, 64, 1000];
    sizes.extend(DNS_SIZES);
    sizes.extend([whole - 1, whole, whole + 1, 2 * whole, 9000, 32_768, 65_507]);
    sizes
}

impl UdpEcho {
    /// Sends one datagram of each size from `from` to a server in `to`; each gets three tries of
    /// `limit` length (UDP may lose, but not damage).
    pub fn run(
        from: &Netns,
        to: &Netns,
        address: IpAddr,
        sizes: &[usize],
        limit: Duration,
    ) -> Result<UdpEcho> {
        let what = || TrafficError::io(format!("UDP echo with {address}"));
        let (server, client) = udp_pair(from, to, address)?;
        server
            .set_read_timeout(Some(Duration::from_millis(20)))
            .map_err(what())?;
        client.set_read_timeout(Some(limit)).map_err(what())?;

        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| serve(&server, &done));
            let mut report = UdpEcho::default();
            for &size in sizes {
                // A dead path fails for every size, and each costs three time limits.
                if report.failed.len() == 2 {
                    report
                        .failed
                        .push((size, "not tried, nor what follows".into()));
                    break;
                }
                let mut last = String::new();
                match (0..3).any(|attempt| {
                    exchange(&client, size, attempt)
                        .map_err(|e| last = e.to_string())
                        .is_ok()
                }) {
                    true => report.ok.push(size),
                    false => report.failed.push((size, last)),
                }
            }
            done.store(true, Ordering::Relaxed);
            Ok(report)
        })
    }

    /// Every size came back.
    pub fn all(&self) -> bool {
        self.failed.is_empty() && !self.ok.is_empty()
    }
}

impl std::fmt::Display for UdpEcho {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sizes back", self.ok.len())?;
        self.failed
            .iter()
            .try_for_each(|(size, why)| write!(f, "; {size} bytes: {why}"))
    }
}

/// Sends everything back whose payload is what its size says: a damaged request gets no answer.
fn serve(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = vec![0; 66_000];
    while !done.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if buffer[..len] == bytes(len as u64, len)[..] {
            let _ = socket.send_to(&bytes(!(len as u64), len), from);
        }
    }
}

fn exchange(socket: &UdpSocket, size: usize, attempt: u32) -> io::Result<()> {
    let wanted = bytes(!(size as u64), size);
    match socket.send(&bytes(size as u64, size)) {
        // The first of a size above the path MTU is refused when IPv6 has just learnt it.
        Err(error)
            if error.raw_os_error() == Some(nix::libc::EMSGSIZE)
                && attempt == 0
                && size <= 65_507 => {}
        other => drop(other?),
    }
    let mut buffer = vec![0; 66_000];
    loop {
        let len = socket
            .recv(&mut buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
                _ => error,
            })?;
        if buffer[..len] == wanted[..] {
            return Ok(());
        }
        // A late answer to an earlier try has another size; one of this size is damaged.
        if len == size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is damaged",
            ));
        }
    }
}
