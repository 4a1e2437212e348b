//! Small UDP datagrams as fast as one sender can, and how many arrive.

use super::{Result, TrafficError};
use crate::lab::Netns;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Result of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flood {
    /// Datagrams given to the socket each second.
    pub sent_pps: f64,
    /// Datagrams received each second.
    pub received_pps: f64,
}

/// Sends datagrams of `size` bytes for `time` from `from` to `address` in `to`.
pub fn udp_flood(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    size: usize,
    time: Duration,
) -> Result<Flood> {
    let what = || TrafficError::io(format!("flood {address}"));
    let server = to.run(|| UdpSocket::bind((address, 0)))?.map_err(what())?;
    // As much as a receiver that is scheduled away for a while needs; 4 MB is what iperf3 users set.
    setsockopt(&server, sockopt::RcvBufForce, &(4 << 20))
        .map_err(io::Error::from)
        .map_err(what())?;
    server
        .set_read_timeout(Some(Duration::from_millis(100)))
        .map_err(what())?;
    let target = server.local_addr().map_err(what())?;
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = from
        .run(|| {
            let client = UdpSocket::bind((any, 0))?;
            client.connect(target)?;
            Ok::<_, io::Error>(client)
        })?
        .map_err(what())?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&server, &done));
        let (payload, begin) = (vec![0x5a; size], Instant::now());
        let mut sent = 0_u64;
        while begin.elapsed() < time {
            for _ in 0..32 {
                // ENOBUFS and the like: the queue is full, which is the point.
                sent += u64::from(client.send(&payload).is_ok());
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        // What is still under way counts, a backlog of seconds does not: the rate would be the
        // sender's, not the network's.
        thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Flood {
            sent_pps: sent as f64 / seconds,
            received_pps: received as f64 / (seconds + 0.05),
        })
    })
}

fn receive(socket: &UdpSocket, done: &AtomicBool) -> u64 {
    let mut buffer = [0; 2048];
    let mut received = 0;
    while !done.load(Ordering::Relaxed) {
        received += u64::from(socket.recv(&mut buffer).is_ok());
    }
    received
}
