//! A worker's thread, as the control plane holds it.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};
use ringway_switch::Counters;
use ringway_tables::Reader;

use super::command::{Command, Event};
use super::config::{UnderlaySocket, WorkerConfig};
use super::dropped::LastDropped;
use super::engine::{Engine, Shared};
use super::queue_id::{MAX_SOCKETS, Watched};
use super::ready::Ready;
use super::stats::{BufferStats, Load};

/// A running worker.
pub struct Worker {
    index: usize,
    commands: Sender<Command>,
    waker: Arc<mio::Waker>,
    load: Arc<Load>,
    buffers: Arc<BufferStats>,
    counters: Arc<Counters>,
    dropped: Arc<LastDropped>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// epoll or the thread cannot be made, or a socket cannot be watched.
    pub fn spawn(
        config: WorkerConfig,
        reader: Reader,
        counters: Arc<Counters>,
        underlays: Vec<UnderlaySocket>,
        events: Sender<Event>,
    ) -> anyhow::Result<Worker> {
        let index = config.index;
        let sockets = underlays.len();
        anyhow::ensure!(
            sockets <= MAX_SOCKETS,
            "{sockets} underlay sockets for worker {index}, at most {MAX_SOCKETS}: use fewer encapsulations"
        );
        let ready = Ready::new().context("cannot make an epoll instance")?;
        let waker = mio::Waker::new(ready.registry(), Watched::Waker.token());
        let waker = Arc::new(waker.context("cannot make an eventfd")?);
        let (commands, inbox): (Sender<Command>, Receiver<Command>) =
            crossbeam_channel::unbounded();
        let load = Arc::new(Load::default());
        let buffers = Arc::new(BufferStats::default());
        let shared = Shared {
            counters: counters.clone(),
            load: load.clone(),
            buffers: buffers.clone(),
            events: events.clone(),
        };
        let engine = Engine::new(config, reader, underlays, ready, inbox, shared);
        let dropped = engine.dropped().clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.run()));
                let reason = match outcome {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(panic) => format!("panic: {}", panic_text(&*panic)),
                };
                let _ = events.send(Event::Failed {
                    worker: index,
                    reason,
                });
            })
            .context("cannot start a worker thread")?;
        Ok(Worker {
            index,
            commands,
            waker,
            load,
            buffers,
            counters,
            dropped,
            thread,
        })
    }

    /// Hands the worker a command; it acts on it at its next round.
    pub fn send(&self, command: Command) {
        // A worker that has ended says so by an event; nobody is left to hear this.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }

    /// Number of the worker.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How busy it is; `rounds` grows at least twice a second while it is alive.
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Where its packet buffers are, and what its rings did; at most half a second old.
    pub fn buffers(&self) -> &BufferStats {
        &self.buffers
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The last frames it has dropped.
    pub fn dropped(&self) -> &Arc<LastDropped> {
        &self.dropped
    }

    /// Stops the thread and waits for it.
    pub fn join(self) {
        self.send(Command::Stop);
        let _ = self.thread.join();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
