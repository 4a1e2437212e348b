//! Which queues have something to read.
//!
//! epoll reports edges; a queue that was reported stays in the list until a read of it comes back
//! empty. While packets flow the list is refreshed without sleeping, and queues that are silent are
//! never visited: a node has a hundred pods and most say nothing.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};

use super::activity::Activity;
use super::queue_id::{QueueId, TransmitSocket, Watched};

/// Queues just reported that may go before those that held more, in a row.
const NEW_RUN: u32 = 8;

/// Visits in a row that brought nothing but acknowledgements after which a queue is not sparse any more.
const ACKS: u8 = 8;

/// The ready queues and the epoll instance that reports them.
///
/// As in `fq_codel` (RFC 8290, section 4.2) there are lists, so that a packet of a sparse queue does not
/// wait for the bulk of others. First come sparse queues, which hold little as a rule, then new ones, which
/// were just reported, then old ones, which held more when they were left. Of the first two no more than
/// eight in a row go before one of the last.
///
/// A poll for sparse queues ([`refresh_sparse`](Self::refresh_sparse)) lists those only. Others it defers to the next
/// [`refresh`](Self::refresh): visited too soon, they would hold less than is worth a visit.
pub(super) struct Ready {
    poll: Poll,
    events: Events,
    sparse: VecDeque<QueueId>,
    new_queues: VecDeque<QueueId>,
    old_queues: VecDeque<QueueId>,
    deferred: Vec<QueueId>,
    /// Visits to sparse and new ones since the last to one of the others.
    run: u32,
    /// By [`QueueId::index`].
    queues: Vec<Queue>,
    /// Transmit sockets that have errors to be read.
    errors: Vec<TransmitSocket>,
    woken: bool,
}

/// What is known of a queue; at first that it is sparse.
#[derive(Clone, Copy, Default)]
struct Queue {
    /// In one of the lists.
    listed: bool,
    /// Visits since it last held little, or was new; counted up to [`ACKS`], from where it is not sparse.
    score: u8,
    /// It holds many small packets as a rule.
    small: bool,
    /// What a frame takes, in nanoseconds; 0: it was not visited yet.
    cost: u32,
    /// The last visit left nothing and brought next to nothing, acknowledgements or not.
    short: bool,
}

impl Ready {
    pub(super) fn new() -> io::Result<Ready> {
        Ok(Ready {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            sparse: VecDeque::with_capacity(256),
            new_queues: VecDeque::with_capacity(256),
            old_queues: VecDeque::with_capacity(256),
            deferred: Vec::with_capacity(256),
            run: 0,
            queues: Vec::new(),
            errors: Vec::with_capacity(256),
            woken: false,
        })
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Watches the descriptor of a queue.
    pub(super) fn add(&mut self, queue: QueueId, fd: RawFd) -> io::Result<()> {
        let index = queue.index();
        if self.queues.len() <= index {
            self.queues.resize(index + 1, Queue::default());
        }
        let known = &mut self.queues[index];
        (known.score, known.small, known.cost) = (0, false, 0);
        self.resume(queue, fd)
    }

    /// Stops watching a queue that is in no list, for a while: nothing that arrives there wakes anybody.
    pub(super) fn pause(&mut self, fd: RawFd) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    /// Watches it again.
    pub(super) fn resume(&mut self, queue: QueueId, fd: RawFd) -> io::Result<()> {
        let token = Watched::Queue(queue).token();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        // What came before the watch began makes no edge.
        self.again(queue);
        Ok(())
    }

    /// Stops watching it.
    pub(super) fn remove(&mut self, queue: QueueId, fd: RawFd) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        for list in [&mut self.sparse, &mut self.new_queues, &mut self.old_queues] {
            list.retain(|q| *q != queue);
        }
        self.deferred.retain(|q| *q != queue);
        if let Some(known) = self.queues.get_mut(queue.index()) {
            known.listed = false;
        }
    }

