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
/// How long answers to the last datagrams may be on their way.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// A probe under way.
pub struct OutageProbe {
    /// Of the client, and of the server.
    stop: [Arc<AtomicBool>; 2],
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
        let stop: [Arc<AtomicBool>; 2] = Default::default();
        let [one, two] = stop.clone();
        Ok(OutageProbe {
            stop,
            probe: std::thread::spawn(move || probe(&client, &one)),
            server: std::thread::spawn(move || answer(&server, &two)),
        })
    }

    /// Ends it. What is still on its way is waited for; the server answers until then.
    pub fn finish(self) -> Outage {
        let [client, server] = self.stop;
        client.store(true, Ordering::Relaxed);
        let outage = self.probe.join();
        server.store(true, Ordering::Relaxed);
        let _ = self.server.join();
        outage.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn probe(socket: &UdpSocket, stop: &AtomicBool) -> Outage {
    let mut outage = Outage::default();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // An unreachable network is what is looked for: errors of both calls count as silence.
        outage.sent += u64::from(socket.send(b"probe").is_ok());
        std::thread::sleep(INTERVAL);
        outage.read(socket, &mut last);
    }
    outage.longest = outage.longest.max(last.elapsed());
    let end = Instant::now() + LAST_ANSWERS;
    while outage.answered < outage.sent && Instant::now() < end {
        std::thread::sleep(INTERVAL);
        outage.read(socket, &mut last);
    }
    outage
}

impl Outage {
    /// Reads the answers that are there.
    fn read(&mut self, socket: &UdpSocket, last: &mut Instant) {
        let mut buffer = [0; 64];
        while socket.recv(&mut buffer).is_ok() {
            self.answered += 1;
            self.longest = self.longest.max(last.elapsed());
            *last = Instant::now();
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_after_the_last_datagram_counts() {
        let [client, server] = [0, 0].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        client.connect(server.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let stop = AtomicBool::new(false);
        let outage = std::thread::scope(|scope| {
            let probe = scope.spawn(|| probe(&client, &stop));
            let mut buffer = [0; 64];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            stop.store(true, Ordering::Relaxed);
            // As on a machine that is busy; longer than between two datagrams.
            std::thread::sleep(10 * INTERVAL);
            server.send_to(&buffer[..len], from).unwrap();
            server.set_read_timeout(Some(10 * INTERVAL)).unwrap();
            while let Ok((len, from)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..len], from).unwrap();
            }
            probe.join().unwrap()
        });
        assert!(
            outage.sent > 0 && outage.sent == outage.answered,
            "{outage:?}"
        );
    }
}
