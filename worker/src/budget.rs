//! How much one visit to a queue may take, so that none waits long for the others.

use ringway_ports::Batch;

/// Frames when other queues wait.
const BUSY: usize = 16;
/// The same of a pod that sends many small packets: each costs two system calls and the receiver's stack,
/// and what a flood takes of a core others have not.
const SMALL_PACKETS: usize = 2;
/// Frames of a pod, and bytes of any queue, while a sparse queue is active: two superframes, or acknowledgements
/// that take the stack of their pod some 20 µs. What is sparse waits for one such visit at most.
const LATENCY_FRAMES: usize = 4;
const LATENCY_BYTES: usize = 96 * 1024;

/// Most of one visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget {
    pub(super) frames: usize,
    /// The frame that passes this is the last.
    pub(super) bytes: usize,
}

impl Budget {
    /// `others` wait besides; a sparse queue was active of late (`sparse`); the queue is a pod's (`tap`:
    /// each frame costs a system call or two, where sockets and rings give many at once), which sends many
    /// small packets as a rule (`small`).
    #[inline]
    pub(super) fn of(others: bool, sparse: bool, tap: bool, small: bool) -> Budget {
        let frames = match (others, sparse) {
            (true, _) if tap && small => SMALL_PACKETS,
            (_, true) if tap => LATENCY_FRAMES,
            (true, _) => BUSY,
            (false, _) => Batch::MAX_FRAMES,
        };
        let bytes = if sparse {
            LATENCY_BYTES
        } else {
            Batch::MAX_BYTES
        };
        Budget { frames, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_takes_less_the_more_others_depend_on_it() {
        let frames = |others, sparse, tap, small| Budget::of(others, sparse, tap, small).frames;
        // Alone, whatever it sends.
        assert_eq!(frames(false, false, true, true), Batch::MAX_FRAMES);
        // Beside others: a flood of small packets gets an eighth of what bulk gets.
        assert_eq!(8 * frames(true, false, true, true), BUSY);
        assert_eq!(frames(true, false, true, false), BUSY);
        // While somebody waits for an answer, also the only queue that is ready.
        for others in [true, false] {
            assert_eq!(frames(others, true, true, false), LATENCY_FRAMES);
            for tap in [true, false] {
                assert_eq!(Budget::of(others, true, tap, false).bytes, LATENCY_BYTES);
                assert_eq!(
                    Budget::of(others, false, tap, false).bytes,
                    Batch::MAX_BYTES
                );
            }
        }
        // Sockets and rings give many frames at once.
        for small in [true, false] {
            assert_eq!(frames(true, true, false, small), BUSY);
            assert_eq!(frames(false, true, false, small), Batch::MAX_FRAMES);
        }
    }
}
