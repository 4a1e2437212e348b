//! Flushing: one `sendmmsg` per transmit socket in use, and what to do when a message fails.
//!
//! `sendmmsg` stops at the first message that fails and returns those before it; what failed shows when it
//! is tried as the first of the next call. So an error number is always about the first message not sent:
//!
//! | errno | meaning | done |
//! |---|---|---|
//! | `EAGAIN` | socket buffer full | the rest of this socket's queue is dropped: waiting would stop the worker |
//! | `ENOBUFS`, `ENOMEM` | device queue full | this message is dropped |
//! | `EIO`, `EINVAL` on a `UDP_SEGMENT` message | egress cannot segment | its datagrams singly; offload off if `EIO` or they pass |
//! | `EMSGSIZE` on a `UDP_SEGMENT` message | an ICMP error of an earlier send, or datagrams over the interface's MTU | error queue read, sent once more, then its datagrams singly, which tells the MTU |
//! | anything else | may be an ICMP error of an earlier send | error queue read, sent once more, then dropped |

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::address::Name;
use super::cmsg::Control;
use super::config::{Granted, SocketConfig, UdpChecksum};
use super::queue::{MAX_DATAGRAMS_PER_MESSAGE, Message, Piece, Queue, QueueFull, Src};
use super::report::{GsoDisabled, TxReport};
use super::{Dest, errors};
use crate::pool::Pool;
use crate::sys;

/// Messages per system call.
const CHUNK: usize = 64;
/// Parts per system call: one message of the most parts always fits.
const MAX_PARTS: usize = 4096;
/// Header memory per flush: the headers of a 256 KB batch at 200 bytes of payload each.
const SLAB: usize = 128 * 1024;

/// The transmit sockets, their queues and the arrays for the system call.
pub(super) struct Transmitter {
    sockets: Vec<OwnedFd>,
    /// Their source ports.
    ports: Vec<u16>,
    queues: Vec<Queue>,
    /// Sockets with something in their queue, by bit.
    queued: u128,
    slab: Vec<u8>,
    slab_used: usize,
    arrays: Arrays,
    singles: Vec<Message>,
    gso: bool,
    v6: bool,
    may_zero_checksum: bool,
}

/// Arrays for `sendmmsg`, kept for reuse.
struct Arrays {
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control>,
    v6: bool,
    scope: u32,
    /// The latest call took fewer messages than it was given.
    short: bool,
}

// SAFETY: the pointers in the arrays are set anew before every call and used only within it; between calls
// they are spare memory. The compiler sees only raw pointers.
unsafe impl Send for Arrays {}

impl std::fmt::Debug for Transmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transmitter")
            .field("sockets", &self.sockets)
            .field("gso", &self.gso)
            .field("v6", &self.v6)
            .finish_non_exhaustive()
    }
}

impl Transmitter {
    pub(super) fn new(
        sockets: Vec<OwnedFd>,
        ports: Vec<u16>,
        config: &SocketConfig,
        granted: Granted,
    ) -> Transmitter {
        let v6 = config.local.is_ipv6();
        let scope = if let std::net::SocketAddr::V6(local) = config.local {
            local.scope_id()
        } else {
            0
        };
        Transmitter {
            queues: sockets.iter().map(|_| Queue::new()).collect(),
            queued: 0,
            sockets,
            ports,
            slab: vec![0; SLAB],
            slab_used: 0,
            arrays: Arrays::new(v6, scope),
            singles: Vec::with_capacity(MAX_DATAGRAMS_PER_MESSAGE),
            gso: granted.gso,
            v6,
            may_zero_checksum: !v6 && config.checksum == UdpChecksum::Auto,
        }
    }

    #[inline]
    pub(super) fn has_slab(&self, n: usize) -> bool {
        self.slab.len() - self.slab_used >= n
    }

    #[inline]
    pub(super) fn slab(&mut self, n: usize) -> Option<(u32, &mut [u8])> {
        let offset = self.slab_used;
        let bytes = self.slab[offset..].get_mut(..n)?;
        self.slab_used += n;
        Some((offset as u32, bytes))
    }

    #[inline]
    pub(super) fn push(
        &mut self,
        dest: Dest,
        hash: u32,
        tos: u8,
        pieces: &[Piece],
    ) -> Result<(), QueueFull> {
        let index = self.index(hash);
        self.queued |= 1 << index;
        self.queues[index].push(dest, tos, pieces, self.gso)
    }

