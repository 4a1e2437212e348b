//! The underlay by AF_XDP: whether, with what, and what when it ends.
//!
//! ```text
//!   choose (configured, or by what the driver says) ─ no ─▶ sockets, with the reason
//!      │ yes
//!      ▼
//!   workers open a ring for each of their queues ▶ XSKMAP ▶ program attached last ─ fails ─▶ sockets, a
//!                                                                                     warning, a count
//! ```
//!
//! Receive queues are dealt out to the workers in turn. Sockets stay bound whatever happens: what the program
//! does not redirect, because a queue has no ring or the program is gone, arrives there. So a change is
//! never urgent: the rings are looked after once a second, and opened anew when the queues of the interface
//! are others than before, when the interface is another, when its MTU is too large now, or when the program
//! was taken away. Where they do not work it is tried again: at once when the interface, its MTU or its queues
//! have changed, else after pauses that double.
//!
//! The program is detached before the rings are closed; a driver was seen to crash the other way round.

mod choose;

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use ringway_ports::ethtool;
use ringway_ports::xdp::{
    AttachError, AttachOptions, Attachment, BpfError, Filter, Program, XskMap,
};
use ringway_ports::xsk::{MAX_FRAME, XskConfig, XskError, ZeroCopy};
use std::os::fd::AsFd;

use ringway_kernel::netlink::Link;

use self::choose::{Facts, choose};
use super::descriptors::{Descriptors, RingDescriptors};
use crate::underlay::Underlay;
use crate::view::RingStatus;
use ringway_config::{Config, Unfinished};
use ringway_worker::{Command, MAX_RINGS, OpenedRing, Worker};

/// Entries of each ring.
const ENTRIES: u32 = 4096;
/// Frames the queues of one worker have to receive into, together, and one of them at most. A TCP sender
/// has some megabytes on the way, and all of that comes while the worker waits for its processor: with
/// 1,024 frames two agents that shared two processors with their pods lost one segment in a hundred.
const FILL: u32 = 8192;
const FILL_OF_ONE: u32 = 4096;
/// How long a queue may take to be let go of by an agent that has just ended.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long a worker may take to answer: it may have to pin 85 MB for its rings on a slow machine.
const ANSWER: Duration = Duration::from_secs(10);
/// First and longest pause between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Ethernet header and two VLAN tags.
const ETHERNET: usize = 22;
/// Largest MTU.
const LARGEST: usize = MAX_FRAME - ETHERNET;

/// Why rings do not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    /// A packet does not fit a frame.
    #[error(
        "MTU {mtu} of {interface} is above {limit}, the most that fits one AF_XDP frame; lower it, or stay with sockets"
    )]
    Mtu {
        /// Interface.
        interface: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The most.
        limit: usize,
    },
    /// More queues than the workers can serve.
    #[error(
        "{interface} has {queues} receive queues, more than {limit} for {workers} workers; set fewer (ethtool -L) or more workers"
    )]
    Queues {
        /// Interface.
        interface: String,
        /// Its receive queues.
        queues: u32,
        /// The most.
        limit: usize,
        /// Workers.
        workers: usize,
    },
    /// A worker could not open them.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// The map or the program.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The program at the interface.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A worker does not answer.
    #[error("worker {worker} did not answer")]
    Silent {
        /// Its number.
        worker: usize,
    },
}

/// What of an interface decides whether rings work.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Seen {
    /// `None`: there is none.
    index: Option<u32>,
    mtu: u32,
    queues: u32,
    /// The XDP program at it.
    program: Option<u32>,
}

impl Seen {
    fn of(underlay: &Underlay, link: Option<&Link>) -> Seen {
        Seen {
            index: link.map(|link| link.index),
            program: link.and_then(|link| link.xdp_program),
            mtu: underlay.mtu,
            queues: queues(&underlay.interface),
        }
    }

    /// Why rings that were opened with the interface like this are to be closed now, if they are.
    fn outdated(&self, now: Seen, attachment: &Attachment) -> Option<String> {
        if now.index.is_none() {
            Some("the interface is gone".into())
        } else if now.index != self.index {
            Some("the interface is another".into())
        } else if !attachment.is_attached() {
            Some("its program was detached by somebody".into())
        } else if now.mtu as usize > LARGEST {
            Some(format!("its MTU is {} now", now.mtu))
        } else if now.queues != self.queues {
            let (now, before) = (now.queues, self.queues);
            Some(format!("it has {now} receive queues instead of {before}"))
        } else {
            None
        }
    }
}

