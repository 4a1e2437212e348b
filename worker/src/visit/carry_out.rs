//! Does what a verdict says, and sends what nobody sent.

use std::sync::Arc;

use ringway_ports::Frame;
use ringway_ports::pool::HEADROOM;
use ringway_ports::socket::Lane;
use ringway_switch::{Contents, Counters, DropReason, Out, Tunnel, Verdict, probe};
use ringway_tables::{PeerId, Snapshot};

use super::Visit;
use crate::buffers::Buffers;
use crate::devices::Devices;
use crate::dropped::Dropped;
use crate::observe::{Entry, Observed, Watch};
use crate::queues::Queues;
use crate::transmit::{Loss, Outgoing};

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Does what the verdict says, and sends what the switch made.
    #[inline]
    pub(super) fn carry_out(&mut self, entry: Entry, frame: &Frame, verdict: Verdict) {
        if W::ON {
            let contents = self.contents(entry);
            let to = peer_of(self.snapshot, &verdict);
            let buffers = &self.queues.buffers;
            self.watch.verdict(&Observed {
                entry,
                verdict,
                to,
                contents,
                frame,
                pool: &buffers.pool,
                tail: buffers.batch.tail(frame),
            });
        }
        match verdict {
            Verdict::Deliver(port) => {
                let (queues, counters) = (&mut *self.queues, self.pipeline.counters());
                let (ports, buffers) = (&mut queues.ports, &mut queues.buffers);
                ports.deliver(buffers, counters, (port, frame), self.now);
            }
            Verdict::Tunnel(tunnel) => self.tunnel(&tunnel, frame, false),
            Verdict::Fragment(tunnel) => self.tunnel(&tunnel, frame, true),
            Verdict::Drop(reason) => self.keep(entry, frame, reason),
            Verdict::Answered | Verdict::Ignore(_) => {}
        }
        if !self.pipeline.outbox().is_empty() {
            self.send_originated();
        }
    }

    /// What the bytes of the frame are that came in there last.
    #[inline(always)]
    fn contents(&self, entry: Entry) -> Contents {
        match entry {
            Entry::Port(_) | Entry::Switch => Contents::Frame,
            Entry::Peer(_) | Entry::Underlay => self.queues.scratch.arrivals.contents(),
        }
    }

    /// Keeps a frame that is dropped, if it is time for one of its reason.
    #[cold]
    #[inline(never)]
    fn keep(&mut self, entry: Entry, frame: &Frame, reason: DropReason) {
        if !self.queues.dropped.is_due(reason, self.now) {
            return;
        }
        let snapshot = self.snapshot;
        let name = match entry {
            Entry::Port(port) => snapshot.port(port).map(|port| &port.name),
            Entry::Peer(peer) => snapshot.peer(peer).map(|peer| &peer.name),
            Entry::Underlay | Entry::Switch => None,
        };
        let contents = self.contents(entry);
        let Queues {
            buffers, dropped, ..
        } = &mut *self.queues;
        let seen = Dropped {
            entry,
            name,
            contents,
            frame,
            pool: &buffers.pool,
            tail: buffers.batch.tail(frame),
        };
        dropped.keep(reason, self.now, &seen);
    }

    fn tunnel(&mut self, tunnel: &Tunnel, frame: &Frame, fragment: bool) {
        let tunnel = in_lane(self.lane, tunnel);
        let out = Outgoing::new(self.snapshot, &tunnel, frame, fragment);
        send(self.queues, self.pipeline.counters(), out, self.watch);
    }

    /// Sends what the switch made by itself.
    #[cold]
    pub(super) fn send_originated(&mut self) {
        let mut maker = Maker {
            snapshot: self.snapshot,
            counters: self.pipeline.counters().clone(),
            queues: &mut *self.queues,
            watch: &mut *self.watch,
            now: self.now,
        };
        for (out, bytes) in self.pipeline.outbox().frames() {
            maker.make(|room| {
                room.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some((out, bytes.len()))
            });
        }
        self.pipeline.outbox().clear();
    }

    /// Sends a probe. What has no room in a buffer, or no path, is not sent: it counts as unanswered.
    #[cold]
    pub(super) fn send_probe(&mut self, request: &probe::Request) {
        let mut maker = Maker {
            snapshot: self.snapshot,
            counters: self.pipeline.counters().clone(),
            queues: &mut *self.queues,
            watch: &mut *self.watch,
            now: self.now,
        };
        maker.make(|room| {
            let (tunnel, len) = probe::write(self.snapshot, request, self.now, room)?;
            Some((Out::Tunnel(tunnel), len))
        });
    }
}

