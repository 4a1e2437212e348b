//! Turns: a loop runs for so many seconds, alone or on several cores at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lane::Lane;
use super::pin;

/// Batches between two looks at the clock.
const STRETCH: u32 = 256;

/// What is measured: batches, and the packets in them.
pub(super) trait Loop {
    fn batch(&mut self) -> anyhow::Result<()>;
    /// Brought through so far.
    fn packets(&self) -> u64;
    /// Of those, dropped, by reason.
    fn drops(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// Every packet is accounted for.
    fn check(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Loop for Lane {
    #[inline]
    fn batch(&mut self) -> anyhow::Result<()> {
        Lane::batch(self)
    }

    fn packets(&self) -> u64 {
        Lane::packets(self)
    }

    fn drops(&self) -> Vec<(&'static str, u64)> {
        Lane::drops(self)
    }

    fn check(&self) -> anyhow::Result<()> {
        self.check_balance()
    }
}

/// One loop's share of a turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    pub(super) packets: u64,
    pub(super) seconds: f64,
    /// Of the thread's own clock: what others had of its core is not in it.
    pub(super) cpu_seconds: f64,
    /// Since the loop was made.
    pub(super) drops: Vec<(&'static str, u64)>,
}

impl Turn {
    pub(super) fn mpps(&self) -> f64 {
        self.packets as f64 / self.seconds / 1e6
    }

    /// As if the thread had had its core for itself.
    pub(super) fn mpps_of_core(&self) -> f64 {
        self.packets as f64 / self.cpu_seconds / 1e6
    }

    /// What the thread had of its core, at most 1.
    pub(super) fn share(&self) -> f64 {
        (self.cpu_seconds / self.seconds).min(1.0)
    }
}

/// Runs a loop for at least this long.
pub(super) fn go(work: &mut impl Loop, seconds: f64) -> anyhow::Result<Turn> {
    let packets = work.packets();
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let cpu_started = cpu_time()?;
    loop {
        for _ in 0..STRETCH {
            work.batch()?;
        }
        let elapsed = started.elapsed();
        if elapsed >= limit {
            return Ok(Turn {
                packets: work.packets() - packets,
                seconds: elapsed.as_secs_f64(),
                cpu_seconds: cpu_time()? - cpu_started,
                drops: Vec::new(),
            });
        }
    }
}

/// Seconds on the calling thread's own clock.
fn cpu_time() -> anyhow::Result<f64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64())
}

/// A turn after a warm-up of a tenth of it, in which nothing may be allocated or dropped.
pub(super) fn clean(work: &mut impl Loop, seconds: f64) -> anyhow::Result<Turn> {
    go(work, seconds / 10.0)?;
    let region = stats_alloc::Region::new(crate::ALLOCATOR);
    let turn = go(work, seconds)?;
    no_allocation(allocations(&region), turn.packets)?;
    work.check()?;
    let drops = work.drops();
    anyhow::ensure!(drops.is_empty(), "packets were dropped: {drops:?}");
    Ok(turn)
}

type Region = stats_alloc::Region<'static, std::alloc::System>;

/// Since the region began, growing ones included.
fn allocations(region: &Region) -> u64 {
    let change = region.change();
    (change.allocations + change.reallocations) as u64
}

/// # Errors
/// There was one.
pub(super) fn no_allocation(allocations: u64, packets: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        allocations == 0,
        "{allocations} allocations in {packets} packets: a packet's path must have none; find them with a heap profiler (heaptrack, valgrind --tool=dhat)"
    );
    Ok(())
}

/// One thread for each core (`None`: wherever), each with a loop of its own that it makes itself;
/// all measure at the same time. Also the number of allocations meanwhile, of all together.
///
/// # Errors
/// A core is not to be had, or a loop cannot be made or breaks.
pub(super) fn together<L: Loop>(
    make: impl Fn() -> anyhow::Result<L> + Sync,
    cores: &[Option<usize>],
    warm_up: f64,
    seconds: f64,
) -> anyhow::Result<(Vec<Turn>, u64)> {
    // Everybody comes to every barrier, also who has failed.
    let barrier = Barrier::new(cores.len() + 1);
    let failed = AtomicBool::new(false);
    let work = |core: Option<usize>| -> anyhow::Result<Turn> {
        let ready = core.map_or(Ok(()), pin).and_then(|()| make());
        let ready = ready.and_then(|mut work| go(&mut work, warm_up).map(|_| work));
        failed.fetch_or(ready.is_err(), Ordering::Relaxed);
        barrier.wait();
        barrier.wait();
        let done = ready.and_then(|mut work| match failed.load(Ordering::Relaxed) {
            true => Ok((work, Turn::default())),
            false => go(&mut work, seconds).map(|turn| (work, turn)),
        });
        barrier.wait();
        barrier.wait();
        let (work, mut turn) = done?;
        work.check()?;
        turn.drops = work.drops();
        Ok(turn)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = cores
            .iter()
            .map(|&core| scope.spawn(move || work(core)))
            .collect();
        barrier.wait();
        let region = stats_alloc::Region::new(crate::ALLOCATOR);
        barrier.wait();
        barrier.wait();
        let allocations = allocations(&region);
        barrier.wait();
        let turns = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok((turns, allocations))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counts(u64, bool);

    impl Loop for Counts {
        fn batch(&mut self) -> anyhow::Result<()> {
            anyhow::ensure!(!self.1, "broken");
            self.0 += 3;
            Ok(())
        }

        fn packets(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn each_core_has_a_loop_of_its_own() {
        let (turns, _) = together(|| Ok(Counts(0, false)), &[None, None, None], 0.0, 0.01).unwrap();
        assert_eq!(turns.len(), 3);
        for turn in turns {
            assert!(turn.packets > 0 && turn.packets % (3 * u64::from(STRETCH)) == 0);
            assert!(turn.seconds >= 0.01 && turn.cpu_seconds > 0.0);
            assert!(turn.mpps_of_core() >= turn.mpps() * 0.99, "{turn:?}");
        }
    }

    #[test]
    fn who_fails_does_not_keep_the_others_waiting() {
        let nowhere = [None, Some(4000)];
        let error = together(|| Ok(Counts(0, false)), &nowhere, 0.0, 60.0).unwrap_err();
        assert!(format!("{error:#}").contains("4000"), "{error:#}");
        let error = together(|| Ok(Counts(0, true)), &[None], 0.0, 60.0).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }

    #[test]
    fn an_allocation_is_an_error_with_its_number() {
        no_allocation(0, 100).unwrap();
        let error = no_allocation(7, 100).unwrap_err().to_string();
        assert!(error.starts_with("7 allocations in 100 packets"), "{error}");
    }
}
