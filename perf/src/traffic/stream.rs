//! A TCP stream that flows steadily while something is done to the network under it.
//!
//! The sender writes a kilobyte each millisecond; the receiver checks every byte and keeps the
//! longest time between two reads. TCP repairs a pause by itself, with a retransmission timer of
//! 200 ms and more: the gap is what an application sees, [`super::OutageProbe`] what the network did.

use super::tcp::{accept, connect, listen};
use super::{Pattern, Result, TrafficError};
use crate::lab::Netns;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A stream under way.
pub struct Stream {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<StreamReport>>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamReport {
    /// Bytes received, all as sent.
    pub bytes: u64,
    /// The longest time without any.
    pub longest_gap: Duration,
}

impl Stream {
    /// Connects and lets it flow. A standstill of `limit` ends it with an error.
    pub fn start(from: &Netns, to: &Netns, address: IpAddr, limit: Duration) -> Result<Stream> {
        let listener = to.run(|| listen(address))??;
        let port = listener
            .local_addr()
            .map_err(TrafficError::io("local address"))?
            .port();
        let client = from.run(|| connect(SocketAddr::new(address, port), limit))??;
        let server = accept(&listener, limit)?;
        let (stop, received) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stop_sender, count) = (stop.clone(), received.clone());
        Ok(Stream {
            stop,
            received,
            sender: std::thread::spawn(move || send(&client, &stop_sender)),
            receiver: std::thread::spawn(move || receive(&server, &count)),
        })
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until at least `more` further bytes have come; `false` when the time is over.
    pub fn flows(&self, more: u64, limit: Duration) -> bool {
        let (wanted, until) = (self.received() + more, Instant::now() + limit);
        while self.received() < wanted && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.received() >= wanted
    }

    /// Ends it; an error if any byte was lost or damaged or the connection broke.
    pub fn finish(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::Relaxed);
        let received = self
            .receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sent = self
            .sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (report, wanted) = (received?, sent?);
        match report.bytes == wanted {
            true => Ok(report),
            false => Err(TrafficError::Short {
                what: "steady stream".into(),
                got: report.bytes,
                wanted,
            }),
        }
    }
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut pattern = Pattern::new(11);
    let mut buffer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        pattern.fill(&mut buffer);
        stream
            .write_all(&buffer)
            .map_err(TrafficError::io("send on the steady stream"))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    stream
        .shutdown(Shutdown::Write)
        .map_err(TrafficError::io("finish the steady stream"))?;
    Ok(pattern.offset())
}

fn receive(mut stream: &TcpStream, count: &AtomicU64) -> Result<StreamReport> {
    let mut pattern = Pattern::new(11);
    let mut buffer = vec![0; 64 << 10];
    let (mut last, mut longest_gap) = (Instant::now(), Duration::ZERO);
    loop {
        let len = stream
            .read(&mut buffer)
            .map_err(TrafficError::io("receive on the steady stream"))?;
        longest_gap = longest_gap.max(last.elapsed());
        last = Instant::now();
        if len == 0 {
            return Ok(StreamReport {
                bytes: pattern.offset(),
                longest_gap,
            });
        }
        pattern
            .check(&buffer[..len])
            .map_err(|mismatch| TrafficError::Corrupt {
                what: "steady stream".into(),
                mismatch,
            })?;
        count.store(pattern.offset(), Ordering::Relaxed);
    }
}