    /// Watches a transmit socket for errors alone.
    pub(super) fn watch_errors(&mut self, socket: TransmitSocket, fd: RawFd) -> io::Result<()> {
        // An error is reported whatever is asked for, and this is never reported.
        let nothing = Interest::PRIORITY;
        let token = Watched::Transmit(socket).token();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, nothing)
    }

    /// A transmit socket that has errors to be read.
    pub(super) fn take_error(&mut self) -> Option<TransmitSocket> {
        self.errors.pop()
    }

    /// Takes in what epoll has to report, waiting for it at most `timeout`.
    pub(super) fn refresh(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = if self.deferred.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        self.new_queues.extend(self.deferred.drain(..));
        self.poll_events(timeout, false)
    }

    /// Takes in which sparse queues epoll has to report.
    pub(super) fn refresh_sparse(&mut self) -> io::Result<()> {
        self.poll_events(Duration::ZERO, true)
    }

    fn poll_events(&mut self, timeout: Duration, sparse_only: bool) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        for event in &self.events {
            let id = match Watched::of(event.token()) {
                Watched::Queue(id) => id,
                Watched::Transmit(socket) => {
                    self.errors.push(socket);
                    continue;
                }
                Watched::Waker => {
                    self.woken = true;
                    continue;
                }
            };
            let Some(queue) = self.queues.get_mut(id.index()) else {
                continue;
            };
            if std::mem::replace(&mut queue.listed, true) {
                continue;
            }
            if queue.score < ACKS || queue.short {
                self.sparse.push_back(id);
            } else if sparse_only {
                self.deferred.push(id);
            } else {
                self.new_queues.push_back(id);
            }
        }
        Ok(())
    }

    /// Whether the control plane has called since the last question.
    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// The next queue to visit.
    pub(super) fn pop(&mut self) -> Option<QueueId> {
        let others_turn =
            self.run >= NEW_RUN || self.sparse.is_empty() && self.new_queues.is_empty();
        let other = others_turn.then(|| self.old_queues.pop_front()).flatten();
        let id = if let Some(id) = other {
            self.run = 0;
            id
        } else {
            let next = self
                .sparse
                .pop_front()
                .or_else(|| self.new_queues.pop_front())?;
            self.run += 1;
            next
        };
        self.queues[id.index()].listed = false;
        Some(id)
    }

    /// Whether a queue holds little as a rule.
    pub(super) fn is_sparse(&self, queue: QueueId) -> bool {
        self.queues
            .get(queue.index())
            .is_some_and(|queue| queue.score < ACKS)
    }

    /// Enters what a visit brought.
    pub(super) fn visited(&mut self, queue: QueueId, activity: Activity) {
        if let Some(queue) = self.queues.get_mut(queue.index()) {
            queue.score = match activity {
                Activity::Sparse => 0,
                Activity::Acks => ACKS.min(queue.score + 1),
                Activity::SmallPackets | Activity::Bulk => ACKS,
            };
            queue.small = activity == Activity::SmallPackets;
            queue.short = matches!(activity, Activity::Sparse | Activity::Acks);
        }
    }

    /// Whether a pod's queue holds many small packets as a rule, and what a frame of a queue takes, in nanoseconds; 0:
    /// that is not known.
    pub(super) fn costs(&self, queue: QueueId) -> (bool, u32) {
        let of_pod = queue.port().is_some();
        let queue = self.queues.get(queue.index()).copied().unwrap_or_default();
        (of_pod && queue.small, queue.cost)
    }

    /// Enters what a visit took that has read so many frames.
    pub(super) fn took(&mut self, queue: QueueId, nanoseconds: u64, frames: usize) {
        if let Some(queue) = self.queues.get_mut(queue.index())
            && frames > 0
        {
            let new = (nanoseconds / frames as u64).min(1 << 24) as u32;
            // As it was of late: a quarter is the visit's.
            queue.cost = match queue.cost {
                0 => new,
                before => before - before / 4 + new / 4,
            };
        }
    }

    /// Lists a queue that may hold more, after those that wait already; also one that was kept for later.
    pub(super) fn again(&mut self, queue: QueueId) {
        let Some(known) = self.queues.get_mut(queue.index()) else {
            return;
        };
        if std::mem::replace(&mut known.listed, true) {
            let Some(at) = self.deferred.iter().position(|q| *q == queue) else {
                return;
            };
            self.deferred.swap_remove(at);
        }
        self.old_queues.push_back(queue);
    }

    /// Queues that may be visited.
    pub(super) fn len(&self) -> usize {
        self.sparse.len() + self.new_queues.len() + self.old_queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use ringway_tables::PortId;

    fn tap(n: usize) -> QueueId {
        QueueId::Tap(PortId(n as u32))
    }

    /// The next queue, by its number.
    fn pop(ready: &mut Ready) -> Option<usize> {
        ready.pop().map(|queue| match queue {
            QueueId::Tap(PortId(n)) => n as usize,
            other => panic!("{other:?}"),
        })
    }

    /// Queues 0 to `count`, and the ends to write to.
    fn queues(count: usize) -> (Ready, Vec<UnixStream>, Vec<UnixStream>) {
        let mut ready = Ready::new().unwrap();
        let (read, write): (Vec<_>, Vec<_>) =
            (0..count).map(|_| UnixStream::pair().unwrap()).unzip();
        for (number, end) in read.iter().enumerate() {
            ready.add(tap(number), end.as_raw_fd()).unwrap();
        }
        while pop(&mut ready).is_some() {}
        (ready, read, write)
    }

    fn report(ready: &mut Ready, mut end: &UnixStream) {
        end.write_all(b"x").unwrap();
        ready.refresh(Duration::ZERO).unwrap();
    }

    #[test]
    fn what_was_just_reported_goes_before_what_held_more() {
        let (mut ready, _read, write) = queues(4);
        ready.again(tap(0));
        ready.again(tap(1));
        report(&mut ready, &write[3]);
        assert_eq!(ready.len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut ready)).collect();
        assert_eq!(order, [3, 0, 1]);
    }

    #[test]
    fn what_is_reported_again_and_again_does_not_starve_the_others() {
        let (mut ready, _read, write) = queues(2);
        ready.again(tap(0));
        let mut visits = 0;
        loop {
            report(&mut ready, &write[1]);
            visits += 1;
            if pop(&mut ready) == Some(0) {
                break;
            }
            assert!(visits <= NEW_RUN, "queue 0 waits for ever");
        }
        assert_eq!(visits, NEW_RUN + 1);
        // Queue 1 is still listed, once.
        assert_eq!((pop(&mut ready), pop(&mut ready)), (Some(1), None));
    }

    #[test]
    fn sparse_queues_come_before_all_others_and_a_poll_for_them_defers_the_rest() {
        let (mut ready, _read, write) = queues(4);
        ready.visited(tap(2), Activity::Bulk);
        ready.visited(tap(3), Activity::Bulk);
        ready.again(tap(0));
        report(&mut ready, &write[2]);
        for mut end in [&write[3], &write[1]] {
            end.write_all(b"x").unwrap();
        }
        ready.refresh_sparse().unwrap();
        assert_eq!(ready.len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut ready)).collect();
        assert_eq!(order, [1, 2, 0]);
        // However long the timeout, what was kept is listed at once.
        ready.refresh(Duration::from_secs(3600)).unwrap();
        assert_eq!((pop(&mut ready), pop(&mut ready)), (Some(3), None));
    }

    #[test]
    fn what_was_deferred_is_listed_when_a_visit_leaves_more() {
        let (mut ready, _read, mut write) = queues(2);
        for queue in [0, 1] {
            ready.visited(tap(queue), Activity::Bulk);
            write[queue].write_all(b"x").unwrap();
        }
        ready.refresh_sparse().unwrap();
        ready.again(tap(1));
        assert_eq!((ready.len(), pop(&mut ready)), (1, Some(1)));
        ready.refresh(Duration::ZERO).unwrap();
        assert_eq!((pop(&mut ready), pop(&mut ready)), (Some(0), None));
    }

    #[test]
    fn nothing_but_acknowledgements_is_not_sparse_for_long() {
        let (mut ready, _read, _write) = queues(1);
        let sparse_after = |ready: &mut Ready, activity| {
            ready.visited(tap(0), activity);
            ready.is_sparse(tap(0))
        };
        for _ in 1..ACKS {
            assert!(sparse_after(&mut ready, Activity::Acks));
        }
        assert!(!sparse_after(&mut ready, Activity::Acks));
        assert!(!sparse_after(&mut ready, Activity::Acks));
        assert!(sparse_after(&mut ready, Activity::Sparse));
        assert!(!sparse_after(&mut ready, Activity::Bulk));
    }

    #[test]
    fn small_packets_are_remembered_until_a_visit_finds_something_else() {
        let (mut ready, _read, _write) = queues(2);
        let is_small = |ready: &Ready, n| ready.costs(tap(n)).0;
        assert!(!is_small(&ready, 0));
        ready.visited(tap(0), Activity::SmallPackets);
        assert!(is_small(&ready, 0) && !ready.is_sparse(tap(0)) && !is_small(&ready, 1));
        for activity in [Activity::Sparse, Activity::Acks, Activity::Bulk] {
            ready.visited(tap(0), Activity::SmallPackets);
            ready.visited(tap(0), activity);
            assert!(!is_small(&ready, 0), "{activity:?}");
        }
        // Sockets and rings give many at once.
        let socket = QueueId::Socket(0);
        ready.visited(socket, Activity::SmallPackets);
        assert!(!ready.costs(socket).0);
    }

    #[test]
    fn what_a_frame_takes_is_as_of_late() {
        let (mut ready, _read, _write) = queues(1);
        let mut took = |nanoseconds, frames| {
            ready.took(tap(0), nanoseconds, frames);
            ready.costs(tap(0)).1
        };
        assert_eq!(took(100, 0), 0);
        assert_eq!(took(80_000, 4), 20_000);
        assert_eq!(took(160_000, 4), 25_000);
        for _ in 0..30 {
            took(4000, 4);
        }
        assert!((990..1010).contains(&took(1000, 1)));
    }

    #[test]
    fn a_paused_queue_wakes_nobody_and_is_listed_when_it_is_resumed() {
        let (mut ready, read, write) = queues(2);
        ready.visited(tap(0), Activity::Bulk);
        ready.pause(read[0].as_raw_fd());
        report(&mut ready, &write[0]);
        assert_eq!(ready.len(), 0);
        ready.resume(tap(0), read[0].as_raw_fd()).unwrap();
        assert_eq!((pop(&mut ready), ready.is_sparse(tap(0))), (Some(0), false));
        // It is watched as before.
        ready.refresh(Duration::ZERO).unwrap();
        while pop(&mut ready).is_some() {}
        report(&mut ready, &write[0]);
        assert_eq!(pop(&mut ready), Some(0));
    }

    #[test]
    fn an_error_is_reported_and_nothing_else_of_what_is_watched_for_errors() {
        let mut ready = Ready::new().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let watched = TransmitSocket {
            underlay: 1,
            index: 7,
        };
        ready.watch_errors(watched, socket.as_raw_fd()).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        ready.refresh(Duration::ZERO).unwrap();
        assert_eq!((ready.take_error(), ready.len()), (None, 0));
        // Nobody listens at the port of a socket that was closed.
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(gone.local_addr().unwrap()).unwrap();
        drop(gone);
        socket.send(b"x").unwrap();
        ready.refresh(Duration::from_secs(1)).unwrap();
        assert_eq!(
            (ready.take_error(), ready.take_error()),
            (Some(watched), None)
        );
        assert_eq!(ready.len(), 0);
        ready.pause(socket.as_raw_fd());
    }

    #[test]
    fn a_queue_that_is_removed_is_in_no_list() {
        let (mut ready, read, write) = queues(2);
        ready.visited(tap(0), Activity::Bulk);
        for mut end in [&write[0], &write[1]] {
            end.write_all(b"x").unwrap();
        }
        ready.refresh_sparse().unwrap();
        for (number, end) in read.iter().enumerate() {
            ready.remove(tap(number), end.as_raw_fd());
        }
        ready.refresh(Duration::ZERO).unwrap();
        assert_eq!((ready.len(), pop(&mut ready)), (0, None));
    }
}