/// What is known of the rings of all workers; the rings themselves are in [`Descriptors`].
pub(super) struct Rings {
    wanted: bool,
    /// Why they are wanted, or not.
    why: String,
    /// What the interface was like when they were opened, if they are.
    open: Option<Seen>,
    /// Why they do not work, if they do not, and what the interface was like then.
    failure: Option<(String, Seen)>,
    /// Times that rings were wanted and sockets had to do.
    fallbacks: u64,
    retry: Duration,
    retry_at: Option<Instant>,
}

impl Rings {
    /// Chooses, and opens what was chosen.
    pub(super) fn start(
        config: &Config,
        underlay: &Underlay,
        link: &Link,
        workers: &[Worker],
        descriptors: &mut Descriptors,
    ) -> Rings {
        let facts = Facts::of(&underlay.interface, link.index, underlay.mtu);
        let (wanted, why) = choose(config.underlay.io, &facts);
        let mut rings = Rings {
            wanted,
            why,
            open: None,
            failure: None,
            fallbacks: 0,
            retry: RETRY,
            retry_at: None,
        };
        if wanted {
            rings.open(config, underlay, link, workers, descriptors);
        } else {
            tracing::info!("underlay by sockets ({})", rings.why);
        }
        rings
    }

    fn open(
        &mut self,
        config: &Config,
        underlay: &Underlay,
        link: &Link,
        workers: &[Worker],
        descriptors: &mut Descriptors,
    ) {
        let seen = Seen::of(underlay, Some(link));
        // What has sockets comes by rings.
        let ports = descriptors.encaps().map(|e| config.port(e)).collect();
        match open(config, underlay, link.index, (seen, ports), workers) {
            Ok(open) => {
                for (worker, ring) in &open.rings {
                    tracing::info!(
                        interface = underlay.interface,
                        queue = ring.queue,
                        worker,
                        mode = %open.attachment.mode(),
                        zero_copy = ring.got.zero_copy,
                        "underlay by AF_XDP ({})",
                        self.why
                    );
                }
                descriptors.rings = Some(open);
                self.open = Some(seen);
                self.failure = None;
                self.retry_at = None;
            }
            Err(error) => {
                close_rings(workers);
                self.fallbacks += 1;
                if self.failed_at(seen) {
                    tracing::debug!("AF_XDP still does not work: {error}");
                    self.retry = (2 * self.retry).min(LONGEST_RETRY);
                } else {
                    tracing::warn!(
                        "AF_XDP does not work on {}, packets go by sockets: {error}",
                        underlay.interface
                    );
                    self.retry = RETRY;
                }
                self.failure = Some((error.to_string(), seen));
                self.retry_at = Some(Instant::now() + self.retry);
            }
        }
    }

    /// It was tried with the interface as it is now.
    fn failed_at(&self, now: Seen) -> bool {
        matches!(&self.failure, Some((_, seen)) if *seen == now)
    }

    /// Looks whether what is open is still what should be; opens it anew if not. To be called about once
    /// a second. `link`: the interface now, if there is one.
    pub(super) fn look_after(
        &mut self,
        config: &Config,
        underlay: &Underlay,
        link: Option<&Link>,
        workers: &[Worker],
        descriptors: &mut Descriptors,
    ) {
        if !self.wanted {
            return;
        }
        let mut link = link.cloned();
        let now = Seen::of(underlay, link.as_ref());
        if let (Some(seen), Some(open)) = (self.open, &descriptors.rings) {
            let Some(reason) = seen.outdated(now, &open.attachment) else {
                return;
            };
            tracing::warn!(
                interface = underlay.interface,
                "AF_XDP rings are closed: {reason}"
            );
            self.close(workers, descriptors);
            // Our program goes with the rings: that it is gone is no reason to try again at once.
            if let Some(link) = &mut link {
                link.xdp_program = None;
            }
        } else if self.failed_at(now) && self.retry_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        match link {
            Some(link) => self.open(config, underlay, &link, workers, descriptors),
            None => {
                self.failure = Some(("the interface is gone".into(), now));
                self.retry_at = None;
            }
        }
    }

    /// Closes what is open; packets go by sockets then.
    pub(super) fn close(&mut self, workers: &[Worker], descriptors: &mut Descriptors) {
        self.open = None;
        if let Some(open) = descriptors.rings.take() {
            drop(open);
            close_rings(workers);
        }
    }

