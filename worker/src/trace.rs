//! A frame through the pipeline and on to what a worker would send, without effect.
//!
//! ```text
//!   a port's frame | a peer's datagram or outer frame ▶ the pipeline's entry, recording ▶ verdict
//!                                                        ▶ planned as `transmit` does it, on paper
//! ```
//!
//! What is called is what a worker calls. What of it would change something is the tracer's own: counters, outbox,
//! limit of ICMP errors, buffers, and a copy of the table of flows. So an ICMP error is always shown; a worker may
//! leave it out where it has sent many. Not seen here is what depends on more than one packet: frames that coalesce,
//! bandwidth limits, and queues that are full.

use std::sync::Arc;

use ringway_encap::Encap;
use ringway_packet::offload::Offload;
use ringway_ports::{Batch, Buf, Frame, HEADROOM, Pool};
use ringway_switch::trace::{Recorder, Step};
use ringway_switch::{
    Arrivals, Contents, Counters, DropReason, Message, Options, Out, OuterFrame, Pipeline, Returns,
    Tunnel, UdpPorts, Verdict,
};
use ringway_tables::{PathId, PeerId, PortId, Snapshot};

use super::packet::{frame_of, packet_of};
use super::receive;
use super::transmit::{Carrier, Cut, Loss, Outgoing, send};

/// Most bytes of a frame: the longest IP packet, and headers of two layers.
pub const MAX_FRAME: usize = 65_535 + 256;
/// Buffers: the frame, one that the switch makes, one in which segments are put together.
const BUFFERS: usize = 4;

/// What a trace is to find in place: the tables, and what else decides.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// The tables.
    pub tables: &'a Snapshot,
    /// The table of flows; it is copied.
    pub returns: &'a Returns,
    /// UDP ports of tunnels.
    pub ports: UdpPorts,
    /// How what comes from peers is taken.
    pub options: Options,
    /// Monotonic nanoseconds, on the workers' clock.
    pub now: u64,
}

/// A frame, and how it comes in.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// As the queue of a local port brings it.
    Port {
        /// The port.
        port: PortId,
        /// From the Ethernet header on.
        frame: &'a [u8],
        /// Checksum and segmentation that are still to be done.
        offload: Offload,
        /// Packets that it stands for.
        packets: u16,
    },
    /// As a socket of the underlay brings it.
    Datagram {
        /// Outer source address, IPv4 mapped.
        source: u128,
        /// Outer TOS octet.
        tos: u8,
        /// What the socket's port carries.
        encap: Encap,
        /// From the tunnel's own header on.
        payload: &'a [u8],
    },
    /// As a ring of the underlay brings it: outer headers and all.
    Outer(&'a [u8]),
}

/// The frame is longer than any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the frame has {0} bytes, more than {MAX_FRAME}, which none has")]
pub struct TooLong(
    /// Its length.
    pub usize,
);

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What the pipeline found out.
    pub steps: Vec<Step>,
    /// The verdict.
    pub verdict: Verdict,
    /// Who sent it, if it came from a peer that is known.
    pub peer: Option<PeerId>,
    /// What its bytes are.
    pub contents: Contents,
    /// The frame as the verdict leaves it.
    pub frame: Vec<u8>,
    /// Checksum and segmentation that are still to be done.
    pub offload: Offload,
    /// Packets that it stands for.
    pub packets: u16,
    /// What goes to a peer.
    pub sent: Option<Sent>,
    /// What the switch makes of its own.
    pub made: Vec<Made>,
}

/// What goes to a peer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// By this path.
    pub path: PathId,
    /// Flow and outer TOS.
    pub tunnel: Tunnel,
    /// Payload of each outer packet, from the tunnel's own header on.
    pub datagrams: Vec<Vec<u8>>,
    /// Why it was not all, and packets that were not sent.
    pub lost: Option<(DropReason, u32)>,
}

/// A frame that the switch makes: an answer, an error.
#[derive(Clone, Debug)]
pub struct Made {
    /// Where it goes.
    pub out: Out,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// What goes to a peer.
    pub sent: Option<Sent>,
}

/// Traces one frame after another.
pub struct Tracer {
    counters: Arc<Counters>,
    pool: Pool,
    batch: Batch,
    arrivals: Arrivals<ringway_ports::BufId>,
}

