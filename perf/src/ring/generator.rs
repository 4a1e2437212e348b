//! The other end of the wire: a thread on a core of its own that sends as fast as the ring takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::stage::End;
use crate::pipeline;

/// Frames of one system call, about what the kernel takes at once.
const BURST: usize = 32;

/// A running generator.
pub(super) struct Generator {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<End>,
}

impl Generator {
    /// Sends `frames` in turn, `rate` a second (0: all it can), on CPU `core`.
    pub(super) fn start(
        mut end: End,
        frames: Vec<Vec<u8>>,
        rate: u64,
        core: usize,
    ) -> anyhow::Result<Generator> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (halt, count) = (stop.clone(), sent.clone());
        let thread = std::thread::Builder::new()
            .name("generator".into())
            .spawn(move || {
                // Where there is one core only, it competes with the loop it feeds.
                let _ = pipeline::pin(core);
                let (pool, xsk) = end.ring();
                let mut carousel = xsk.carousel(pool, &frames);
                let (begin, mut total) = (Instant::now(), 0u64);
                while !halt.load(Ordering::Relaxed) {
                    total += xsk.bare_transmit(&mut carousel, BURST) as u64;
                    count.store(total, Ordering::Relaxed);
                    if rate > 0 {
                        let due = Duration::from_secs_f64(total as f64 / rate as f64);
                        while begin.elapsed() < due && !halt.load(Ordering::Relaxed) {
                            std::hint::spin_loop();
                        }
                    }
                }
                xsk.end_carousel(pool, carousel);
                end
            })?;
        Ok(Generator { stop, sent, thread })
    }

    /// Frames sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(super) fn stop(self) -> anyhow::Result<End> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the generator panicked"))
    }
}