/// What sends frames that nobody sent.
struct Maker<'a, D: Devices, W> {
    snapshot: &'a Snapshot,
    counters: Arc<Counters>,
    queues: &'a mut Queues<D>,
    watch: &'a mut W,
    now: u64,
}

impl<D: Devices, W: Watch> Maker<'_, D, W> {
    /// Has `write` write a frame and say where it goes and its length; none: it has nothing.
    fn make(&mut self, write: impl FnOnce(&mut [u8]) -> Option<(Out, usize)>) {
        let (queues, counters) = (&mut *self.queues, &*self.counters);
        let Buffers { pool, batch, .. } = &mut queues.buffers;
        let Some(buf) = pool.alloc() else {
            counters.originated.add(1);
            return counters.lose(DropReason::NoBuffer, 1, None);
        };
        let Some((out, len)) = write(&mut pool.bytes_mut(buf.id())[HEADROOM..]) else {
            return pool.free(buf);
        };
        counters.originated.add(1);
        let frame = Frame::whole(buf.id(), len as u32);
        if W::ON {
            let verdict = match out {
                Out::Port(port) => Verdict::Deliver(port),
                Out::Tunnel(tunnel) => Verdict::Tunnel(tunnel),
            };
            self.watch.verdict(&Observed {
                entry: Entry::Switch,
                verdict,
                to: peer_of(self.snapshot, &verdict),
                contents: Contents::Frame,
                frame: &frame,
                pool,
                tail: &[],
            });
        }
        match out {
            Out::Port(port) => {
                counters.port(port).tx.add(1, len);
                let (ports, buffers) = (&mut queues.ports, &mut queues.buffers);
                ports.deliver(buffers, &self.counters, (port, &frame), self.now);
                buffers.pool.free(buf);
            }
            // In the batch first: it is queued until the flush of this round.
            Out::Tunnel(tunnel) => match batch.push(frame, buf) {
                Ok(()) => {
                    let frame = batch.frames.pop().unwrap_or(frame);
                    let tunnel = in_lane(Lane::Quiet, &tunnel);
                    let out = Outgoing::new(self.snapshot, &tunnel, &frame, false);
                    send(queues, counters, out, self.watch);
                }
                Err(buf) => {
                    pool.free(buf);
                    counters.lose(DropReason::NoBuffer, 1, None);
                }
            },
        }
    }
}

/// The same in a lane of the underlay.
#[inline]
fn in_lane(lane: Lane, tunnel: &Tunnel) -> Tunnel {
    Tunnel {
        hash: lane.of_hash(tunnel.hash),
        ..*tunnel
    }
}

/// Whom a frame of this verdict is sent to.
fn peer_of(snapshot: &Snapshot, verdict: &Verdict) -> Option<PeerId> {
    match verdict {
        Verdict::Tunnel(tunnel) | Verdict::Fragment(tunnel) => {
            snapshot.path(tunnel.path).map(|path| path.peer)
        }
        _ => None,
    }
}

/// Sends a frame to a peer, and counts what of it was not sent.
fn send<D: Devices, W: Watch>(
    queues: &mut Queues<D>,
    counters: &Counters,
    out: Result<Outgoing<'_>, Loss>,
    watch: &mut W,
) {
    let (uplink, buffers) = (&mut queues.uplink, &mut queues.buffers);
    let (sent, peer) = match out {
        Ok(out) => (
            uplink.send(buffers, counters, &out, watch),
            Some(out.path.peer),
        ),
        Err(loss) => (Err(loss), None),
    };
    if let Err(Loss { reason, packets }) = sent {
        // What a peer is counted with has one direction by its reason.
        let peer = peer.filter(|_| reason.is_after_verdict());
        counters.lose(reason, packets, peer.map(|peer| counters.peer(peer)));
    }
}
