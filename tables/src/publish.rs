//! From the one who changes tables to the workers who read them.
//!
//! The publisher swaps one pointer; a reader compares that pointer with its own at each batch (one
//! relaxed load while nothing has changed) and never waits. A replaced snapshot is kept by the
//! publisher until no reader holds it, so that freeing tens of megabytes never happens on a
//! worker: the publisher's reference is always the last.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::Snapshot;

/// The only writer.
pub struct Publisher {
    shared: Arc<ArcSwap<Snapshot>>,
    current: Arc<Snapshot>,
    /// Replaced, and maybe still read.
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Starts with a first snapshot.
    pub fn new(first: Snapshot) -> Publisher {
        let current = Arc::new(first);
        let shared = Arc::new(ArcSwap::new(current.clone()));
        Publisher {
            shared,
            current,
            retired: Vec::new(),
        }
    }

    /// A reader for one worker.
    pub fn reader(&self) -> Reader {
        Reader {
            cache: Cache::new(self.shared.clone()),
        }
    }

    /// The snapshot that readers see; clone it to build the next one.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.clone()
    }

    /// Replaces the snapshot and returns the new one's version, one above the last.
    pub fn publish(&mut self, mut next: Snapshot) -> u64 {
        let version = self.current.version + 1;
        next.version = version;
        let next = Arc::new(next);
        self.shared.store(next.clone());
        self.retired
            .push(std::mem::replace(&mut self.current, next));
        self.reclaim();
        version
    }

    /// Frees replaced snapshots that nobody reads any more; returns how many are still read.
    /// [`publish`](Self::publish) does it too; call it also when nothing changes for long.
    pub fn reclaim(&mut self) -> usize {
        // After the swap nobody can get a new reference to a retired snapshot except from an
        // existing one, so a count of one stays one.
        self.retired
            .retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired.len()
    }
}

/// A worker's view.
#[derive(Clone)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Reader {
    /// The snapshot of now. Hold it for one batch.
    #[inline]
    pub fn load(&mut self) -> &Snapshot {
        self.cache.load()
    }
}
