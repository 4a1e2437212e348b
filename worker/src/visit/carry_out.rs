//! Does what a verdict says.

use ringway_ports::pool::HEADROOM;
use ringway_ports::{Frame, SHARED, Tail};
use ringway_switch::{Counters, DropReason, Out, Tunnel, Verdict};

use super::Visit;
use crate::buffers::Buffers;
use crate::devices::Devices;
use crate::observe::{Entry, Observed, Watch};
use crate::queues::Queues;
use crate::transmit::{Loss, Outgoing};

impl<D: Devices, W: Watch> Visit<'_, D, W> {
    /// Does what the verdict says, and sends what the switch made.
    #[inline]
    pub(super) fn carry_out(&mut self, entry: Entry, frame: &Frame, verdict: Verdict) {
        if W::ON {
            let buffers = &self.queues.buffers;
            self.watch.verdict(&Observed {
                entry,
                verdict,
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
            Verdict::Answered | Verdict::Ignore(_) | Verdict::Drop(_) => {}
        }
        if !self.pipeline.outbox().is_empty() {
            self.send_originated();
        }
    }

    fn tunnel(&mut self, tunnel: &Tunnel, frame: &Frame, fragment: bool) {
        let out = Outgoing::new(self.snapshot, tunnel, frame, fragment);
        send(self.queues, self.pipeline.counters(), out, self.watch);
    }

    /// Sends what the switch made by itself.
    #[cold]
    pub(super) fn send_originated(&mut self) {
        let counters = self.pipeline.counters().clone();
        let queues = &mut *self.queues;
        for (out, bytes) in self.pipeline.outbox().frames() {
            counters.originated.add(1);
            let Buffers { pool, batch } = &mut queues.buffers;
            let Some(buf) = pool.alloc() else {
                counters.lose(DropReason::NoBuffer, 1, None);
                continue;
            };
            pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
            let len = bytes.len() as u32;
            let frame = Frame {
                buf: buf.id(),
                start: HEADROOM as u32,
                linear: len,
                len,
                tail: Tail::default(),
                offload: Default::default(),
                packets: 1,
                port: 0,
                slot: SHARED,
            };
            if W::ON {
                self.watch.verdict(&Observed {
                    entry: Entry::Switch,
                    verdict: match out {
                        Out::Port(port) => Verdict::Deliver(port),
                        Out::Tunnel(tunnel) => Verdict::Tunnel(tunnel),
                    },
                    frame: &frame,
                    pool,
                    tail: &[],
                });
            }
            match out {
                Out::Port(port) => {
                    counters.port(port).tx.add(1, bytes.len());
                    let buffers = &mut queues.buffers;
                    queues
                        .ports
                        .deliver(buffers, &counters, (port, &frame), self.now);
                    buffers.pool.free(buf);
                }
                Out::Tunnel(tunnel) => {
                    // In the batch first: it is queued until the flush of this round.
                    match batch.push(frame, buf) {
                        Ok(()) => {
                            let frame = batch.frames.pop().unwrap_or(frame);
                            let out = Outgoing::new(self.snapshot, &tunnel, &frame, false);
                            send(queues, &counters, out, self.watch);
                        }
                        Err(buf) => {
                            pool.free(buf);
                            counters.lose(DropReason::NoBuffer, 1, None);
                        }
                    }
                }
            }
        }
        self.pipeline.outbox().clear();
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
    let sent = out.and_then(|out| uplink.send(buffers, counters, &out, watch));
    if let Err(Loss { reason, packets }) = sent {
        counters.lose(reason, packets, None);
    }
}
