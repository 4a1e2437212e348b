//! Receiving: one `recvmmsg` into pool buffers, as many messages per call as keep it near 256 KB.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::address::Name;
use super::cmsg::{Control, int, nanoseconds};
use super::errors;
use super::report::TxReport;
use crate::pool::{Buf, BufId, HEADROOM, Pool};

/// Messages of one call, at most.
const MAX_MESSAGES: usize = 64;
/// Messages of one call, at least: a few 64 KB buffers fit any L2.
const MIN_MESSAGES: usize = 4;
/// What one call should bring at most, in bytes.
const BYTES_PER_CALL: usize = 256 * 1024;

/// One received message: one datagram, or several of one size that `UDP_GRO` put together.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Datagrams {
    /// The buffer.
    pub buf: BufId,
    /// Offset of the UDP payload; at least [`HEADROOM`].
    pub start: u32,
    /// UDP payload in bytes, all datagrams together.
    pub len: u32,
    /// Bytes of each datagram; the last may be shorter. Never 0; not more than `len` unless `len` is 0.
    pub segment: u32,
    /// Outer source address in host order, IPv4 as v4-mapped.
    pub source: u128,
    /// Outer source port.
    pub source_port: u16,
    /// DSCP and ECN of the outer header (of every datagram: `UDP_GRO` joins only equal ones).
    pub tos: u8,
    /// When it came to this node, in nanoseconds of `CLOCK_REALTIME`; 0: not known.
    pub stamp: u64,
    /// Whoever reads found that it stood too long.
    pub congested: bool,
}

/// Received messages, and the buffers they lie in.
#[derive(Debug)]
pub struct Received {
    /// The messages in order of arrival.
    pub datagrams: Vec<Datagrams>,
    /// The buffers they lie in, and those of what was received but is no datagram.
    pub buffers: Vec<Buf>,
    /// Whether the last call took all that waited: what comes later wakes an edge-triggered poll.
    pub drained: bool,
}

impl Received {
    /// Room for 64 messages.
    pub fn new() -> Received {
        Received {
            datagrams: Vec::with_capacity(MAX_MESSAGES),
            // Frames of a ring come one by one, and more of them at a time.
            buffers: Vec::with_capacity(4 * MAX_MESSAGES),
            drained: false,
        }
    }

    /// Returns every buffer to the pool, the first received last; then empty.
    pub fn recycle(&mut self, pool: &mut Pool) {
        while let Some(buf) = self.buffers.pop() {
            pool.free(buf);
        }
        self.datagrams.clear();
    }
}

impl Default for Received {
    fn default() -> Self {
        Self::new()
    }
}

/// What the receive socket counted.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct RxCounters {
    /// Messages received (one may stand for many datagrams).
    pub messages: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// UDP payload bytes received.
    pub bytes: u64,
    /// Datagrams the kernel dropped because the receive buffer was full (`SO_RXQ_OVFL`), in the life of
    /// the socket; known once a datagram arrives after them.
    pub overflow: u32,
    /// Messages longer than a pool buffer, dropped.
    pub truncated: u64,
    /// ICMP errors read from the error queue.
    pub icmp_errors: u64,
    /// Times nothing was received because the pool was empty.
    pub no_buffer: u64,
}

/// The receive socket with its reusable arrays.
pub(super) struct Receiver {
    fd: OwnedFd,
    v6: bool,
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control>,
    buffers: Vec<Buf>,
    /// Messages to ask for in the next call.
    want: usize,
    counters: RxCounters,
    /// Takes what the error queue of this socket says; the socket sends nothing, so it is of no use.
    errors: TxReport,
}

// SAFETY: the pointers in the arrays are set anew before every call and used only within it; between calls
// they are spare memory. The compiler sees only raw pointers.
unsafe impl Send for Receiver {}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("fd", &self.fd)
            .field("v6", &self.v6)
            .field("counters", &self.counters)
            .finish()
    }
}

