//! The worker's loop: ready queues, receive, pipeline, carry out the verdict, flush once a round.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use ringway_encap::Encap;
use ringway_ports::frame::Batch;
use ringway_ports::pool::{BUF_SIZE, HEADROOM};
use ringway_ports::socket::TxReport;
use ringway_ports::tap::Tap;
use ringway_ports::{Frame, Pool, Port, SHARED, Tail, TransmitError};
use ringway_switch::trace::Off;
use ringway_switch::{Counters, DropReason, Out, Pipeline, Tunnel, Verdict};
use ringway_tables::{PortId, Reader, Snapshot};

use super::ready::Ready;
use super::receive::{Kind, Opener};
use super::tunnel;
use super::view::{frame_of, packet_of};
use super::{Command, Event, Load, Polling, Underlay, WorkerConfig};

/// Buffers of a worker's pool. A batch holds at most 64 and what it originates; the rest is slack
/// that is never touched, and memory that is never touched costs nothing.
const BUFFERS: usize = 256;
/// Frames of one visit to a queue when others wait, so that none starves.
const SHARE: usize = 16;
/// Rounds between two looks at epoll while packets flow.
const ROUNDS_PER_POLL: u32 = 4;
/// Longest sleep; the heartbeat must show twice a second.
const SLEEP: Duration = Duration::from_millis(500);

struct TapQueue {
    tap: Tap,
    read: bool,
    uso: bool,
}

/// What carries verdicts out: buffers, TAPs, sockets.
struct Io {
    pool: Pool,
    batch: Batch,
    taps: Vec<Option<TapQueue>>,
    underlays: Vec<Underlay>,
    /// Index in `underlays` by (UDP encapsulation?, IPv6?).
    by_kind: [Option<usize>; 4],
    report: TxReport,
    /// TAPs that take no UDP superframes.
    without_uso: usize,
}

