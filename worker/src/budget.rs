//! How much one visit to a queue may take, so that none waits long for the others.

use ringway_ports::Batch;

/// Frames when other queues wait.
const BUSY: usize = 16;
/// The same of a pod that sends many small packets: each costs two system calls and the receiver's stack,
/// and what a flood takes of a core others have not.
const SMALL_PACKETS: usize = 2;
/// Time that a visit takes about, while a sparse queue is active, in nanoseconds: two or three superframes, or as many
/// acknowledgements as their pod's stack takes meanwhile. What is sparse waits for one such visit at most.
const LATENCY: u32 = 100_000;
/// Bytes of a pod's queue meanwhile: two superframes. What one takes is not known before it was written.
pub(super) const LATENCY_BYTES: usize = 96 * 1024;
/// What a frame takes of a queue that was not visited yet.
const UNKNOWN: u32 = 12_000;

/// Most frames of one visit. `others` wait besides; a sparse queue was active of late (`sparse`); the queue is a
/// pod's which sends many small packets as a rule (`small`: each frame costs a system call or two, where sockets and
/// rings give many at once); a frame of it takes `cost` nanoseconds, 0 if that is not known.
#[inline]
pub(super) fn frames(others: bool, sparse: bool, small: bool, cost: u32) -> usize {
    let fair = match others {
        true if small => SMALL_PACKETS,
        true => BUSY,
        false => Batch::MAX_FRAMES,
    };
    if !sparse {
        return fair;
    }
    let cost = if cost == 0 { UNKNOWN } else { cost };
    fair.min((LATENCY / cost).max(1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_takes_less_the_more_others_depend_on_it() {
        // Alone, whatever it sends.
        assert_eq!(frames(false, false, true, 3000), Batch::MAX_FRAMES);
        // Beside others: a flood of small packets gets an eighth of what bulk gets.
        assert_eq!(8 * frames(true, false, true, 3000), BUSY);
        assert_eq!(frames(true, false, false, 25_000), BUSY);
        // While somebody waits for an answer, also the only queue that is ready.
        for others in [true, false] {
            assert_eq!(frames(others, true, false, 25_000), 4);
            assert_eq!(frames(others, true, false, 400_000), 1);
            assert_eq!(frames(others, true, false, 0), 8);
        }
        assert_eq!(frames(true, true, false, 1000), BUSY);
        assert_eq!(frames(true, true, true, 1000), SMALL_PACKETS);
        assert_eq!(frames(false, true, false, 2000), 50);
    }
}