impl Default for Tracer {
    fn default() -> Self {
        Tracer {
            counters: Arc::default(),
            pool: Pool::heap(BUFFERS, HEADROOM + MAX_FRAME),
            batch: Batch::new(),
            arrivals: Arrivals::new(),
        }
    }
}

impl Tracer {
    /// Its own counters: what they say is that of all traces.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What would become of a frame. A datagram may be several frames, or a superframe that is cut.
    ///
    /// # Errors
    /// The frame is longer than any.
    pub fn run(&mut self, basis: &Basis<'_>, given: &Given<'_>) -> Result<Vec<Traced>, TooLong> {
        let bytes = match *given {
            Given::Port { frame, .. } | Given::Outer(frame) => frame,
            Given::Datagram { payload, .. } => payload,
        };
        if bytes.len() > MAX_FRAME {
            return Err(TooLong(bytes.len()));
        }
        let returns = Arc::new(basis.returns.copy());
        let pipeline = Pipeline::new(self.counters.clone(), basis.ports).sharing(returns);
        // Each run gives all of them back.
        let Some((buf, frame)) = put(&mut self.pool, bytes) else {
            return Ok(Vec::new());
        };
        let mut run = Run {
            basis,
            tracer: self,
            pipeline,
        };
        let traced = match *given {
            Given::Port {
                port,
                offload,
                packets,
                ..
            } => {
                let frame = Frame {
                    offload,
                    packets,
                    port: port.0,
                    ..frame
                };
                vec![run.by_port(port, frame)]
            }
            Given::Datagram {
                source, tos, encap, ..
            } => {
                let message = Message {
                    buf: frame.buf,
                    start: frame.start,
                    len: frame.len,
                    segment: frame.len,
                    source,
                    tos,
                    encap,
                    congested: false,
                };
                run.by_socket(message)
            }
            Given::Outer(_) => run.by_ring(&frame),
        };
        self.pool.free(buf);
        Ok(traced)
    }
}

/// Puts a frame into a buffer of its own; `None` if none is left.
fn put(pool: &mut Pool, bytes: &[u8]) -> Option<(Buf, Frame)> {
    let buf = pool.alloc()?;
    pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    let frame = Frame::whole(buf.id(), bytes.len() as u32);
    Some((buf, frame))
}

struct Run<'a, 'b> {
    basis: &'a Basis<'a>,
    tracer: &'b mut Tracer,
    pipeline: Pipeline,
}

impl Run<'_, '_> {
    fn by_port(&mut self, port: PortId, frame: Frame) -> Traced {
        let mut recorder = Recorder::default();
        let mut packet = packet_of(&mut self.tracer.pool, &frame);
        let Basis { tables, now, .. } = *self.basis;
        let verdict = self
            .pipeline
            .from_port(tables, port, &mut packet, now, &mut recorder);
        let frame = frame_of(&packet, &frame);
        self.finish(recorder, verdict, frame, None)
    }

    fn by_socket(&mut self, message: Message<ringway_ports::BufId>) -> Vec<Traced> {
        let Basis {
            tables, options, ..
        } = *self.basis;
        let Tracer { arrivals, pool, .. } = &mut *self.tracer;
        self.pipeline
            .from_datagrams(tables, arrivals, pool, options, [message]);
        self.received()
    }

    fn by_ring(&mut self, frame: &Frame) -> Vec<Traced> {
        let Basis {
            tables, options, ..
        } = *self.basis;
        let outer = OuterFrame {
            buf: frame.buf,
            start: frame.start,
            len: frame.len,
        };
        let Tracer { arrivals, pool, .. } = &mut *self.tracer;
        self.pipeline
            .from_frames(tables, arrivals, pool, options, [outer]);
        self.received()
    }

    fn received(&mut self) -> Vec<Traced> {
        let Basis { tables, now, .. } = *self.basis;
        let mut all = Vec::new();
        loop {
            let mut recorder = Recorder::default();
            let Tracer {
                arrivals,
                pool,
                batch,
                ..
            } = &mut *self.tracer;
            let next = self
                .pipeline
                .next(tables, arrivals, pool, now, &mut recorder);
            let Some(arrival) = next else { break };
            let frame = receive::frame(&arrival, arrivals.tail(), batch);
            let traced = self.finish(recorder, arrival.verdict, frame, Some(arrival.peer));
            all.push(traced);
        }
        self.tracer.batch.slices.clear();
        all
    }

