//! Pods' interfaces on their way out.
//!
//! An interface vanishes with its last descriptor. That close takes the kernel 15 to 40 ms, mostly waiting
//! for its readers (RCU) while it holds the lock that whatever changes an interface anywhere on the machine
//! has to take (RTNL). Where the pod's namespace is gone, too, the kernel takes that apart next, under the
//! same lock. An attach takes it some twenty times, and behind fifty closes each time.
//!
//! So one thread closes, one interface at a time, while no pods are being attached; when they are all the
//! time, between two of them. Nobody waits for it but who wants to attach to the same namespace.
//!
//! A close here need not be the last: whenever the agent starts a program (`nft`), the child has a copy of all
//! descriptors until that program runs, and on a busy machine that takes a while.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringway_kernel::netns::Identity;
use ringway_kernel::pod::interface::Queues;

/// One is closed when no pod was attached for this long.
const QUIET: Duration = Duration::from_millis(100);
/// One that has waited for this long is closed between two attaches.
const PATIENCE: Duration = Duration::from_secs(2);
/// And after this long whatever happens.
const LONGEST: Duration = Duration::from_secs(5);
/// How long who wants the namespace waits for an interface that is just being closed. Beside twenty others that
/// come and go it took more than a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Closes interfaces.
#[derive(Debug)]
pub(super) struct Closing {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Leaving>,
    /// Namespace of the one that is being closed.
    current: Option<Identity>,
    /// Pods that are being attached.
    attaching: usize,
    attached: Option<Instant>,
    /// Namespaces of those that were closed in the last [`TIMEOUT`].
    closed: VecDeque<(Identity, Instant)>,
    ended: bool,
}

/// The last descriptors of an interface.
#[derive(Debug)]
struct Leaving {
    #[expect(dead_code, reason = "its drop is the close")]
    queues: Queues,
    netns: Identity,
    since: Instant,
}

impl Closing {
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let closes = shared.clone();
        let thread = std::thread::Builder::new().name("close".into());
        thread.spawn(move || closes.run())?;
        Ok(Self { shared })
    }

    /// Closes these soon. They must be the last descriptors of an interface in `netns`.
    pub(super) fn push(&self, queues: Queues, netns: Identity) {
        self.shared.lock().waiting.push_back(Leaving {
            queues,
            netns,
            since: Instant::now(),
        });
        self.shared.changed.notify_all();
    }

    /// A pod is being attached, until the answer is dropped.
    pub(super) fn attaching(&self) -> Attach {
        self.shared.lock().attaching += 1;
        Attach {
            shared: self.shared.clone(),
        }
    }

    /// Closes those of a namespace at once, waits for the one that is being closed, and then for `is_there` to
    /// end if any was closed just now: it is asked whether the interface is still there.
    ///
    /// # Errors
    /// Of `is_there`.
    pub(super) fn clear<E>(
        &self,
        netns: Identity,
        is_there: impl Fn() -> Result<bool, E>,
    ) -> Result<(), E> {
        let deadline = Instant::now() + TIMEOUT;
        let mut state = self.shared.lock();
        let all = std::mem::take(&mut state.waiting);
        let (own, others) = all.into_iter().partition(|leaving| leaving.netns == netns);
        state.waiting = others;
        if !own.is_empty() {
            state.has_closed(netns, Instant::now());
        }
        drop(state);
        // Here, not there: another job may be under way.
        drop::<VecDeque<Leaving>>(own);
        let current = |state: &mut State| state.current == Some(netns);
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(self.shared.lock(), TIMEOUT, current);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let recent = state.closed.iter().any(|(closed, _)| *closed == netns);
        drop(state);
        while recent && is_there()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Until all are closed.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let some = |state: &mut State| state.current.is_some() || !state.waiting.is_empty();
        let changed = &self.shared.changed;
        drop(changed.wait_while(self.shared.lock(), some));
    }
}

impl Drop for Closing {
    /// What is left is closed without waiting for anything.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

/// While it lives a pod is being attached.
#[derive(Debug)]
pub(super) struct Attach {
    shared: Arc<Shared>,
}

impl Drop for Attach {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.attaching -= 1;
        state.attached = Some(Instant::now());
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// A thread that panicked left nothing half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            state = match state.due(Instant::now()) {
                Due::Now(leaving) => {
                    state.current = Some(leaving.netns);
                    state.has_closed(leaving.netns, Instant::now());
                    drop(state);
                    drop(leaving);
                    let mut state = self.lock();
                    state.current = None;
                    self.changed.notify_all();
                    state
                }
                Due::In(time) => {
                    let woken = self.changed.wait_timeout(state, time);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                Due::Never if state.ended => return,
                Due::Never => {
                    let woken = self.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

/// When one is to be closed.
#[derive(Debug)]
enum Due {
    Now(Leaving),
    In(Duration),
    /// None waits.
    Never,
}

impl State {
    fn has_closed(&mut self, netns: Identity, now: Instant) {
        let is_old =
            |(_, then): &(Identity, Instant)| now.saturating_duration_since(*then) > TIMEOUT;
        while self.closed.front().is_some_and(is_old) {
            self.closed.pop_front();
        }
        self.closed.push_back((netns, now));
    }

    fn due(&mut self, now: Instant) -> Due {
        let Some(oldest) = self.waiting.front() else {
            return Due::Never;
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        let age = since(oldest.since);
        let wait = match self.attached {
            _ if self.attaching > 0 => LONGEST.saturating_sub(age),
            Some(then) => QUIET
                .saturating_sub(since(then))
                .min(PATIENCE.saturating_sub(age)),
            None => Duration::ZERO,
        };
        if !wait.is_zero() && !self.ended {
            return Due::In(wait);
        }
        self.waiting.pop_front().map_or(Due::Never, Due::Now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn state(since: Instant) -> State {
        let netns = Identity::of_path(std::path::Path::new("/proc/self/ns/net")).unwrap();
        let queues = Queues {
            fds: Vec::new(),
            lanes: None,
            uso: false,
        };
        let leaving = Leaving {
            queues,
            netns,
            since,
        };
        State {
            waiting: [leaving].into(),
            ..State::default()
        }
    }

    #[track_caller]
    fn assert_in(due: Due, time: Duration) {
        assert!(matches!(due, Due::In(t) if t == time), "{due:?}");
    }

    #[test]
    fn an_attach_comes_first_but_not_for_ever() {
        let start = Instant::now();
        let mut one = state(start);
        one.attaching = 1;
        assert_in(one.due(start + 300 * MS), 4700 * MS);
        one.attaching = 0;
        one.attached = Some(start + 300 * MS);
        assert_in(one.due(start + 310 * MS), 90 * MS);
        // Others follow, and its patience comes to an end.
        one.attached = Some(start + 1950 * MS);
        assert_in(one.due(start + 1950 * MS), 50 * MS);
        one.attaching = 1;
        assert_in(one.due(start + 2000 * MS), 3000 * MS);
        assert!(matches!(one.due(start + 5000 * MS), Due::Now(_)));
        assert!(matches!(one.due(start + 5000 * MS), Due::Never));
    }

    #[test]
    fn without_attaches_and_at_the_end_nobody_waits() {
        let start = Instant::now();
        assert!(matches!(state(start).due(start), Due::Now(_)));
        let mut one = state(start);
        (one.attaching, one.ended) = (1, true);
        assert!(matches!(one.due(start), Due::Now(_)));
    }
}
