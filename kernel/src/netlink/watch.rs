//! Changes of links, neighbours, routes and addresses, as they happen.
//!
//! ```text
//! kernel ──multicast──▶ socket ──▶ thread "netlink-watch" ──Change──▶ control loop
//!                       (208 KB)   Pending: a set, ≤ 256     channel, ≤ 256
//! ```
//!
//! A [`Change`] says what to look at again, not what it is like now: whoever looks sees the newest
//! state, so any number of changes of one thing are one [`Change`], and one that comes late does no
//! harm. The first change after a calm is passed on at once; what comes within the next
//! [`INTERVAL`] is collected and passed on together.
//!
//! Under a storm (a routing daemon loads its table) the work is bounded: at most [`READS`] messages
//! are read per interval. The rest wait in the socket, and when that is full the kernel drops them
//! and says so (ENOBUFS). That, a set that has grown too large and a message that cannot be read all
//! become [`Change::Overrun`]: look at everything.
//!
//! The socket is opened by the caller and belongs to its network namespace; the thread only reads.
//! It ends when the [`Watch`] is dropped, which holds a receiver, so that nobody waits on a channel
//! whose sender has gone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetlinkError;

mod message;

pub use message::Change;

/// How long changes are collected before they are passed on.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// Messages read in one interval at most.
pub const READS: usize = 256;
/// Different changes kept, and changes in the channel.
const CAPACITY: usize = 256;

/// `RTNLGRP_*`, linux/rtnetlink.h. Rules and next-hop objects change routes without a word from the
/// routes themselves.
const GROUPS: [u32; 9] = [
    1,  // LINK
    3,  // NEIGH
    5,  // IPV4_IFADDR
    7,  // IPV4_ROUTE
    8,  // IPV4_RULE
    9,  // IPV6_IFADDR
    11, // IPV6_ROUTE
    19, // IPV6_RULE
    32, // NEXTHOP
];
/// NEXTHOP came with Linux 5.3; without it there are no such objects.
const NEXTHOP: u32 = 32;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Watches one network namespace until it is dropped.
pub struct Watch {
    changes: Receiver<Change>,
    end: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch the calling thread's network namespace. Every change after the return of
    /// this is reported.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::with_buffer(None)
    }

    /// The same, with a receive buffer of so many bytes instead of the system's (`net.core.rmem_default`).
    pub fn with_buffer(bytes: Option<u32>) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        // The kernel is the only one to be heard.
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(NetlinkError::Socket)?;
        socket
            .set_non_blocking(true)
            .map_err(NetlinkError::Socket)?;
        if let Some(bytes) = bytes {
            socket.set_rx_buf_sz(bytes).map_err(NetlinkError::Socket)?;
        }
        for group in GROUPS {
            match socket.add_membership(group) {
                Err(_) if group == NEXTHOP => {}
                other => other.map_err(|source| NetlinkError::Io {
                    what: format!("joining the multicast group {group}"),
                    source,
                })?,
            }
        }
        let io = |source| NetlinkError::Io {
            what: "starting the thread that watches links, routes and neighbours".into(),
            source,
        };
        let poll = Poll::new().map_err(io)?;
        let fd = socket.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), SOCKET, Interest::READABLE)
            .map_err(io)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(io)?);
        let end = Arc::new(AtomicBool::new(false));
        let (sender, changes) = bounded(CAPACITY);
        let reader = Reader {
            socket,
            poll,
            end: end.clone(),
            sender,
            pending: Pending::default(),
            buffer: vec![0; 32 * 1024],
        };
        let thread = std::thread::Builder::new()
            .name("netlink-watch".into())
            .spawn(move || reader.run())
            .map_err(io)?;
        Ok(Self {
            changes,
            end,
            waker,
            thread: Some(thread),
        })
    }

    /// Where changes come out, for a `select!`. Disconnected when the thread has failed.
    pub fn changes(&self) -> &Receiver<Change> {
        &self.changes
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let woken = self.waker.wake();
        if let Some(thread) = self.thread.take()
            && woken.is_ok()
        {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What is to be passed on: each change once.
#[derive(Default)]
struct Pending {
    set: BTreeSet<Change>,
}

impl Pending {
    fn add(&mut self, change: Change) {
        if self.set.contains(&Change::Overrun) || self.set.contains(&change) {
            return;
        }
        if change == Change::Overrun || self.set.len() >= CAPACITY {
            self.set.clear();
            self.set.insert(Change::Overrun);
        } else {
            self.set.insert(change);
        }
    }
}

/// The thread.
struct Reader {
    socket: Socket,
    poll: Poll,
    end: Arc<AtomicBool>,
    sender: Sender<Change>,
    pending: Pending,
    buffer: Vec<u8>,
}

impl Reader {
    fn run(mut self) {
        let mut events = Events::with_capacity(2);
        // epoll reports edges: what a bounded read left in the socket makes no further one.
        let mut more = false;
        loop {
            let at_once = more || !self.pending.set.is_empty();
            match self
                .poll
                .poll(&mut events, at_once.then_some(Duration::ZERO))
            {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return tracing::error!("netlink-watch ends: poll: {e}"),
            }
            if self.end.load(Ordering::Acquire) {
                return;
            }
            more = match self.read() {
                Ok(more) => more,
                Err(e) => return tracing::error!("netlink-watch ends: recv: {e}"),
            };
            if !self.pass_on() {
                return;
            }
            // `drop` unparks.
            std::thread::park_timeout(INTERVAL);
        }
    }

    /// Reads what is there, within bounds; true when there may be more.
    fn read(&mut self) -> io::Result<bool> {
        for _ in 0..READS {
            match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(n) => {
                    let n = n.min(self.buffer.len());
                    message::read(&self.buffer[..n], |change| self.pending.add(change));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.pending.add(Change::Overrun);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Puts into the channel what fits; false when nobody is there to take it.
    fn pass_on(&mut self) -> bool {
        while let Some(change) = self.pending.set.first().copied() {
            match self.sender.try_send(change) {
                Ok(()) => self.pending.set.remove(&change),
                Err(TrySendError::Full(_)) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests;
