//! Bandwidth limits of a pod: what the capability `bandwidth` asks for, and what it comes to.
//!
//! ```text
//!   from the pod (egress):  its queue is not read while the bucket is empty; the pod's own queue fills
//!   to the pod (ingress):   frames wait in a small queue of the worker; what does not fit is dropped
//! ```
//!
//! How, is in `shaper.rs`. One [`RateLimits`] is shared by all workers, so a limit holds for their sum.

use std::sync::LazyLock;
use std::time::Instant;

use ringway_ports::BUF_SIZE;
use ringway_switch::Bucket;
use ringway_switch::bucket::MAX_RATE;

/// Where the clock of all workers begins: they share the buckets of [`RateLimits`].
pub fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// Lowest rate, in bit/s: below it a full packet takes longer than its connection waits.
pub const RATE_MIN: u64 = 1000;
/// A burst of so many bytes or more is refused, as the reference plugin does.
pub const BURST_LIMIT: u64 = u32::MAX as u64;
/// What container runtimes write where nobody asked for a burst (older ones, containerd, CRI-O): a quarter
/// of a gigabyte to 4 GiB, behind which no limit would be felt. Kubernetes has no way to ask for one.
const NO_BURST: [u64; 3] = [i32::MAX as u64, u32::MAX as u64, BURST_LIMIT * 8 - 1];

const MS: u64 = 1_000_000;
/// Burst that nobody asked for, in time at the rate.
const DEFAULT_BURST: u64 = 100 * MS;
/// Smallest burst, in time at the rate: a worker that sleeps wakes up to a millisecond late, and what is
/// earned above the burst meanwhile would be lost.
const LEAST_BURST: u64 = 2 * MS;
/// What is waited for at least, in time at the rate, so that a worker is not woken for each packet.
const QUANTUM: u64 = 4 * MS;
/// What may wait for a pod: in time at the rate, in superframes at least, and in bytes at most.
const ROOM: u64 = 50 * MS;
const ROOM_FRAMES: u64 = 2;
const ROOM_MAX: u64 = 8 << 20;

/// Why limits were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// So little that nothing would work.
    #[error(
        "{direction} rate of {rate} bit/s is below {RATE_MIN}; raise it, or give 0 for no limit"
    )]
    RateTooLow {
        /// Which one.
        direction: Direction,
        /// bit/s.
        rate: u64,
    },
    /// A burst of what?
    #[error("{direction} burst of {burst} bits without a rate; give a rate, or leave both out")]
    BurstAlone {
        /// Which one.
        direction: Direction,
        /// Bits.
        burst: u64,
    },
    /// More than the reference plugin takes.
    #[error(
        "{direction} burst of {burst} bits is not below 4 GiB ({} bits); \
         leave it out for {} ms at the rate",
        BURST_LIMIT * 8, DEFAULT_BURST / MS
    )]
    BurstTooLarge {
        /// Which one.
        direction: Direction,
        /// Bits.
        burst: u64,
    },
}

/// Seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// What is asked for in one direction. A rate of 0 is no limit, a burst of 0 the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// bit/s.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

/// The limits of a pod, and how much of them is used up.
#[derive(Debug)]
pub struct RateLimits {
    /// To the pod.
    pub ingress: Option<Limit>,
    /// From the pod.
    pub egress: Option<Limit>,
}