pub(super) struct Engine {
    config: WorkerConfig,
    reader: Reader,
    pipeline: Pipeline,
    io: Io,
    opener: Opener,
    ready: Ready,
    inbox: Receiver<Command>,
    events: Sender<Event>,
    load: Arc<Load>,
    started: Instant,
}

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        config: WorkerConfig,
        reader: Reader,
        counters: Arc<Counters>,
        underlays: Vec<Underlay>,
        ready: Ready,
        inbox: Receiver<Command>,
        events: Sender<Event>,
        load: Arc<Load>,
    ) -> anyhow::Result<Engine> {
        let mut by_kind = [None; 4];
        for (i, underlay) in underlays.iter().enumerate() {
            by_kind[kind(underlay.encap, underlay.v6)] = Some(i);
        }
        let io = Io {
            pool: Pool::heap(BUFFERS, BUF_SIZE),
            batch: Batch::new(),
            taps: Vec::new(),
            underlays,
            by_kind,
            report: TxReport::default(),
            without_uso: 0,
        };
        let pipeline = Pipeline::new(counters, config.ports);
        let opener = Opener::new();
        Ok(Engine {
            config,
            reader,
            pipeline,
            io,
            opener,
            ready,
            inbox,
            events,
            load,
            started: Instant::now(),
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        if let Some(cpu) = self.config.cpu {
            let mut set = nix::sched::CpuSet::new();
            set.set(cpu)
                .with_context(|| format!("CPU {cpu} is out of range"))?;
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
                .with_context(|| format!("cannot pin worker {} to CPU {cpu}", self.config.index))?;
        }
        let mut last_busy = Instant::now();
        let mut since_poll = 0;
        loop {
            self.load.rounds.fetch_add(1, Relaxed);
            if self.ready.len() == 0 {
                self.wait(last_busy).context("epoll_wait failed")?;
                since_poll = 0;
            } else if since_poll >= ROUNDS_PER_POLL {
                self.ready
                    .refresh(Duration::ZERO)
                    .context("epoll_wait failed")?;
                since_poll = 0;
            }
            since_poll += 1;
            if self.ready.take_woken() && !self.obey() {
                return Ok(());
            }
            let now = self.started.elapsed().as_nanos() as u64;
            if self.round(now) {
                self.load.busy_rounds.fetch_add(1, Relaxed);
                if self.config.polling == Polling::Adaptive {
                    last_busy = Instant::now();
                }
            }
        }
    }

    /// Nothing is ready: look again at once, or sleep, as configured.
    fn wait(&mut self, last_busy: Instant) -> std::io::Result<()> {
        let spin = match self.config.polling {
            Polling::Spin => true,
            Polling::Interrupt => false,
            Polling::Adaptive => {
                last_busy.elapsed() < Duration::from_micros(u64::from(self.config.idle_spin_us))
            }
        };
        if spin {
            self.ready.refresh(Duration::ZERO)?;
            if self.ready.len() == 0 {
                // Whoever shares this CPU may be the one that is to send the next packet.
                std::thread::yield_now();
            }
            return Ok(());
        }
        self.load.sleeps.fetch_add(1, Relaxed);
        self.ready.refresh(SLEEP)
    }

    /// One batch: visit ready queues, each frame to its verdict, flush, give the buffers back.
    fn round(&mut self, now: u64) -> bool {
        let Engine {
            reader,
            pipeline,
            io,
            opener,
            ready,
            ..
        } = self;
        let snapshot = reader.load();
        let waiting = ready.len();
        let budget = if waiting > 1 {
            SHARE
        } else {
            Batch::MAX_FRAMES
        };
        let mut busy = false;
        for _ in 0..waiting {
            if io.batch.is_full() {
                break;
            }
            let Some(queue) = ready.pop() else { break };
            let outcome = if queue < io.underlays.len() {
                io.serve_underlay(queue, snapshot, pipeline, opener, budget, now)
            } else {
                io.serve_tap(queue - io.underlays.len(), snapshot, pipeline, budget, now)
            };
            busy |= outcome != Served::Nothing;
            if outcome == Served::MoreMayWait {
                ready.again(queue);
            }
        }
        if busy {
            io.flush();
            self.tell();
        }
        busy
    }

    /// Passes on what the sockets reported, and counts what they lost.
    fn tell(&mut self) {
        let report = &mut self.io.report;
        for news in &report.path_mtu {
            let mtu = u16::try_from(news.mtu).unwrap_or(u16::MAX);
            let _ = self.events.try_send(Event::PathMtu {
                dest: news.dest,
                mtu,
            });
        }
        if let Some(off) = report.gso_disabled {
            let _ = self.events.try_send(Event::GsoOff {
                errno: off.errno,
                zero_checksum: off.zero_checksum,
            });
        }
        let drops = report.drops;
        if drops.total() > 0 {
            for (reason, packets) in [
                (DropReason::UnderlayFull, drops.full),
                (DropReason::UnderlayTooBig, drops.too_long),
                (DropReason::UnderlayUnreachable, drops.unreachable),
                (DropReason::UnderlayDenied, drops.denied),
                (DropReason::UnderlayError, drops.other + drops.invalid),
            ] {
                if packets > 0 {
                    self.pipeline.counters().lose(reason, packets as u32, None);
                }
            }
            if report.last_errno != 0 {
                let error = std::io::Error::from_raw_os_error(report.last_errno);
                tracing::debug!(%error, "the kernel refused datagrams to peers");
            }
        }
        report.clear();
    }

    /// Acts on commands; `false` means stop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::AddTap {
                    port,
                    queue,
                    read,
                    uso,
                } => {
                    let index = port.0 as usize;
                    self.remove(port);
                    if self.io.taps.len() <= index {
                        self.io.taps.resize_with(index + 1, || None);
                    }
                    let number = self.io.underlays.len() + index;
                    if read && let Err(error) = self.ready.add(number, queue.as_raw_fd()) {
                        tracing::error!(port = port.0, %error, "cannot watch the queue of a TAP");
                    }
                    self.io.without_uso += usize::from(!uso);
                    self.io.taps[index] = Some(TapQueue {
                        tap: Tap::new(queue, port.0),
                        read,
                        uso,
                    });
                }
                Command::RemoveTap { port, done } => {
                    self.remove(port);
                    let _ = done.send(());
                }
                Command::Listen => {
                    for (i, underlay) in self.io.underlays.iter().enumerate() {
                        if let Err(error) = self.ready.add(i, underlay.socket.rx_fd().as_raw_fd()) {
                            tracing::error!(%error, "cannot watch an underlay socket");
                        }
                    }
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn remove(&mut self, port: PortId) {
        if let Some(queue) = self.io.taps.get_mut(port.0 as usize).and_then(Option::take) {
            if queue.read {
                self.ready.remove(
                    self.io.underlays.len() + port.0 as usize,
                    queue.tap.fd().as_raw_fd(),
                );
            }
            self.io.without_uso -= usize::from(!queue.uso);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// Nothing was there.
    Nothing,
    /// Something was, and it was all.
    Drained,
    /// Something was, and there may be more.
    MoreMayWait,
}

impl Io {
    fn serve_tap(
        &mut self,
        port: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        budget: usize,
        now: u64,
    ) -> Served {
        let first = self.batch.frames.len();
        let Some(Some(queue)) = self.taps.get_mut(port) else {
            return Served::Nothing;
        };
        let before = queue.tap.counters();
        let received = queue.tap.receive(&mut self.pool, &mut self.batch, budget);
        let after = queue.tap.counters();
        let odd = after.malformed - before.malformed;
        for _ in 0..odd {
            // Not a frame at all: the vnet header itself makes no sense.
            pipeline.counters().received.add(1);
            let side = Some(pipeline.counters().port(PortId(port as u32)));
            pipeline
                .counters()
                .account(&Verdict::Drop(DropReason::BadOffload), 1, side);
        }
        let got = match received {
            Ok(got) => got,
            Err(error) => {
                // The device is gone; the control plane notices by itself and removes the port.
                tracing::debug!(port, %error, "read of a TAP failed");
                return Served::Nothing;
            }
        };
        for i in first..self.batch.frames.len() {
            self.frame_from_port(i, snapshot, pipeline, now);
        }
        let stopped_early = self.batch.is_full() || odd > 0 || after.no_buffer != before.no_buffer;
        match got {
            0 if !stopped_early => Served::Nothing,
            _ if got < budget && !stopped_early => Served::Drained,
            _ => Served::MoreMayWait,
        }
    }

    #[inline]
    fn frame_from_port(
        &mut self,
        i: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        now: u64,
    ) {
        let mut frame = self.batch.frames[i];
        let mut packet = packet_of(&mut self.pool, &frame);
        let verdict = pipeline.from_port(snapshot, PortId(frame.port), &mut packet, now, &mut Off);
        frame = frame_of(&packet, &frame);
        self.batch.frames[i] = frame;
        self.carry_out(snapshot, pipeline, &frame, verdict);
    }

    fn serve_underlay(
        &mut self,
        at: usize,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        opener: &mut Opener,
        budget: usize,
        now: u64,
    ) -> Served {
        let underlay = &mut self.underlays[at];
        let encap = underlay.encap;
        let got = match underlay
            .socket
            .receive(&mut self.pool, &mut opener.received, budget)
        {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "receive on the underlay failed");
                return Served::Nothing;
            }
        };
        let drained = opener.received.drained;
        if got == 0 && drained {
            return Served::Nothing;
        }
        let unfinished = self.underlays[at].unfinished;
        opener.open(
            snapshot,
            pipeline,
            &mut self.pool,
            Kind {
                encap,
                uso: self.without_uso == 0,
                unfinished,
            },
        );
        for i in 0..opener.len() {
            let Some(opened) = opener.take(i, snapshot, &mut self.pool, &mut self.batch) else {
                continue;
            };
            let mut frame = opened.frame;
            let mut packet = packet_of(&mut self.pool, &frame);
            let verdict = pipeline.from_peer(
                snapshot,
                opened.peer,
                opened.encap,
                opened.tos,
                &mut packet,
                opened.parsed,
                now,
                &mut Off,
            );
            frame = frame_of(&packet, &frame);
            self.carry_out(snapshot, pipeline, &frame, verdict);
        }
        // Everything received has been delivered or dropped, so the hot buffers can be used again at
        // once, by the next queue of this round.
        opener.received.recycle(&mut self.pool);
        self.batch.slices.clear();
        if drained {
            Served::Drained
        } else {
            Served::MoreMayWait
        }
    }

    /// Does what the verdict says, and sends what the switch made.
    #[inline]
    fn carry_out(
        &mut self,
        snapshot: &Snapshot,
        pipeline: &mut Pipeline,
        frame: &Frame,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Deliver(port) => self.deliver(pipeline.counters(), port, frame),
            Verdict::Tunnel(tunnel) => {
                self.tunnel(snapshot, pipeline.counters(), &tunnel, frame, false)
            }
            Verdict::Fragment(tunnel) => {
                self.tunnel(snapshot, pipeline.counters(), &tunnel, frame, true)
            }
            Verdict::Answered | Verdict::Ignore(_) | Verdict::Drop(_) => {}
        }
        if !pipeline.outbox().is_empty() {
            self.send_originated(snapshot, pipeline);
        }
    }

    #[inline]
    fn deliver(&mut self, counters: &Counters, port: PortId, frame: &Frame) {
        let Some(Some(queue)) = self.taps.get_mut(port.0 as usize) else {
            counters.lose(
                DropReason::PortGone,
                u32::from(frame.packets),
                Some(counters.port(port)),
            );
            return;
        };
        if let Err(error) = queue.tap.transmit(&mut self.pool, &self.batch, frame) {
            counters.lose(
                lost(error),
                u32::from(frame.packets),
                Some(counters.port(port)),
            );
        }
    }

    fn tunnel(
        &mut self,
        snapshot: &Snapshot,
        counters: &Counters,
        tunnel: &Tunnel,
        frame: &Frame,
        fragment: bool,
    ) {
        let lose = |reason| counters.lose(reason, u32::from(frame.packets), None);
        let Some(path) = snapshot.path(tunnel.path) else {
            return lose(DropReason::NoPath);
        };
        let Some(at) = self.by_kind[kind(path.encap, path.dst.is_ipv6())] else {
            return lose(DropReason::UnderlayUnreachable);
        };
        let mut sender = tunnel::Sender {
            socket: &mut self.underlays[at].socket,
            pool: &mut self.pool,
            report: &mut self.report,
            counters,
        };
        if let Err(reason) = sender.send(path, tunnel, frame, fragment) {
            lose(reason);
        }
    }

    #[cold]
    fn send_originated(&mut self, snapshot: &Snapshot, pipeline: &mut Pipeline) {
        let counters = pipeline.counters().clone();
        for (out, bytes) in pipeline.outbox().frames() {
            counters.originated.add(1);
            let Some(buf) = self.pool.alloc() else {
                counters.lose(DropReason::NoBuffer, 1, None);
                continue;
            };
            self.pool.bytes_mut(buf.id())[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
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
            match out {
                Out::Port(port) => {
                    counters.port(port).tx.add(1, bytes.len());
                    self.deliver(&counters, port, &frame);
                    self.pool.free(buf);
                }
                Out::Tunnel(tunnel) => {
                    self.tunnel(snapshot, &counters, &tunnel, &frame, false);
                    // Queued until the flush of this round.
                    if let Err(buf) = self.batch.hold(buf) {
                        self.pool.free(buf);
                    }
                }
            }
        }
        pipeline.outbox().clear();
    }

    /// Hands everything queued to the kernel and gives the batch's buffers back.
    fn flush(&mut self) {
        for underlay in &mut self.underlays {
            underlay.socket.flush(&self.pool, &mut self.report);
        }
        self.batch.recycle(&mut self.pool);
    }
}

/// Place of a socket in `by_kind`.
fn kind(encap: Encap, v6: bool) -> usize {
    usize::from(encap == Encap::Udp) * 2 + usize::from(v6)
}

fn lost(error: TransmitError) -> DropReason {
    match error {
        TransmitError::Full => DropReason::PortFull,
        TransmitError::Down => DropReason::PortDown,
        TransmitError::Gone => DropReason::PortGone,
        TransmitError::Refused { .. }
        | TransmitError::Malformed { .. }
        | TransmitError::Other(_) => DropReason::PortRefused,
    }
}