    /// The socket of a flow. The high bits choose, evenly for any number of sockets, the highest its lane.
    #[inline]
    fn index(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.queues.len() as u64) >> 32) as usize
    }

    #[inline]
    pub(super) fn source_port(&self, hash: u32) -> u16 {
        self.ports[self.index(hash)]
    }

    pub(super) fn drain_errors(&self, index: usize, report: &mut TxReport) -> bool {
        let socket = self.sockets.get(index);
        socket.is_some_and(|socket| errors::drain(socket, report) == errors::MAX_ENTRIES)
    }

    #[inline]
    pub(super) fn has_room(&self, hash: u32, datagrams: usize, pieces: usize) -> bool {
        self.queues[self.index(hash)].has_room(datagrams, pieces)
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued != 0
    }

    pub(super) fn gso(&self) -> bool {
        self.gso
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter()
    }

    pub(super) fn into_fds(self) -> Vec<OwnedFd> {
        self.sockets
    }

    pub(super) fn flush(&mut self, pool: &Pool, report: &mut TxReport) {
        // What is quiet first: a flow that has just become bulk sent it before.
        while self.queued != 0 {
            let index = self.queued.trailing_zeros() as usize;
            self.flush_socket(index, pool, report);
            self.queues[index].clear();
            self.queued &= self.queued - 1;
        }
        self.slab_used = 0;
    }

    fn flush_socket(&mut self, index: usize, pool: &Pool, report: &mut TxReport) {
        let mut at = 0;
        while at < self.queues[index].messages().len() {
            let message = self.queues[index].messages()[at];
            if message.datagrams > 1 && !self.gso {
                // Queued before the offload went off.
                self.send_singly(index, message, pool, report);
                at += 1;
                continue;
            }
            let (socket, queue) = (&self.sockets[index], &self.queues[index]);
            at += match self
                .arrays
                .send(socket, queue, &queue.messages()[at..], pool, &self.slab)
            {
                Ok(count) => {
                    self.stopped_short(index, report);
                    report.sent(&self.queues[index].messages()[at..at + count]);
                    count
                }
                Err(errno) => self.failed(index, at, errno, pool, report),
            };
        }
    }

    /// An ICMP error that stopped `sendmmsg` after its first message is consumed without being reported:
    /// the next call succeeds. The error queue still has it.
    fn stopped_short(&self, index: usize, report: &mut TxReport) {
        if self.arrays.short {
            errors::drain(&self.sockets[index], report);
        }
    }

    /// Deals with message `at` of a queue, which failed with `errno`; returns the messages dealt with.
    fn failed(
        &mut self,
        index: usize,
        at: usize,
        errno: i32,
        pool: &Pool,
        report: &mut TxReport,
    ) -> usize {
        let message = self.queues[index].messages()[at];
        match errno {
            libc::EINTR => 0,
            libc::EAGAIN => {
                let rest = &self.queues[index].messages()[at..];
                report.lost(
                    errno,
                    rest.iter()
                        .map(|message| u64::from(message.datagrams))
                        .sum(),
                );
                rest.len()
            }
            libc::EIO | libc::EINVAL | libc::EMSGSIZE if message.datagrams > 1 => {
                // An ICMP error about a length looks the same, and says nothing of this message.
                let socket = &self.sockets[index];
                if errno == libc::EMSGSIZE && errors::drain(socket, report) > 0 {
                    let (queue, whole) = (&self.queues[index], std::slice::from_ref(&message));
                    if self
                        .arrays
                        .send(socket, queue, whole, pool, &self.slab)
                        .is_ok()
                    {
                        report.sent(whole);
                        return 1;
                    }
                }
                let before = report.datagrams;
                self.send_singly(index, message, pool, report);
                // EINVAL is also how older kernels say that a segment exceeds the path MTU; then not all
                // datagrams passed.
                let all_passed = report.datagrams - before == u64::from(message.datagrams);
                if errno == libc::EIO || errno == libc::EINVAL && all_passed {
                    self.disable_gso(errno, report);
                }
                1
            }
            _ => {
                self.send_again(index, &message, errno, pool, report);
                1
            }
        }
    }

    /// Sends one message once more, for the failure may have been an ICMP error of an earlier one.
    /// Returns the error number if that fails too; then its datagrams are counted lost.
    fn send_again(
        &mut self,
        index: usize,
        message: &Message,
        errno: i32,
        pool: &Pool,
        report: &mut TxReport,
    ) -> Option<i32> {
        let socket = &self.sockets[index];
        errors::drain(socket, report);
        let once_more = !matches!(
            errno,
            libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EFAULT
        );
        let result = if once_more {
            self.arrays.send(
                socket,
                &self.queues[index],
                std::slice::from_ref(message),
                pool,
                &self.slab,
            )
        } else {
            Err(errno)
        };
        let Err(errno) = result else {
            report.sent(std::slice::from_ref(message));
            return None;
        };
        // An ICMP error names its destination itself; it may be another than this message's.
        if errors::drain(socket, report) == 0 {
            report.heard(message.dest.into(), errno);
        }
        report.lost(errno, u64::from(message.datagrams));
        Some(errno)
    }

    /// Sends the datagrams of a message one by one, as few calls as it takes.
    fn send_singly(&mut self, index: usize, message: Message, pool: &Pool, report: &mut TxReport) {
        let mut singles = std::mem::take(&mut self.singles);
        singles.clear();
        singles.extend(message.singles(self.queues[index].pieces(&message)));
        let mut at = 0;
        while at < singles.len() {
            let (socket, queue) = (&self.sockets[index], &self.queues[index]);
            let errno = match self
                .arrays
                .send(socket, queue, &singles[at..], pool, &self.slab)
            {
                Ok(count) => {
                    self.stopped_short(index, report);
                    report.sent(&singles[at..at + count]);
                    at += count;
                    continue;
                }
                Err(libc::EINTR) => continue,
                Err(errno) => errno,
            };
            let again = self.send_again(index, &singles[at], errno, pool, report);
            let bytes = singles[at].bytes;
            at += 1;
            // The others will not fare better: no system call for each.
            let rest = match again {
                Some(libc::EAGAIN) => singles.len() - at,
                Some(libc::EMSGSIZE) => singles[at..]
                    .iter()
                    .take_while(|single| single.bytes >= bytes)
                    .count(),
                _ => 0,
            };
            report.lost(again.unwrap_or(0), rest as u64);
            at += rest;
        }
        self.singles = singles;
    }

    fn disable_gso(&mut self, errno: i32, report: &mut TxReport) {
        if !self.gso {
            return;
        }
        self.gso = false;
        let no_check = |socket: &OwnedFd| {
            sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).is_ok()
        };
        let zero_checksum = self.may_zero_checksum && self.sockets.iter().all(no_check);
        report.gso_disabled = Some(GsoDisabled {
            errno,
            zero_checksum,
        });
    }
}

