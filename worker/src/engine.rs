//! The worker's loop: ready queues, receive, pipeline, carry out the verdict, flush once a round.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use ringway_ports::Batch;
use ringway_switch::{Counters, Pipeline};
use ringway_tables::Reader;

use super::activity::Activity;
use super::budget;
use super::command::{Command, Event};
use super::config::{Polling, UnderlaySocket, WorkerConfig};
use super::dropped::LastDropped;
use super::limits::epoch;
use super::observe::Observers;
use super::queue_id::QueueId;
use super::queues::Queues;
use super::ready::Ready;
use super::spin::Spin;
use super::stats::{BufferStats, Load};
use super::timers::Due;
use super::unreachable::Unreachable;
use super::visit::{Outcome, Round};

mod commands;
mod errors;

/// Time between two polls of epoll while packets flow, in nanoseconds. At 10 µs a sparse queue waits half as
/// long beside bulk, but sockets are visited for fewer datagrams and each costs 8 % more.
const POLL_PERIOD: u64 = 100_000;
/// The same for sparse queues alone, while one is active.
const SPARSE_POLL_PERIOD: u64 = 10_000;
/// How long after a packet of a sparse queue one counts as active, in nanoseconds.
const SPARSE_HOLD: u64 = 10_000_000;
/// Longest sleep; the heartbeat must show twice a second.
const SLEEP: Duration = Duration::from_millis(500);
/// How long frames may be on their way until the driver is woken, at first and later.
const FIRST_NUDGE: Duration = Duration::from_millis(1);
const LAST_NUDGE: Duration = Duration::from_millis(256);
/// Between two entries of where the buffers are, in nanoseconds.
const PUBLISH_PERIOD: u64 = 100_000_000;

/// What a worker shares with the control plane.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) counters: Arc<Counters>,
    pub(super) load: Arc<Load>,
    pub(super) buffers: Arc<BufferStats>,
    pub(super) events: Sender<Event>,
}

pub(super) struct Engine {
    config: WorkerConfig,
    reader: Reader,
    pipeline: Pipeline,
    queues: Queues,
    observers: Observers,
    ready: Ready,
    inbox: Receiver<Command>,
    shared: Shared,
    /// The underlay may be read, see [`Command::Listen`].
    listening: bool,
    spin: Spin,
    /// Until when a sparse queue counts as active; on the clock of `started`, in nanoseconds.
    sparse_until: u64,
    published: u64,
    nudged: Instant,
    nudge_after: Duration,
    unreachable: Unreachable,
    started: Instant,
}

impl Engine {
    pub(super) fn new(
        config: WorkerConfig,
        reader: Reader,
        underlays: Vec<UnderlaySocket>,
        ready: Ready,
        inbox: Receiver<Command>,
        shared: Shared,
    ) -> Engine {
        let queues = Queues::new(underlays, (config.index, config.count), config.largest);
        let pipeline = Pipeline::new(shared.counters.clone(), config.ports);
        let pipeline = pipeline.sharing(config.returns.clone());
        let spin = Spin::new(Duration::from_micros(config.idle_spin_us.into()));
        Engine {
            config,
            reader,
            pipeline,
            queues,
            observers: Observers::default(),
            ready,
            inbox,
            shared,
            listening: false,
            spin,
            sparse_until: 0,
            published: 0,
            nudged: Instant::now(),
            nudge_after: FIRST_NUDGE,
            unreachable: Unreachable::default(),
            started: epoch(),
        }
    }

