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
use mio::{Events, Interest, Poll, Registry, Token};

/// Token of the waker.
pub(super) const WAKER: Token = Token(usize::MAX - 1);

/// Queues just reported that may go before those that held more, in a row.
const FRESH_RUN: u32 = 8;

/// The ready queues and the epoll instance that reports them.
///
/// As in `fq_codel` (RFC 8290, section 4.2) there are two lists, so that a packet of a pod that says
/// little does not wait for the bulk of others: queues that were just reported come first, those that
/// held more when they were left take turns after them. Of many that are reported again and again,
/// no more than eight in a row go before one of the others.
pub(super) struct Ready {
    poll: Poll,
    events: Events,
    fresh: VecDeque<usize>,
    list: VecDeque<usize>,
    /// Visits to fresh ones since the last to one of the others.
    run: u32,
    /// Whether a queue is in one of the lists, by its number.
    listed: Vec<bool>,
    woken: bool,
}

impl Ready {
    pub(super) fn new() -> io::Result<Ready> {
        Ok(Ready {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            fresh: VecDeque::with_capacity(256),
            list: VecDeque::with_capacity(256),
            run: 0,
            listed: Vec::new(),
            woken: false,
        })
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Watches a descriptor under a queue number.
    pub(super) fn add(&mut self, queue: usize, fd: RawFd) -> io::Result<()> {
        if self.listed.len() <= queue {
            self.listed.resize(queue + 1, false);
        }
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(queue), Interest::READABLE)?;
        // What came before the watch began makes no edge.
        self.again(queue);
        Ok(())
    }

    /// Stops watching it.
    pub(super) fn remove(&mut self, queue: usize, fd: RawFd) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        self.fresh.retain(|q| *q != queue);
        self.list.retain(|q| *q != queue);
        if let Some(listed) = self.listed.get_mut(queue) {
            *listed = false;
        }
    }

    /// Takes in what epoll has to report, waiting for it at most `timeout`.
    pub(super) fn refresh(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        let mut woken = false;
        let (events, listed, fresh) = (&self.events, &mut self.listed, &mut self.fresh);
        for event in events {
            let queue = event.token().0;
            if event.token() == WAKER {
                woken = true;
            } else if let Some(listed) = listed.get_mut(queue)
                && !*listed
            {
                *listed = true;
                fresh.push_back(queue);
            }
        }
        self.woken |= woken;
        Ok(())
    }

    /// Whether the control plane has called since the last question.
    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// The next queue to visit.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let others_turn = self.fresh.is_empty() || self.run >= FRESH_RUN;
        let other = others_turn.then(|| self.list.pop_front()).flatten();
        let queue = match other {
            Some(queue) => {
                self.run = 0;
                queue
            }
            None => {
                let queue = self.fresh.pop_front()?;
                self.run += 1;
                queue
            }
        };
        self.listed[queue] = false;
        Some(queue)
    }

    /// Lists a queue that may hold more, after those that wait already.
    pub(super) fn again(&mut self, queue: usize) {
        if let Some(listed) = self.listed.get_mut(queue)
            && !*listed
        {
            *listed = true;
            self.list.push_back(queue);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// Queues 0 to `count`, and the ends to write to.
    fn queues(count: usize) -> (Ready, Vec<UnixStream>, Vec<UnixStream>) {
        let mut ready = Ready::new().unwrap();
        let (read, write): (Vec<_>, Vec<_>) =
            (0..count).map(|_| UnixStream::pair().unwrap()).unzip();
        for (number, end) in read.iter().enumerate() {
            ready.add(number, end.as_raw_fd()).unwrap();
        }
        while ready.pop().is_some() {}
        (ready, read, write)
    }

    fn report(ready: &mut Ready, mut end: &UnixStream) {
        end.write_all(b"x").unwrap();
        ready.refresh(Duration::ZERO).unwrap();
    }

    #[test]
    fn what_was_just_reported_goes_before_what_held_more() {
        let (mut ready, _read, write) = queues(4);
        ready.again(0);
        ready.again(1);
        report(&mut ready, &write[3]);
        assert_eq!(ready.len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [3, 0, 1]);
    }

    #[test]
    fn what_is_reported_again_and_again_does_not_starve_the_others() {
        let (mut ready, _read, write) = queues(2);
        ready.again(0);
        let mut visits = 0;
        loop {
            report(&mut ready, &write[1]);
            visits += 1;
            if ready.pop() == Some(0) {
                break;
            }
            assert!(visits <= FRESH_RUN, "queue 0 waits for ever");
        }
        assert_eq!(visits, FRESH_RUN + 1);
        // Queue 1 is still listed, once.
        assert_eq!((ready.pop(), ready.pop()), (Some(1), None));
    }
}