impl Arrays {
    fn new(v6: bool, scope: u32) -> Arrays {
        // SAFETY: an mmsghdr of zeroes is valid: null pointers and zero lengths.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Arrays {
            headers: vec![header; CHUNK],
            parts: Vec::with_capacity(MAX_PARTS),
            names: vec![Name::empty(); CHUNK],
            controls: vec![Control::new(); CHUNK],
            v6,
            scope,
            short: false,
        }
    }

    /// Sends as many of `messages`, which are of `queue`, as fit one call and the kernel takes. At least
    /// one was sent, or the error number is that of the first; `EFAULT` = it has a piece that points
    /// nowhere.
    fn send(
        &mut self,
        socket: &OwnedFd,
        queue: &Queue,
        messages: &[Message],
        pool: &Pool,
        slab: &[u8],
    ) -> Result<usize, i32> {
        let count = self.build(queue, messages, pool, slab);
        if count == 0 {
            return Err(libc::EFAULT);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `build` pointed the first `count` headers at live arrays of this structure, which are
        // not touched in between, and its parts at pool and slab, both borrowed until the return.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags as _,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) if sent > 0 => {
                self.short = sent < count;
                Ok(sent)
            }
            Ok(_) => Err(libc::EAGAIN),
            Err(_) => Err(sys::errno(&io::Error::last_os_error())),
        }
    }

    /// Lays out as many of `messages` as fit one call and are sound; returns how many.
    fn build(&mut self, queue: &Queue, messages: &[Message], pool: &Pool, slab: &[u8]) -> usize {
        self.parts.clear();
        let mut count = 0;
        for message in messages.iter().take(CHUNK) {
            let first = self.parts.len();
            if first + message.parts as usize > MAX_PARTS
                || !self.gather(queue.pieces(message), pool, slab)
            {
                self.parts.truncate(first);
                break;
            }
            let control = &mut self.controls[count];
            let mut used = 0;
            if message.datagrams > 1 {
                used = control.put(
                    used,
                    libc::SOL_UDP,
                    libc::UDP_SEGMENT,
                    (message.segment as u16).to_ne_bytes(),
                );
            }
            if message.tos != 0 {
                let (level, kind) = if self.v6 {
                    (libc::SOL_IPV6, libc::IPV6_TCLASS)
                } else {
                    (libc::SOL_IP, libc::IP_TOS)
                };
                used = control.put(used, level, kind, i32::from(message.tos).to_ne_bytes());
            }
            let (name, name_len) = Name::of(message.dest, self.v6, self.scope);
            self.names[count] = name;
            let header = &mut self.headers[count].msg_hdr;
            header.msg_name = (&raw mut self.names[count]).cast();
            header.msg_namelen = name_len;
            // The array never grows past its capacity, so this address stays.
            header.msg_iov = self.parts[first..].as_mut_ptr();
            header.msg_iovlen = (self.parts.len() - first) as _;
            header.msg_control = if used > 0 {
                control.as_mut_ptr()
            } else {
                std::ptr::null_mut()
            };
            header.msg_controllen = used as _;
            header.msg_flags = 0;
            count += 1;
        }
        count
    }

    /// Appends the pieces as parts; `false` if one is not wholly in its memory.
    fn gather(&mut self, pieces: &[Piece], pool: &Pool, slab: &[u8]) -> bool {
        for piece in pieces {
            let bytes = match piece.src {
                Src::Pool(buf) => pool.slice(buf, piece.off, piece.len),
                Src::Slab => slab
                    .get(piece.off as usize..)
                    .and_then(|bytes| bytes.get(..piece.len as usize)),
            };
            let Some(bytes) = bytes else { return false };
            self.parts.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
        true
    }
}
