//! How long packets do not get through: a UDP datagram each two milliseconds to an echo server.

use super::udp_pair::udp_pair;
use super::{Result, TrafficError};
use crate::lab::Netns;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(2);

/// A probe under way.
pub struct OutageProbe {
    stop: Arc<AtomicBool>,
    probe: JoinHandle<Outage>,
    server: JoinHandle<()>,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outage {
    /// Datagrams sent.
    pub sent: u64,
    /// Answers.
    pub answered: u64,
    /// The longest time between two answers, the end of the probe included.
    pub longest: Duration,
}

impl OutageProbe {
    /// Starts probing `address` in `to`.
    pub fn start(from: &Netns, to: &Netns, address: IpAddr) -> Result<OutageProbe> {
        let what = || TrafficError::io(format!("probe {address}"));
        let (server, client) = udp_pair(from, to, address)?;
        server
            .set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(what())?;
        client.set_nonblocking(true).map_err(what())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (one, two) = (stop.clone(), stop.clone());
        Ok(OutageProbe {
            stop,
            probe: std::thread::spawn(move || probe(&client, &one)),
            server: std::thread::spawn(move || answer(&server, &two)),
        })
    }

    /// Ends it.
    pub fn finish(self) -> Outage {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.server.join();
        self.probe
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn probe(socket: &UdpSocket, stop: &AtomicBool) -> Outage {
    let mut outage = Outage::default();
    let mut last = Instant::now();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        // An unreachable network is what is looked for: errors of both calls count as silence.
        outage.sent += u64::from(socket.send(b"probe").is_ok());
        std::thread::sleep(INTERVAL);
        while socket.recv(&mut buffer).is_ok() {
            outage.answered += 1;
            outage.longest = outage.longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    outage.longest = outage.longest.max(last.elapsed());
    outage
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}
