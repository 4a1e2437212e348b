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

/// The list of ready queues and the epoll instance that fills it.
pub(super) struct Ready {
    poll: Poll,
    events: Events,
    list: VecDeque<usize>,
    /// Whether a queue is in the list, by its number.
    listed: Vec<bool>,
    woken: bool,
}

impl Ready {
    pub(super) fn new() -> io::Result<Ready> {
        Ok(Ready {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            list: VecDeque::with_capacity(256),
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
        self.mark(queue);
        Ok(())
    }

    /// Stops watching it.
    pub(super) fn remove(&mut self, queue: usize, fd: RawFd) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        self.list.retain(|q| *q != queue);
        if let Some(listed) = self.listed.get_mut(queue) {
            *listed = false;
        }
    }

    fn mark(&mut self, queue: usize) {
        if let Some(listed) = self.listed.get_mut(queue)
            && !*listed
        {
            *listed = true;
            self.list.push_back(queue);
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
        let (events, listed, list) = (&self.events, &mut self.listed, &mut self.list);
        for event in events {
            let queue = event.token().0;
            if event.token() == WAKER {
                woken = true;
            } else if let Some(listed) = listed.get_mut(queue)
                && !*listed
            {
                *listed = true;
                list.push_back(queue);
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
        let queue = self.list.pop_front()?;
        self.listed[queue] = false;
        Some(queue)
    }

    /// Puts a queue that may hold more at the end of the list.
    pub(super) fn again(&mut self, queue: usize) {
        self.mark(queue);
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}
