//! The worker's loop: ready queues, receive, pipeline, carry out the verdict, flush once a round.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use ringway_ports::frame::Batch;
use ringway_ports::tap::Tap;
use ringway_switch::{Counters, Pipeline};
use ringway_tables::{PortId, Reader};

use super::found::Found;
use super::identification::Identifications;
use super::io::{Io, Served, TapQueue};
use super::limited::Limited;
use super::queue_id::QueueId;
use super::ready::Ready;
use super::receive::Opener;
use super::share;
use super::sockets;
use super::spin::Spin;
use super::timers::Due;
use super::{BufferStats, Command, Event, Load, Polling, Underlay, WorkerConfig, epoch};

mod errors;

/// Time between two looks at epoll while packets flow, in nanoseconds. At 10 µs a quiet pod waits half as
/// long beside bulk, but sockets are visited for fewer datagrams and each costs 8 % more.
const POLL_PERIOD: u64 = 100_000;
/// Time between two glances at epoll while a quiet queue talks and other packets flow, in nanoseconds.
const GLANCE_PERIOD: u64 = 10_000;
/// How long after a packet of a quiet queue both are so, in nanoseconds.
const TALK: u64 = 10_000_000;
/// Longest sleep; the heartbeat must show twice a second.
const SLEEP: Duration = Duration::from_millis(500);
/// How long frames may be on their way until the driver is woken, at first and later.
const FIRST_NUDGE: Duration = Duration::from_millis(1);
const LAST_NUDGE: Duration = Duration::from_millis(256);
/// Between two entries of where the buffers are, in nanoseconds.
const TELL_PERIOD: u64 = 100_000_000;
/// Longest packet of a usual MTU, Ethernet header and two VLAN tags included.
const USUAL_PACKET: usize = 1522;

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
    buffers: Arc<BufferStats>,
    /// The underlay may be read, see [`Command::Listen`].
    listening: bool,
    spin: Spin,
    /// A quiet queue talks; on the clock of `started`, in nanoseconds.
    talk_until: u64,
    told: u64,
    nudged: Instant,
    nudge_after: Duration,
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
        buffers: Arc<BufferStats>,
    ) -> anyhow::Result<Engine> {
        let ids = Identifications::new(config.index, config.count);
        let io = Io::new(underlays, config.largest.max(USUAL_PACKET), ids);
        let pipeline = Pipeline::new(counters, config.ports).sharing(config.returns.clone());
        let opener = Opener::new();
        let spin = Spin::new(Duration::from_micros(config.idle_spin_us.into()));
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
            buffers,
            listening: false,
            spin,
            talk_until: 0,
            told: 0,
            nudged: Instant::now(),
            nudge_after: FIRST_NUDGE,
            started: epoch(),
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
        let mut polled = 0;
        let mut now: u64 = 0;
        loop {
            self.load.rounds.fetch_add(1, Relaxed);
            if self.ready.len() == 0 {
                self.wait(last_busy).context("epoll_wait failed")?;
                polled = self.started.elapsed().as_nanos() as u64;
            } else if now.saturating_sub(polled) >= POLL_PERIOD {
                self.ready
                    .refresh(Duration::ZERO)
                    .context("epoll_wait failed")?;
                polled = now;
            }
            if self.ready.take_woken() && !self.obey() {
                return Ok(());
            }
            while let Some(socket) = self.ready.take_error() {
                self.read_errors(socket);
            }
            now = self.started.elapsed().as_nanos() as u64;
            if now - self.told > TELL_PERIOD {
                self.told = now;
                self.io.rings.reclaim(&mut self.io.pool);
                self.io.rings.tell(&self.io.pool, &self.buffers);
            }
            self.io.now = now;
            if self.io.timers.next() <= now {
                self.serve_due(now);
            }
            if self.round(now).context("epoll_wait failed")? {
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
            Polling::Adaptive => last_busy.elapsed() < self.spin.window(),
        };
        // A frame that came while we look costs no system call to find. One that the kernel has yet to
        // take must not wait for the next packet.
        let mut found = false;
        for (i, xsk) in self.io.rings.open.iter_mut().enumerate() {
            if spin {
                xsk.poll();
            }
            if xsk.has_received() {
                self.ready.again(QueueId::Ring(i as u32));
                found = true;
            }
        }
        if found {
            return Ok(());
        }
        let due = self.until_due();
        let pause = self.await_sent();
        if !spin && pause < SLEEP {
            return self.ready.refresh(pause.min(due));
        }
        if spin {
            self.ready.refresh(Duration::ZERO)?;
            if self.ready.len() == 0 {
                // Whoever shares this CPU may be the one that is to send the next packet.
                std::thread::yield_now();
            }
            return Ok(());
        }
        self.load.sleeps.fetch_add(1, Relaxed);
        self.ready.refresh(due)?;
        if self.ready.len() > 0 {
            self.spin.woken(last_busy.elapsed());
        }
        Ok(())
    }

    /// How long may be slept for what is due.
    fn until_due(&self) -> Duration {
        match self.io.timers.next() {
            u64::MAX => SLEEP,
            at => {
                let now = self.started.elapsed().as_nanos() as u64;
                SLEEP.min(Duration::from_nanos(at.saturating_sub(now)))
            }
        }
    }

    /// Does what is due: queues are read again, frames that waited are written.
    fn serve_due(&mut self, now: u64) {
        while let Some(due) = self.io.timers.pop(now) {
            match due {
                Due::Read(port) => self.resume(port),
                Due::Drain(port) => self.io.drain(self.pipeline.counters(), port, now),
            }
        }
    }

    /// Looks after frames that are being sent; how long may be slept meanwhile. A driver that has them
    /// and does nothing is woken, asked for or not, in case it has missed a wake-up.
    fn await_sent(&mut self) -> Duration {
        let before = self.io.rings.sending();
        if before == 0 {
            self.nudge_after = FIRST_NUDGE;
            return SLEEP;
        }
        self.io.flush();
        let left = self.io.rings.sending();
        if left == 0 {
            return Duration::ZERO;
        }
        if left != before {
            self.nudge_after = FIRST_NUDGE;
            self.nudged = Instant::now();
        } else if self.nudged.elapsed() >= self.nudge_after {
            self.io.rings.nudge();
            self.nudge_after = (2 * self.nudge_after).min(LAST_NUDGE);
            self.nudged = Instant::now();
        }
        self.nudge_after
    }

    /// One batch: visit ready queues, each frame to its verdict, flush, give the buffers back.
    fn round(&mut self, now: u64) -> std::io::Result<bool> {
        let Engine {
            reader,
            pipeline,
            io,
            opener,
            ready,
            events,
            started,
            talk_until,
            ..
        } = self;
        let snapshot = reader.load();
        let mut left = ready.len();
        let others = left > 1;
        let mut busy = false;
        let mut glanced = now;
        while left > 0 && !io.batch.is_full() {
            left -= 1;
            let Some(queue) = ready.pop() else { break };
            let talk = now < *talk_until;
            let tap = matches!(queue, QueueId::Tap(_));
            let share = share::of(others, talk, tap, ready.is_small(queue));
            io.batch.allow(share.bytes);
            let frames = share.frames;
            let outcome = match queue {
                QueueId::Socket(at) => {
                    io.serve_underlay(at as usize, snapshot, pipeline, opener, frames, now)
                }
                QueueId::Ring(at) => {
                    io.serve_ring(at as usize, snapshot, pipeline, opener, frames, now)
                }
                QueueId::Tap(port) => {
                    io.serve_tap(port.0 as usize, snapshot, pipeline, frames, now)
                }
            };
            io.batch.allow(Batch::MAX_BYTES);
            busy |= matches!(outcome, Served::Drained | Served::MoreMayWait);
            if outcome == Served::Gone
                && let QueueId::Tap(port) = queue
                && let Some(queue) = io.queue_of(port)
            {
                let reason = "its interface was deleted".into();
                let _ = events.send(Event::PortGone {
                    port,
                    queue,
                    reason,
                });
            }
            let was_quiet = ready.is_quiet(queue);
            match outcome {
                Served::MoreMayWait => {
                    ready.visited(queue, io.found.and_more());
                    ready.again(queue);
                }
                Served::Drained => ready.visited(queue, io.found),
                Served::Waits(at) => {
                    if let QueueId::Tap(PortId(port)) = queue
                        && let port = port as usize
                        && let Some(Some(TapQueue { tap, limited, .. })) = io.taps.get_mut(port)
                    {
                        ready.pause(tap.fd().as_raw_fd());
                        io.timers.add(at, Due::Read(port));
                        if let Some(limited) = limited {
                            limited.parked = true;
                        }
                    }
                }
                Served::Nothing | Served::Gone => {}
            }
            if was_quiet && outcome == Served::Drained && io.found == Found::Little {
                *talk_until = now + TALK;
                if left > 0 {
                    // The rest of the round must not hold it up.
                    io.send();
                }
            }
            if talk {
                let time = started.elapsed().as_nanos() as u64;
                if time - glanced >= GLANCE_PERIOD {
                    let known = ready.len();
                    ready.glance()?;
                    left += ready.len() - known;
                    glanced = time;
                }
            }
        }
        if busy {
            io.flush();
            self.tell();
        }
        Ok(busy)
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
                    limits,
                } => {
                    let index = port.0 as usize;
                    self.remove(port);
                    if self.io.taps.len() <= index {
                        self.io.taps.resize_with(index + 1, || None);
                    }
                    let id = QueueId::Tap(port);
                    if read && let Err(error) = self.ready.add(id, queue.as_raw_fd()) {
                        self.not_watched(port, queue.clone(), &error);
                    }
                    self.io.without_uso += usize::from(!uso);
                    self.io.taps[index] = Some(TapQueue {
                        tap: Tap::new(queue, port.0),
                        read,
                        uso,
                        limited: Limited::new(port, limits),
                    });
                }
                Command::Limit { port, limits } => {
                    let (index, now) = (port.0 as usize, self.io.now);
                    let counters = self.pipeline.counters();
                    if self.io.limit(counters, index, limits, now) {
                        self.resume(index);
                    }
                }
                Command::Announce { port, ips, mac } => {
                    let snapshot = self.reader.load();
                    self.io
                        .announce(snapshot, &mut self.pipeline, port, &ips, mac);
                }
                Command::RemoveTap { port, done } => {
                    self.remove(port);
                    let _ = done.send(());
                }
                Command::OpenRings {
                    configs,
                    unfinished,
                    done,
                } => {
                    self.unwatch_rings();
                    self.io.unfinished = unfinished;
                    let result = self.io.rings.open(&mut self.io.pool, &configs);
                    if self.listening {
                        self.watch_rings();
                    }
                    self.io.rings.tell(&self.io.pool, &self.buffers);
                    let _ = done.send(result);
                }
                Command::CloseRings { done } => {
                    self.unwatch_rings();
                    self.io.rings.close();
                    let _ = done.send(());
                }
                Command::Listen => {
                    self.listening = true;
                    self.watch_rings();
                    sockets::watch(&self.io.underlays, &mut self.ready);
                }
                Command::ReplaceSocket(new) => {
                    self.unwatch_errors();
                    let underlays = &mut self.io.underlays;
                    sockets::replace(underlays, *new, &mut self.ready, self.listening);
                    if self.listening && !self.io.rings.open.is_empty() {
                        self.watch_errors();
                    }
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn watch_rings(&mut self) {
        for (i, xsk) in self.io.rings.open.iter().enumerate() {
            let queue = QueueId::Ring(i as u32);
            if let Err(error) = self.ready.add(queue, xsk.fd().as_raw_fd()) {
                tracing::error!(queue = xsk.queue(), %error, "cannot watch an AF_XDP ring");
            }
        }
        if !self.io.rings.open.is_empty() {
            self.watch_errors();
        }
    }

    fn unwatch_rings(&mut self) {
        self.unwatch_errors();
        for (i, xsk) in self.io.rings.open.iter().enumerate() {
            self.ready
                .remove(QueueId::Ring(i as u32), xsk.fd().as_raw_fd());
        }
    }

    /// Reads a queue again that had to wait.
    fn resume(&mut self, port: usize) {
        let id = QueueId::Tap(PortId(port as u32));
        let Some(Some(queue)) = self.io.taps.get_mut(port) else {
            return;
        };
        if let Some(limited) = &mut queue.limited {
            limited.parked = false;
        }
        let fd = queue.tap.fd().clone();
        if let Err(error) = self.ready.resume(id, fd.as_raw_fd()) {
            self.not_watched(PortId(port as u32), fd, &error);
        }
    }

    fn not_watched(&self, port: PortId, queue: Arc<OwnedFd>, error: &std::io::Error) {
        let reason = format!("its queue cannot be watched: {error}");
        let _ = self.events.send(Event::PortGone {
            port,
            queue,
            reason,
        });
    }

    fn remove(&mut self, port: PortId) {
        if let Some(queue) = self.io.taps.get_mut(port.0 as usize).and_then(Option::take) {
            if queue.read {
                self.ready
                    .remove(QueueId::Tap(port), queue.tap.fd().as_raw_fd());
            }
            self.io.without_uso -= usize::from(!queue.uso);
            self.io.forget(self.pipeline.counters(), port, &queue);
        }
    }
}