    /// In words: `xdp (configured)`.
    pub(super) fn describe(&self) -> String {
        match (&self.open, &self.failure) {
            (Some(_), _) => format!("xdp ({})", self.why),
            (None, Some((failure, _))) => format!("socket (AF_XDP does not work: {failure})"),
            (None, None) => format!("socket ({})", self.why),
        }
    }

    pub(super) fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    /// Each ring with what was got and why.
    pub(super) fn status(descriptors: &Descriptors) -> Vec<RingStatus> {
        let Some(open) = &descriptors.rings else {
            return Vec::new();
        };
        let fell_back = open.attachment.fell_back().map(ToString::to_string);
        open.rings
            .iter()
            .map(|(worker, ring)| RingStatus {
                queue: ring.queue,
                worker: *worker,
                mode: open.attachment.mode().to_string(),
                mode_refused: fell_back.clone(),
                zero_copy: ring.got.zero_copy,
                zero_copy_refused: ring.got.refused.clone(),
                busy_poll: ring.got.busy_poll,
            })
            .collect()
    }
}

/// Receive queues in use.
fn queues(interface: &str) -> u32 {
    ethtool::channels(interface)
        .ok()
        .flatten()
        .map_or(1, |c| c.rx_queues())
        .max(1)
}

fn open(
    config: &Config,
    underlay: &Underlay,
    index: u32,
    (seen, ports): (Seen, Vec<u16>),
    workers: &[Worker],
) -> Result<RingDescriptors, RingError> {
    let interface = underlay.interface.clone();
    let Seen { mtu, queues, .. } = seen;
    if mtu as usize > LARGEST {
        return Err(RingError::Mtu {
            interface,
            mtu,
            limit: LARGEST,
        });
    }
    let limit = MAX_RINGS * workers.len();
    if queues as usize > limit {
        return Err(RingError::Queues {
            interface,
            queues,
            limit,
            workers: workers.len(),
        });
    }
    let map = XskMap::new(queues)?;
    let mut rings = Vec::new();
    for worker in workers {
        let own: Vec<u32> = (0..queues)
            .filter(|queue| *queue as usize % workers.len() == worker.index())
            .collect();
        let fill = (FILL / own.len().max(1) as u32).min(FILL_OF_ONE);
        let configs = own
            .into_iter()
            .map(|queue| ring_config(config, index, queue, fill))
            .collect();
        for ring in open_at(config, underlay, worker, configs)? {
            map.set(ring.queue, ring.fd.as_fd())?;
            rings.push((worker.index(), ring));
        }
    }
    let filter = Filter {
        addresses: underlay.addresses(),
        ports,
        cidrs: Vec::new(),
    };
    let program = Program::load(&filter, &map, false)?;
    // Our tunnel ports are bound in this namespace, so no other agent is at work here.
    let want = AttachOptions {
        take_over: true,
        ..AttachOptions::default()
    };
    let attachment = Attachment::attach(&interface, &program, want)?;
    Ok(RingDescriptors {
        attachment,
        map,
        rings,
    })
}

fn ring_config(config: &Config, ifindex: u32, queue: u32, fill: u32) -> XskConfig {
    let us = config.underlay.xdp_busy_poll_us;
    XskConfig {
        ifindex,
        queue,
        ring: 0,
        entries: ENTRIES,
        fill,
        zero_copy: ZeroCopy::Prefer,
        busy_poll_us: (us > 0).then_some(us),
        patience: PATIENCE,
    }
}

fn open_at(
    config: &Config,
    underlay: &Underlay,
    worker: &Worker,
    configs: Vec<XskConfig>,
) -> Result<Vec<OpenedRing>, RingError> {
    let (done, answer) = bounded(1);
    worker.send(Command::OpenRings {
        configs,
        unfinished: unfinished(config, underlay),
        done,
    });
    let index = worker.index();
    match answer.recv_timeout(ANSWER) {
        Ok(result) => Ok(result?),
        Err(_) => Err(RingError::Silent { worker: index }),
    }
}

/// Whether checksums of received packets may be unfinished.
pub(super) fn unfinished(config: &Config, underlay: &Underlay) -> bool {
    match config.underlay.unfinished_checksums {
        Unfinished::Auto => underlay.veth,
        Unfinished::Accept => true,
        Unfinished::Refuse => false,
    }
}

fn close_rings(workers: &[Worker]) {
    let (done, answer) = bounded(workers.len());
    for worker in workers {
        worker.send(Command::CloseRings { done: done.clone() });
    }
    for _ in workers {
        if answer.recv_timeout(ANSWER).is_err() {
            tracing::error!("a worker did not close its rings in time");
            return;
        }
    }
}