impl RateLimits {
    /// What is asked for. Without any rate it limits nothing ([`is_none`](Self::is_none)).
    ///
    /// # Errors
    /// A rate or a burst that makes no sense.
    pub fn new(ingress: Rate, egress: Rate) -> Result<RateLimits, LimitError> {
        Ok(RateLimits {
            ingress: limit(Direction::Ingress, ingress)?,
            egress: limit(Direction::Egress, egress)?,
        })
    }

    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// One direction.
#[derive(Debug)]
pub struct Limit {
    /// What may pass now; in nanoseconds since [`epoch`].
    pub bucket: Bucket,
    /// Bytes to wait for at least.
    pub quantum: u64,
    /// The time in which they are earned, in nanoseconds.
    pub pause: u64,
    /// Bytes that may wait.
    pub room: u64,
}

fn limit(direction: Direction, asked: Rate) -> Result<Option<Limit>, LimitError> {
    let Rate { rate, burst } = asked;
    if rate == 0 {
        return match burst {
            0 => Ok(None),
            burst => Err(LimitError::BurstAlone { direction, burst }),
        };
    }
    if rate < RATE_MIN {
        return Err(LimitError::RateTooLow { direction, rate });
    }
    if burst / 8 >= BURST_LIMIT {
        return Err(LimitError::BurstTooLarge { direction, burst });
    }
    let rate = rate / 8;
    if rate >= MAX_RATE {
        // No machine gets there; Kubernetes allows up to 1 Pbit/s.
        return Ok(None);
    }
    let burst = match burst {
        0 => 0,
        burst if NO_BURST.contains(&burst) => 0,
        burst => (burst / 8).max(1),
    };
    Ok(Some(Limit::new(rate, burst)))
}

impl Limit {
    /// `rate` in bytes per second, `burst` in bytes, 0 for the default.
    fn new(rate: u64, burst: u64) -> Limit {
        let superframe = BUF_SIZE as u64;
        let unit = Bucket::new(rate, 1);
        let burst = match burst {
            0 => unit.bytes_in(DEFAULT_BURST).max(superframe),
            burst => burst.max(unit.bytes_in(LEAST_BURST)),
        };
        let room = unit
            .bytes_in(ROOM)
            .max(burst.min(unit.bytes_in(DEFAULT_BURST)))
            .clamp(ROOM_FRAMES * superframe, ROOM_MAX);
        // With half of it a wake-up that comes late loses nothing.
        let quantum = unit.bytes_in(QUANTUM).min(burst / 2).max(1);
        let pause = unit.nanoseconds_for(quantum).min(QUANTUM);
        Limit {
            quantum,
            pause,
            room,
            bucket: Bucket::new(rate, burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(rate: u64, burst: u64) -> Result<RateLimits, LimitError> {
        RateLimits::new(Rate { rate, burst }, Rate::default())
    }

    /// Rate, burst, quantum, room of a limit to the pod.
    fn of(rate: u64, burst: u64) -> (u64, u64, u64, u64) {
        let limits = ingress(rate, burst).unwrap();
        assert!(limits.egress.is_none());
        let limit = limits.ingress.unwrap();
        let bucket = &limit.bucket;
        (bucket.rate(), bucket.burst(), limit.quantum, limit.room)
    }

    const SUPERFRAME: u64 = BUF_SIZE as u64;

    #[test]
    fn bits_become_bytes() {
        let two = 2 * SUPERFRAME;
        assert_eq!(of(20_000_000, 800_000), (2_500_000, 100_000, 10_000, two));
        let gigabit = (125_000_000, 12_500_000, 500_000, ROOM_MAX);
        assert_eq!(of(1_000_000_000, 100_000_000), gigabit);
        assert_eq!(of(1000, 16), (125, 2, 1, two));
    }

    #[test]
    fn a_burst_that_nobody_chose_is_what_passes_in_100_ms() {
        for burst in [0, i32::MAX as u64, u32::MAX as u64, 34_359_738_359] {
            assert_eq!(of(100_000_000, burst).1, 1_250_000);
            assert_eq!(of(1000, burst).1, SUPERFRAME);
        }
        assert_eq!(of(100_000_000, u32::MAX as u64 - 8).1, 536_870_910);
    }

    #[test]
    fn a_burst_too_small_for_the_rate_is_raised() {
        // 2 ms at 1 Gbit/s; half of it is waited for.
        let (_, burst, quantum, _) = of(1_000_000_000, 8);
        assert_eq!((burst, quantum), (250_000, 125_000));
    }

    #[test]
    fn no_burst_makes_the_queue_long() {
        assert_eq!(of(20_000_000, 8 * (BURST_LIMIT - 1)).3, 250_000);
    }

    #[test]
    fn each_direction_has_its_own() {
        let [to, from] = [8000, 80_000].map(|rate| Rate { rate, burst: 0 });
        let limits = RateLimits::new(to, from).unwrap();
        let rate = |limit: Option<Limit>| limit.unwrap().bucket.rate();
        assert_eq!((rate(limits.ingress), rate(limits.egress)), (1000, 10_000));
        assert!(ingress(0, 0).unwrap().is_none());
        assert!(ingress(8 * MAX_RATE, 0).unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_and_value() {
        let direction = Direction::Ingress;
        for (rate, burst, error, text) in [
            (
                999,
                0,
                LimitError::RateTooLow {
                    direction,
                    rate: 999,
                },
                "ingress rate of 999 bit/s is below 1000; raise it, or give 0 for no limit",
            ),
            (
                0,
                5,
                LimitError::BurstAlone {
                    direction,
                    burst: 5,
                },
                "ingress burst of 5 bits without a rate; give a rate, or leave both out",
            ),
            (
                1000,
                34_359_738_360,
                LimitError::BurstTooLarge {
                    direction,
                    burst: 34_359_738_360,
                },
                "ingress burst of 34359738360 bits is not below 4 GiB (34359738360 bits); \
                 leave it out for 100 ms at the rate",
            ),
        ] {
            let got = ingress(rate, burst).unwrap_err();
            assert_eq!((got, got.to_string().as_str()), (error, text));
        }
        assert!(ingress(1000, 34_359_738_359).is_ok());
        let egress = Rate { rate: 1, burst: 0 };
        let error = RateLimits::new(Rate::default(), egress).unwrap_err();
        assert!(error.to_string().starts_with("egress rate of 1 bit/s"));
    }
}
