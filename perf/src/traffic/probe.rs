//! Small flows, one request after the other with a pause between: what a pod notices of what others, and it
//! itself, send beside.

use super::tcp::{accept, connect, listen};
use super::{Result, TrafficError, paced_ping};
use crate::lab::{Netns, run};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// What is asked and answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// ICMP echo; the other pod's kernel answers.
    Ping,
    /// Request and response of so many bytes over one TCP connection.
    Tcp(usize),
    /// A datagram of so many bytes, and the same back.
    Udp(usize),
    /// The same as [`Tcp`](Self::Tcp) by a connection that sends 2 MiB before every 16 requests.
    Alternating(usize),
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Question::Ping => f.write_str("ping"),
            Question::Tcp(size) => write!(f, "TCP {size} B"),
            Question::Udp(size) => write!(f, "UDP {size} B"),
            Question::Alternating(size) => write!(f, "TCP {size} B after bulk"),
        }
    }
}

/// Bytes of bulk that an alternating connection sends.
const BULK: usize = 2 << 20;
/// Requests until it sends bulk again.
const ROUNDS: usize = 16;

/// How the threads that ask and answer run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Placed {
    /// At `SCHED_FIFO`: whoever is woken runs at once, so the network is measured and not the scheduler.
    pub fifo: bool,
    /// On that CPU alone.
    pub cpu: Option<usize>,
}

impl Placed {
    /// Places the calling thread.
    pub fn here(self) -> Result<()> {
        let tid = nix::unistd::gettid();
        if let Some(cpu) = self.cpu {
            pin(tid.as_raw(), &[cpu])?;
        }
        if self.fifo {
            run("chrt", &["-f", "-p", "50", &tid.to_string()])?;
        }
        Ok(())
    }
}

/// Has the thread run on those CPUs alone.
pub fn pin(tid: i32, cpus: &[usize]) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    cpus.iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(tid), &set))
        .map_err(|errno| TrafficError::io(format!("pin a thread to CPUs {cpus:?}"))(errno.into()))
}

/// How long an answer is waited for; one that does not come counts as that.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a connection is waited for, and each answer by it.
const CONNECTED: Duration = Duration::from_secs(5);

/// Who asks whom, and how.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Where is asked.
    pub from: &'a Netns,
    /// Where is answered.
    pub to: &'a Netns,
    /// What is asked.
    pub address: IpAddr,
    /// How both run.
    pub placed: Placed,
    /// How long is asked.
    pub time: Duration,
    /// Between an answer and the next question.
    pub pause: Duration,
}

impl Probe<'_> {
    /// The time of each answer.
    ///
    /// # Errors
    /// A namespace cannot be entered, a thread not placed, a socket fails.
    pub fn run(self, question: Question) -> Result<Vec<Duration>> {
        match question {
            Question::Ping => self.ping(),
            Question::Tcp(size) => self.tcp(size, 0),
            Question::Alternating(size) => self.tcp(size, BULK),
            Question::Udp(size) => self.udp(size),
        }
    }

    fn ping(self) -> Result<Vec<Duration>> {
        self.placed.here()?;
        let count = (self.time.as_secs_f64() / self.pause.as_secs_f64()).max(1.0) as usize;
        let report = paced_ping(self.from, self.address, count, 56, LIMIT, self.pause)?;
        let lost = report.sent - report.times.len();
        let lost = std::iter::repeat_n(LIMIT, lost);
        Ok(report.times.into_iter().chain(lost).collect())
    }

    /// `bulk`: so many bytes before every [`ROUNDS`] requests.
    fn tcp(self, size: usize, bulk: usize) -> Result<Vec<Duration>> {
        let listener = self.to.run(|| listen(self.address))??;
        let target = listener
            .local_addr()
            .map_err(TrafficError::io("local address"))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let Ok(mut stream) = accept(&listener, CONNECTED) else {
                    return;
                };
                let mut bytes = vec![0; size];
                let mut much = vec![0; bulk];
                let _ = self.placed.here();
                let mut answer = |bytes: &mut Vec<u8>| {
                    stream.read_exact(bytes).is_ok()
                        && stream.write_all(&bytes[..size.min(bytes.len())]).is_ok()
                };
                // Nothing is read, and nothing sent, where there is no bulk.
                while answer(&mut much) && (0..ROUNDS).all(|_| answer(&mut bytes)) {}
            });
            self.placed.here()?;
            let mut stream = self.from.run(|| connect(target, CONNECTED))??;
            let (request, much) = (vec![7; size], vec![7; bulk]);
            let mut bytes = vec![0; size];
            let mut asked = 0;
            let ask = |stream: &mut std::net::TcpStream, request: &[u8], answer: &mut [u8]| {
                stream
                    .write_all(request)
                    .and_then(|()| stream.read_exact(answer))
                    .map_err(TrafficError::io(format!("round trip to {target}")))
            };
            self.ask(|| {
                let begun = Instant::now();
                if bulk > 0 && usize::is_multiple_of(asked, ROUNDS) {
                    ask(&mut stream, &much, &mut bytes)?;
                }
                asked += 1;
                let not_asked = begun.elapsed();
                ask(&mut stream, &request, &mut bytes)?;
                Ok(not_asked)
            })
        })
    }

    fn udp(self, size: usize) -> Result<Vec<Duration>> {
        let what = || format!("UDP round trip to {}", self.address);
        let bound = |ns: &Netns, ip: IpAddr| -> Result<UdpSocket> {
            let socket = ns
                .run(|| UdpSocket::bind((ip, 0)))?
                .map_err(TrafficError::io(what()))?;
            let limited = socket.set_read_timeout(Some(LIMIT));
            limited.map_err(TrafficError::io(what()))?;
            Ok(socket)
        };
        let any: IpAddr = match self.address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let (client, server) = (bound(self.from, any)?, bound(self.to, self.address)?);
        let target = server.local_addr().map_err(TrafficError::io(what()))?;
        client.connect(target).map_err(TrafficError::io(what()))?;
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = self.placed.here();
                let mut bytes = vec![0; size.max(8)];
                while !ended.load(Relaxed) {
                    if let Ok((len, asker)) = server.recv_from(&mut bytes) {
                        let _ = server.send_to(&bytes[..len], asker);
                    }
                }
            });
            // Whatever fails, the other end is told that it is over.
            let placed = self.placed.here();
            let mut number = 0_u64;
            let mut bytes = vec![0; size.max(8)];
            let ask = || {
                number += 1;
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                client.send(&bytes).map_err(TrafficError::io(what()))?;
                loop {
                    match client.recv(&mut bytes) {
                        // The answer to one that was given up.
                        Ok(_) if bytes[..8] != number.to_be_bytes() => {}
                        Ok(_) => return Ok(Duration::ZERO),
                        Err(e)
                            if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                        {
                            return Ok(Duration::ZERO);
                        }
                        Err(e) => return Err(TrafficError::io(what())(e)),
                    }
                }
            };
            let times = placed.and_then(|()| self.ask(ask));
            ended.store(true, Relaxed);
            times
        })
    }

    /// `once` asks, and gives what of its time went to something else.
    fn ask(self, mut once: impl FnMut() -> Result<Duration>) -> Result<Vec<Duration>> {
        let (begin, mut times) = (Instant::now(), Vec::new());
        while begin.elapsed() < self.time {
            let asked = Instant::now();
            let other = once()?;
            times.push(asked.elapsed().saturating_sub(other));
            thread::sleep(self.pause);
        }
        Ok(times)
    }
}
