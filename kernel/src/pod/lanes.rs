//! The queues of a TAP: two lanes for each worker, where the kernel can steer.
//!
//! The kernel numbers queues in the order in which they are attached, and the steering program counts on
//! that order: the lanes of the first worker, those of the second, and so on. It is in place before the
//! second queue is: without it the kernel would choose by a table of its own, or by what an agent before
//! left there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ringway_ports::tap::{self, Opened, Slots, Steering, SteeringError, TapError};

/// The open queues of a TAP.
#[derive(Clone, Debug)]
pub struct Queues {
    /// One descriptor for each worker, or fewer, of a TAP that has no more queues.
    pub fds: Vec<Arc<OwnedFd>>,
    /// As many for bulk; `fds` are for quiet flows then.
    pub lanes: Option<Lanes>,
    /// The kernel takes UDP superframes.
    pub uso: bool,
}

/// The queues for bulk.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// One descriptor for each worker.
    pub fds: Vec<Arc<OwnedFd>>,
    /// Which flows are bulk.
    pub slots: Arc<Slots>,
}

impl Queues {
    /// One queue for all.
    pub fn single(opened: Opened) -> Queues {
        Queues {
            fds: vec![Arc::new(opened.fd)],
            lanes: None,
            uso: opened.offloads.uso,
        }
    }

    /// All descriptors.
    pub fn all(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        let lanes = self.lanes.iter().flat_map(|lanes| &lanes.fds);
        self.fds.iter().chain(lanes)
    }
}

/// Opens the other queues of the multi-queue TAP `name` of the calling thread's network namespace, of which
/// the first is open: lanes for each worker, or a queue for each where the kernel cannot steer.
///
/// # Errors
/// As [`tap::open_queue`].
pub fn open_others(queues: &mut Queues, name: &str, workers: usize) -> Result<(), TapError> {
    let Some(first) = queues.fds.first() else {
        return Ok(());
    };
    let steered = steer(first.as_fd(), workers);
    let more = |queues: &mut Queues| -> Result<Arc<OwnedFd>, TapError> {
        let opened = tap::open_queue(name, true)?;
        queues.uso &= opened.offloads.uso;
        Ok(Arc::new(opened.fd))
    };
    match steered {
        Ok(slots) => {
            let mut lanes = vec![more(queues)?];
            for _ in 1..workers {
                let quiet = more(queues)?;
                queues.fds.push(quiet);
                lanes.push(more(queues)?);
            }
            queues.lanes = Some(Lanes {
                fds: lanes,
                slots: Arc::new(slots),
            });
        }
        Err(error) => {
            tracing::warn!(
                interface = name,
                "no lanes, so small requests wait behind bulk of the same pod: {error}"
            );
            for _ in 1..workers {
                let next = more(queues)?;
                queues.fds.push(next);
            }
        }
    }
    Ok(())
}

fn steer(first: BorrowedFd<'_>, workers: usize) -> Result<Slots, SteeringError> {
    let steered = Steering::load(workers).and_then(|(steering, slots)| {
        steering.attach(first)?;
        Ok(slots)
    });
    if steered.is_err() {
        // What an agent before left would choose queues that nobody reads.
        tap::unsteer(first);
    }
    steered
}