    /// `peer`: none for what came by a port.
    fn finish(
        &mut self,
        Recorder(steps): Recorder,
        verdict: Verdict,
        frame: Frame,
        peer: Option<Option<PeerId>>,
    ) -> Traced {
        let contents = match peer {
            None => Contents::Frame,
            Some(_) => self.tracer.arrivals.contents(),
        };
        let Tracer { pool, batch, .. } = &*self.tracer;
        let bytes: Vec<&[u8]> = pool.pieces(&frame, batch.tail(&frame)).flatten().collect();
        let bytes = bytes.concat();
        let sent = match verdict {
            Verdict::Tunnel(tunnel) => Some(self.send(&tunnel, &frame, false)),
            Verdict::Fragment(tunnel) => Some(self.send(&tunnel, &frame, true)),
            _ => None,
        };
        Traced {
            steps,
            verdict,
            peer: peer.flatten(),
            contents,
            frame: bytes,
            offload: frame.offload,
            packets: frame.packets,
            sent,
            made: self.made(),
        }
    }

    /// Takes what the switch made out of the outbox.
    fn made(&mut self) -> Vec<Made> {
        let frames = self.pipeline.outbox().frames();
        let frames: Vec<(Out, Vec<u8>)> = frames.map(|(out, f)| (out, f.to_vec())).collect();
        self.pipeline.outbox().clear();
        let made = frames.into_iter().map(|(out, frame)| {
            let sent = match out {
                Out::Port(_) => None,
                Out::Tunnel(tunnel) => self.send_made(&tunnel, &frame),
            };
            Made { out, frame, sent }
        });
        made.collect()
    }

    fn send_made(&mut self, tunnel: &Tunnel, bytes: &[u8]) -> Option<Sent> {
        let (buf, frame) = put(&mut self.tracer.pool, bytes)?;
        let sent = self.send(tunnel, &frame, false);
        self.tracer.pool.free(buf);
        Some(sent)
    }

    fn send(&mut self, tunnel: &Tunnel, frame: &Frame, fragment: bool) -> Sent {
        let mut paper = Paper {
            pool: &mut self.tracer.pool,
            counters: &self.tracer.counters,
            datagrams: Vec::new(),
        };
        let out = Outgoing::new(self.basis.tables, tunnel, frame, fragment);
        let lost = out.and_then(|out| send(&mut paper, &out)).err();
        Sent {
            path: tunnel.path,
            tunnel: *tunnel,
            datagrams: paper.datagrams,
            lost: lost.map(|Loss { reason, packets }| (reason, packets)),
        }
    }
}

/// Takes packets to nobody, and notes them down.
struct Paper<'a> {
    pool: &'a mut Pool,
    counters: &'a Counters,
    datagrams: Vec<Vec<u8>>,
}

impl Paper<'_> {
    /// A packet from its Ethernet header on, as the path carries it.
    fn note(&mut self, out: &Outgoing<'_>, packet: &[&[u8]]) {
        let encap = out.path.encap;
        let mut datagram = vec![0; encap.header_len()];
        encap.write_header(&mut datagram);
        let packet = packet.concat();
        let carried = packet.get(encap.carries().left_behind()..);
        datagram.extend_from_slice(carried.unwrap_or(&[]));
        self.datagrams.push(datagram);
    }
}

impl Carrier for Paper<'_> {
    fn memory(&mut self) -> (&mut Pool, &Counters) {
        (self.pool, self.counters)
    }

    fn whole(&mut self, out: &Outgoing<'_>) -> Result<(), DropReason> {
        let Frame {
            buf, start, linear, ..
        } = *out.frame;
        let packet = self.pool.slice(buf, start, linear);
        let packet = packet.ok_or(DropReason::Unsegmentable)?.to_vec();
        self.note(out, &[&packet]);
        Ok(())
    }

    fn reserve(&mut self, _: &Outgoing<'_>, _: usize, _: usize) {}

    fn part(
        &mut self,
        out: &Outgoing<'_>,
        frame: &Frame,
        cut: &Cut,
        i: usize,
    ) -> Result<(), DropReason> {
        let range = cut.payload(i);
        let (from, len) = (frame.start + range.start as u32, range.len() as u32);
        let payload = self.pool.slice(frame.buf, from, len);
        let payload = payload.ok_or(DropReason::Unsegmentable)?.to_vec();
        let mut header = vec![0; cut.header_len(i)];
        cut.write_header(i, &payload, &mut header);
        self.note(out, &[&header, &payload]);
        Ok(())
    }

    fn settle(&mut self) {}
}
