//! One worker's rounds from memory to memory, and what a number of them share.
//!
//! The worker's own visits, with memory in the place of TAPs and rings: what is read, opened, decided, cut,
//! encapsulated and written runs as on a node.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use ringway_encap::Encap;
use ringway_ports::memory::{Replay, ReplayFrame};
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_ports::{FRAME_SIZE, HEADROOM};
use ringway_switch::{Counters, DropReason, Pipeline, UdpPorts};
use ringway_tables::{PortId, Publisher, Reader};
use ringway_worker::{QueueId, Queues, Round, UnderlaySocket};

use super::Scenario;
use super::capture::Traffic;
use super::plan::{Plan, Tables};
use crate::devices::{InMemory, MemoryPort, MemoryRing};

/// How many entries the tables have at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fill {
    /// Routes.
    pub routes: usize,
    /// Peers.
    pub peers: usize,
    /// Local pods.
    pub pods: usize,
}

impl Fill {
    /// What the traffic needs.
    pub const TINY: Fill = Fill {
        routes: 0,
        peers: 0,
        pods: 0,
    };
    /// A large cluster as one of its nodes sees it.
    pub const REALISTIC: Fill = Fill {
        routes: 100_000,
        peers: 1_000,
        pods: 110,
    };
}

/// Frames and published tables, for any number of lanes.
pub struct Work {
    frames: Vec<ReplayFrame>,
    publisher: Publisher,
    ports: UdpPorts,
    scenario: Scenario,
    longest: usize,
}

impl Work {
    pub(super) fn new(plan: Plan, scenario: Scenario) -> Work {
        Work {
            longest: plan.frames.iter().map(|f| f.bytes.len()).max().unwrap_or(0),
            frames: plan.frames,
            publisher: Publisher::new(plan.snapshot),
            ports: UdpPorts {
                vxlan: plan.vxlan_port,
                udp: plan.udp_port,
            },
            scenario,
        }
    }

    /// Made frames, and tables that forward them.
    ///
    /// # Errors
    /// Frames or tables cannot be made.
    pub fn of(traffic: &Traffic, fill: Fill) -> anyhow::Result<Work> {
        let tables = Tables {
            scenario: traffic.scenario,
            routes: fill.routes,
            peers: fill.peers,
            pods: fill.pods,
            underlay: traffic.underlay,
        };
        let plan = Plan::of(&tables, traffic.frames()?)?;
        Ok(Work::new(plan, traffic.scenario))
    }

    /// Frames that are replayed.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// A worker with buffers, a pipeline, counters and a copy of the frames of its own. `batch` is the budget of
    /// a visit: so many frames of a port, four times as many of a ring.
    ///
    /// # Errors
    /// A frame is too long for a ring's buffers, or there is no loopback address to bind a socket to, whose
    /// port packets to peers have as theirs.
    pub fn lane(&self, batch: usize) -> anyhow::Result<Lane> {
        let limit = FRAME_SIZE - HEADROOM;
        anyhow::ensure!(
            self.longest <= limit,
            "a frame of {} bytes; a ring takes {limit} at most: leave longer ones out of the capture",
            self.longest
        );
        let mut queues = Queues::<InMemory>::new(self.sockets()?, (0, 1), self.longest);
        let snapshot = self.publisher.current();
        let ports: Vec<_> = snapshot.ports.iter().map(|(n, _)| PortId(n)).collect();
        for &port in &ports {
            queues.add_port(port, MemoryPort::default());
        }
        let replay = Some(Replay::new(self.frames.clone()));
        let mut ring = MemoryRing::default();
        let queue = if self.scenario.is_decap() {
            ring.replay = replay;
            QueueId::Ring(0)
        } else {
            let from = PortId(self.frames.first().map_or(0, |frame| frame.port));
            let source = MemoryPort {
                replay,
                ..MemoryPort::default()
            };
            // What one after the other sends, without end, is bulk on a node.
            queues.add_port(from, MemoryPort::default());
            let samples = self.frames.iter().map(|frame| frame.bytes.as_slice());
            queues
                .add_lane(from, source, samples)
                .context("a lane for bulk")?;
            QueueId::Bulk(from)
        };
        queues.add_ring(false, |_| anyhow::Ok(ring))?;
        queues.coalesce(self.scenario != Scenario::Decap);
        let counters = Arc::new(Counters::default());
        Ok(Lane {
            queues,
            queue,
            ports,
            pipeline: Pipeline::new(counters.clone(), self.ports),
            counters,
            reader: self.publisher.reader(),
            size: batch,
        })
    }

    /// One for each kind of path.
    fn sockets(&self) -> anyhow::Result<Vec<UnderlaySocket>> {
        if self.scenario != Scenario::Encap {
            return Ok(Vec::new());
        }
        let snapshot = self.publisher.current();
        let kinds: BTreeSet<_> = snapshot
            .paths
            .iter()
            .map(|(_, path)| (path.encap == Encap::Udp, path.dst.is_ipv6()))
            .collect();
        let socket = |(udp, v6): (bool, bool)| {
            let address = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
            let socket = UdpUnderlay::open(&SocketConfig::new(address.parse()?));
            Ok(UnderlaySocket {
                socket: socket.with_context(|| format!("a socket on {address}"))?,
                encap: match udp {
                    true => Encap::Udp,
                    false => Encap::Vxlan {
                        vni: snapshot.node.vni,
                    },
                },
                v6,
                unfinished: false,
            })
        };
        kinds.into_iter().map(socket).collect()
    }
}