impl Receiver {
    pub(super) fn new(fd: OwnedFd, v6: bool) -> Receiver {
        // SAFETY: an mmsghdr of zeroes is valid: null pointers and zero lengths.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Receiver {
            fd,
            v6,
            headers: vec![header; MAX_MESSAGES],
            parts: vec![
                libc::iovec {
                    iov_base: std::ptr::null_mut(),
                    iov_len: 0
                };
                MAX_MESSAGES
            ],
            names: vec![Name::empty(); MAX_MESSAGES],
            controls: vec![Control::new(); MAX_MESSAGES],
            buffers: Vec::with_capacity(MAX_MESSAGES),
            want: MIN_MESSAGES,
            counters: RxCounters::default(),
            errors: TxReport::new(),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn counters(&self) -> RxCounters {
        self.counters
    }

    pub(super) fn receive(
        &mut self,
        pool: &mut Pool,
        out: &mut Received,
        budget: usize,
    ) -> io::Result<usize> {
        let room = out.datagrams.capacity() - out.datagrams.len();
        let wanted = budget.min(self.want).min(room);
        let count = wanted.min(pool.available());
        out.drained = false;
        if count == 0 {
            self.counters.no_buffer += u64::from(wanted > 0);
            return Ok(0);
        }
        self.prepare(pool, count);
        let result = self.call(count);
        let got = *result.as_ref().unwrap_or(&0);
        out.drained = got < count;
        // Back in reverse, so that the buffers just filled would be next but for these untouched ones,
        // and the hot ones freed later come out first.
        for buf in self.buffers.drain(got..).rev() {
            pool.free(buf);
        }
        let kept = (0..got).filter(|&i| self.deliver(i, out)).count();
        out.buffers.append(&mut self.buffers);
        self.adapt(got);
        result.map(|_| kept)
    }

    fn prepare(&mut self, pool: &mut Pool, count: usize) {
        let len = pool.buf_size().saturating_sub(HEADROOM);
        for i in 0..count {
            let Some(buf) = pool.alloc() else { break };
            // SAFETY: the headroom is within the buffer, or the length below is 0.
            let payload = unsafe {
                pool.address(buf.id())
                    .add(if len > 0 { HEADROOM } else { 0 })
            };
            self.buffers.push(buf);
            self.parts[i] = libc::iovec {
                iov_base: payload.cast(),
                iov_len: len,
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = Name::SIZE;
            header.msg_iov = &raw mut self.parts[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].as_mut_ptr();
            header.msg_controllen = Control::SIZE as _;
            header.msg_flags = 0;
        }
    }

    /// The system call. A pending ICMP error makes it fail once; a second one is left for the next visit.
    fn call(&mut self, count: usize) -> io::Result<usize> {
        for _ in 0..3 {
            // SAFETY: `prepare` pointed the first `count` headers at live arrays of this structure and at
            // buffers of the pool, which the caller holds exclusively; none of them moves before the return.
            let got = unsafe {
                libc::recvmmsg(
                    self.fd.as_fd().as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    count as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(got) = usize::try_from(got) {
                return Ok(got);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(0),
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => {
                    return Err(error);
                }
                // An interruption, or an ICMP error: the call consumed it.
                _ => {
                    errors::drain(&self.fd, &mut self.errors);
                    self.counters.icmp_errors += self.errors.icmp_errors;
                    self.errors.clear();
                }
            }
        }
        Ok(0)
    }

    /// Turns message `i` into an entry of `out`, or drops it; whether it was kept.
    fn deliver(&mut self, i: usize, out: &mut Received) -> bool {
        let header = &self.headers[i];
        let len = header.msg_len;
        let (mut segment, mut tos, mut stamp) = (0, 0, 0);
        for (level, kind, data) in self.controls[i].entries(header.msg_hdr.msg_controllen) {
            let value = int(data).unwrap_or(0);
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => segment = value,
                (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    tos = value as u8
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => stamp = nanoseconds(data),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.counters.overflow = value as u32,
                _ => {}
            }
        }
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let source = self.names[i].dest();
        let (false, Some(source)) = (truncated, source) else {
            self.counters.truncated += 1;
            return false;
        };
        let segment = u32::try_from(segment).unwrap_or(0);
        let segment = if segment == 0 || segment > len {
            len.max(1)
        } else {
            segment
        };
        self.counters.messages += 1;
        self.counters.datagrams += u64::from(len.div_ceil(segment).max(1));
        self.counters.bytes += u64::from(len);
        out.datagrams.push(Datagrams {
            buf: self.buffers[i].id(),
            start: HEADROOM as u32,
            len,
            segment,
            source: source.addr,
            source_port: source.port,
            tos,
            stamp,
            congested: false,
        });
        true
    }

    /// Follows the size of messages: down at once, up by doubling while calls come back full.
    fn adapt(&mut self, got: usize) {
        if got == 0 {
            return;
        }
        let bytes: usize = self.headers[..got]
            .iter()
            .map(|header| header.msg_len as usize)
            .sum();
        let fitting = (BYTES_PER_CALL / (bytes / got).max(1)).clamp(MIN_MESSAGES, MAX_MESSAGES);
        if fitting < self.want {
            self.want = fitting;
        } else if got >= self.want {
            self.want = (self.want * 2).min(fitting);
        }
    }
}
