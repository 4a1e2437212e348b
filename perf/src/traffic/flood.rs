//! Small UDP datagrams as fast as one sender can, and how many arrive.

use super::udp_pair::udp_pair;
use super::{Result, TrafficError};
use crate::lab::Netns;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

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
    udp_flood_during(from, to, address, size, || thread::sleep(time)).map(|(flood, ())| flood)
}

/// Sends datagrams of `size` bytes while `f` runs, from `from` to `address` in `to`.
pub fn udp_flood_during<T>(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    size: usize,
    f: impl FnOnce() -> T,
) -> Result<(Flood, T)> {
    let what = || TrafficError::io(format!("flood {address}"));
    let (server, client) = udp_pair(from, to, address)?;
    // As much as a receiver that is scheduled away for a while needs; 4 MB is what iperf3 users set.
    setsockopt(&server, sockopt::RcvBufForce, &(4 << 20))
        .map_err(io::Error::from)
        .map_err(what())?;
    server
        .set_read_timeout(Some(Duration::from_millis(100)))
        .map_err(what())?;
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&server, &done));
        let sender = scope.spawn(|| send(&client, size, &stop));
        let begin = Instant::now();
        // Threads that are not told to stop would be waited for without end.
        let result = panic::catch_unwind(panic::AssertUnwindSafe(f));
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join();
        let seconds = begin.elapsed().as_secs_f64();
        // What is still under way counts, a backlog of seconds does not: the rate would be the
        // sender's, not the network's.
        thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        let received = receiver.join();
        let result = result.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let sent = sent.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let received = received.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let flood = Flood {
            sent_pps: sent as f64 / seconds,
            received_pps: received as f64 / (seconds + 0.05),
        };
        Ok((flood, result))
    })
}

fn send(socket: &UdpSocket, size: usize, stop: &AtomicBool) -> u64 {
    let payload = vec![0x5a; size];
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..32 {
            // ENOBUFS and the like: the queue is full, which is the point.
            sent += u64::from(socket.send(&payload).is_ok());
        }
    }
    sent
}

fn receive(socket: &UdpSocket, done: &AtomicBool) -> u64 {
    let mut buffer = [0; 2048];
    let mut received = 0;
    while !done.load(Ordering::Relaxed) {
        received += u64::from(socket.recv(&mut buffer).is_ok());
    }
    received
}