/// One worker.
pub struct Lane {
    queues: Queues<InMemory>,
    /// What is visited.
    queue: QueueId,
    /// Where frames end that go to pods.
    ports: Vec<PortId>,
    pipeline: Pipeline,
    counters: Arc<Counters>,
    reader: Reader,
    size: usize,
}

impl Lane {
    /// Brings one batch through to its end.
    ///
    /// # Errors
    /// None; other loops that are measured have some.
    #[inline]
    pub fn batch(&mut self) -> anyhow::Result<()> {
        let mut round = Round {
            snapshot: self.reader.load(),
            pipeline: &mut self.pipeline,
            queues: &mut self.queues,
            observer: None,
            now: 0,
        };
        round.visit(self.queue, self.size);
        self.queues.flush();
        Ok(())
    }

    /// Packets received so far.
    pub fn packets(&self) -> u64 {
        self.counters.received.packets.get()
    }

    /// Packets that came out at the other end so far.
    pub fn forwarded(&mut self) -> u64 {
        self.ended().0
    }

    /// Packets and bytes that came out at the other end.
    fn ended(&mut self) -> (u64, u64) {
        let mut sum = (0, 0);
        for &port in &self.ports {
            if let Some(port) = self.queues.port(port) {
                sum = (sum.0 + port.null.packets, sum.1 + port.null.bytes);
            }
        }
        if let (_, Some(ring)) = self.queues.ring(0) {
            sum = (sum.0 + ring.null.packets, sum.1 + ring.null.bytes);
        }
        sum
    }

    /// Drops so far, by reason.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL
            .iter()
            .map(|r| (r.name(), self.counters.drops[r.index()].get()))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Fails if a frame has no verdict, or two.
    ///
    /// # Errors
    /// With the difference in frames and packets.
    pub fn check_balance(&self) -> anyhow::Result<()> {
        let balance = self.counters.balance();
        anyhow::ensure!(balance == (0, 0), "frames without a verdict: {balance:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringway_tables::PeerId;

    use super::*;
    use crate::lab::Family;

    #[test]
    fn everything_made_comes_out_at_the_other_end() {
        for scenario in Scenario::ALL {
            for (family, underlay) in [
                (Family::V4, Family::V4),
                (Family::V6, Family::V6),
                (Family::V4, Family::V6),
            ] {
                for fill in [Fill::TINY, Fill::REALISTIC] {
                    let traffic = Traffic {
                        underlay,
                        ..Traffic::small(scenario, family, 1000)
                    };
                    let mut lane = Work::of(&traffic, fill).unwrap().lane(50).unwrap();
                    while lane.packets() < 2000 {
                        lane.batch().unwrap();
                    }
                    let what = format!("{scenario:?} {family} in {underlay}, {fill:?}");
                    assert_eq!(lane.drops(), [], "{what}");
                    assert_eq!((lane.packets(), lane.forwarded()), (2000, 2000), "{what}");
                    let moved = match scenario {
                        Scenario::Encap => &lane.counters.tunnelled,
                        _ => &lane.counters.delivered,
                    };
                    assert_eq!(moved.packets.get(), 2000, "{what}");
                    let added = match (scenario, underlay) {
                        (Scenario::Forward, _) => 0,
                        (_, Family::V4) => 50,
                        (_, Family::V6) => 70,
                    };
                    let inner = 2000 * if family == Family::V4 { 60 } else { 62 };
                    let out = inner
                        + if scenario == Scenario::Encap {
                            2000 * added
                        } else {
                            0
                        };
                    assert_eq!(lane.ended().1, out, "{what}");
                    lane.check_balance().unwrap();
                }
            }
        }
    }

    #[test]
    fn realistic_tables_are_as_large_as_they_say() {
        for family in Family::BOTH {
            let traffic = Traffic::small(Scenario::Encap, family, 10);
            let work = Work::of(&traffic, Fill::REALISTIC).unwrap();
            let snapshot = work.publisher.current();
            let peers: Vec<_> = (0..2000).filter_map(|i| snapshot.peer(PeerId(i))).collect();
            assert_eq!(peers.len(), 1000, "{family}");
            let cidrs = peers.iter().flat_map(|peer| peer.cidrs.iter());
            assert_eq!(cidrs.clone().count(), 100_000, "{family}");
            let of_family =
                cidrs.filter(|cidr| cidr.to_string().contains(':') == (family == Family::V6));
            assert_eq!(of_family.count(), 100_000, "{family}");
            let pods = (1..2000).filter(|i| snapshot.port(PortId(*i)).is_some());
            assert_eq!(pods.count(), 110, "{family}");
        }
    }
}