    /// The last frames that were dropped.
    pub(super) fn dropped(&self) -> &Arc<LastDropped> {
        self.queues.dropped()
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
            self.shared.load.rounds.fetch_add(1, Relaxed);
            if self.ready.len() == 0 {
                self.wait(last_busy).context("epoll_wait failed")?;
                polled = self.started.elapsed().as_nanos() as u64;
            } else if now.saturating_sub(polled) >= POLL_PERIOD {
                self.ready
                    .refresh(Duration::ZERO)
                    .context("epoll_wait failed")?;
                polled = now;
            }
            if self.ready.take_woken() && !self.handle_commands() {
                return Ok(());
            }
            while let Some(socket) = self.ready.take_error() {
                self.read_errors(socket);
            }
            now = self.started.elapsed().as_nanos() as u64;
            if now - self.published > PUBLISH_PERIOD {
                self.published = now;
                let Queues {
                    buffers, uplink, ..
                } = &mut self.queues;
                uplink.rings.reclaim(&mut buffers.pool);
                uplink.rings.publish(&buffers.pool, &self.shared.buffers);
                self.shared.buffers.publish_sockets(uplink.received);
            }
            if self.queues.ports.timers.next() <= now {
                self.serve_due(now);
            }
            if self.round(now).context("epoll_wait failed")? {
                self.shared.load.busy_rounds.fetch_add(1, Relaxed);
                last_busy = Instant::now();
                let end = last_busy.duration_since(self.started).as_nanos() as u64;
                self.shared.load.busy_ns.add(end - now);
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
        for (i, xsk) in self.queues.uplink.rings.open.iter_mut().enumerate() {
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
        self.shared.load.sleeps.fetch_add(1, Relaxed);
        self.ready.refresh(due)?;
        if self.ready.len() > 0 {
            self.spin.woken(last_busy.elapsed());
        }
        Ok(())
    }

    /// How long may be slept for what is due.
    fn until_due(&self) -> Duration {
        match self.queues.ports.timers.next() {
            u64::MAX => SLEEP,
            at => {
                let now = self.started.elapsed().as_nanos() as u64;
                SLEEP.min(Duration::from_nanos(at.saturating_sub(now)))
            }
        }
    }

    /// Does what is due: queues are read again, frames that waited are written.
    fn serve_due(&mut self, now: u64) {
        while let Some(due) = self.queues.ports.timers.pop(now) {
            match due {
                Due::Read(queue) => self.resume(queue),
                Due::Drain(port) => {
                    let counters = self.pipeline.counters();
                    self.queues.ports.drain(counters, port, now);
                }
            }
        }
    }

    /// Looks after frames that are being sent; how long may be slept meanwhile. A driver that has them
    /// and does nothing is woken, asked for or not, in case it has missed a wake-up.
    fn await_sent(&mut self) -> Duration {
        let before = self.queues.uplink.rings.sending();
        if before == 0 {
            self.nudge_after = FIRST_NUDGE;
            return SLEEP;
        }
        self.queues.flush();
        let left = self.queues.uplink.rings.sending();
        if left == 0 {
            return Duration::ZERO;
        }
        if left != before {
            self.nudge_after = FIRST_NUDGE;
            self.nudged = Instant::now();
        } else if self.nudged.elapsed() >= self.nudge_after {
            self.queues.uplink.rings.nudge();
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
            queues,
            observers,
            ready,
            shared,
            started,
            sparse_until,
            ..
        } = self;
        let mut round = Round {
            snapshot: reader.load(),
            pipeline,
            queues,
            observer: observers.some(),
            now,
        };
        let mut left = ready.len();
        let others = left > 1;
        let mut busy = false;
        let mut polled_sparse = now;
        // When the visit before ended, and the frames until then.
        let (mut ended, mut seen) = (now, round.pipeline.counters().received.frames.get());
        while left > 0 && !round.queues.buffers.batch.is_full() {
            left -= 1;
            let Some(queue) = ready.pop() else { break };
            let sparse = now < *sparse_until;
            let (small, cost) = ready.costs(queue);
            let budget = budget::frames(others, sparse, small, cost);
            let bytes = if sparse {
                budget::LATENCY_BYTES
            } else {
                Batch::MAX_BYTES
            };
            round.queues.buffers.batch.allow(bytes);
            round.queues.read = 0;
            let outcome = round.visit(queue, budget);
            if sparse {
                // What is sparse would wait for that as well.
                round.queues.send();
            }
            let begun = std::mem::replace(&mut ended, started.elapsed().as_nanos() as u64);
            let queues = &mut *round.queues;
            queues.buffers.batch.allow(Batch::MAX_BYTES);
            match (outcome, queue) {
                (Outcome::Served { activity, more }, _) => {
                    busy = true;
                    let frames = round.pipeline.counters().received.frames.get();
                    shared.load.visited(ended - begun, frames - seen);
                    seen = frames;
                    ready.took(queue, ended - begun, queues.read);
                    let was_sparse = ready.is_sparse(queue);
                    if std::mem::take(&mut queues.waited_for) {
                        *sparse_until = now + SPARSE_HOLD;
                    }
                    if more {
                        ready.visited(queue, activity.and_more());
                        ready.again(queue);
                    } else {
                        ready.visited(queue, activity);
                        if was_sparse && activity == Activity::Sparse {
                            *sparse_until = now + SPARSE_HOLD;
                            if left > 0 {
                                // The rest of the round must not hold it up.
                                queues.send();
                            }
                        }
                    }
                }
                (Outcome::Throttled { until }, _) => {
                    if let Some(tap) = queues.ports.queue(queue) {
                        ready.pause(tap.fd().as_raw_fd());
                        queues.ports.timers.add(until, Due::Read(queue));
                    }
                }
                (Outcome::Gone, QueueId::Tap(port) | QueueId::Bulk(port)) => {
                    if let Some(tap) = queues.ports.queue(queue) {
                        let _ = shared.events.send(Event::PortGone {
                            port,
                            queue: tap.fd().clone(),
                            reason: "its interface was deleted".into(),
                        });
                    }
                }
                (Outcome::Empty | Outcome::Gone, _) => {}
            }
            if sparse && ended - polled_sparse >= SPARSE_POLL_PERIOD {
                let known = ready.len();
                ready.refresh_sparse()?;
                left += ready.len() - known;
                polled_sparse = ended;
            }
        }
        if busy {
            self.queues.flush();
            self.report_transmissions();
            if self.pipeline.has_probe_answers() {
                let events = &self.shared.events;
                self.pipeline.take_probe_answers(|answer| {
                    let _ = events.send(Event::Probed(answer));
                });
            }
        }
        Ok(busy)
    }
}
