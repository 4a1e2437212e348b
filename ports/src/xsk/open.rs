//! Opening: socket, UMEM, rings, bind, and what was got.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::Xsk;
use super::ring::{Consumer, Producer};
use crate::pool::{FRAME_SIZE, Pool};
use crate::sys;

const AF_XDP: i32 = libc::AF_XDP;
const SOL_XDP: i32 = libc::SOL_XDP;
// include/uapi/asm-generic/socket.h
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
/// Pause between two attempts at a queue that is just being let go of.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Whether the driver's own memory is to be bypassed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ZeroCopy {
    /// Where the driver can, else by copying.
    Prefer,
    /// Only by copying.
    Never,
}

/// How a ring is to be opened.
#[derive(Copy, Clone, Debug)]
pub struct XskConfig {
    /// Interface index in the calling thread's namespace.
    pub ifindex: u32,
    /// Receive queue of the interface.
    pub queue: u32,
    /// Number of this ring among those of its pool, open or not reclaimed, from 0, below 250.
    pub ring: u8,
    /// Entries of receive, fill, transmit and completion ring each; a power of two.
    pub entries: u32,
    /// Frames kept in the fill ring; fewer stay in the caches better, more take larger bursts.
    pub fill: u32,
    /// Zero-copy or not.
    pub zero_copy: ZeroCopy,
    /// Microseconds the kernel polls the device in our system calls, instead of by interrupts
    /// (`SO_PREFER_BUSY_POLL`); `None`: not.
    pub busy_poll_us: Option<u32>,
    /// How long to wait for a queue that another socket is just letting go of.
    pub patience: Duration,
}

/// What was got.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Got {
    /// `XDP_OPTIONS` says zero-copy.
    pub zero_copy: bool,
    /// Why not, if it was asked for: the kernel's word for it.
    pub refused: Option<String>,
    /// The device is polled in our system calls.
    pub busy_poll: bool,
    /// Times the queue was found busy before it was got.
    pub retries: u32,
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// No AF_XDP, or no right to it.
    #[error("no AF_XDP socket: {0}; it needs CONFIG_XDP_SOCKETS and CAP_NET_RAW")]
    Socket(#[source] io::Error),
    /// The pool's memory was not accepted.
    #[error(
        "{bytes} bytes of packet memory cannot be registered with AF_XDP: {source}; raise RLIMIT_MEMLOCK (ulimit -l) or give the agent CAP_IPC_LOCK"
    )]
    Umem {
        /// Its size.
        bytes: usize,
        /// Why.
        source: io::Error,
    },
    /// A ring could not be made.
    #[error("AF_XDP {ring} ring of {entries} entries: {source}")]
    Ring {
        /// Which.
        ring: &'static str,
        /// How large.
        entries: u32,
        /// Why.
        source: io::Error,
    },
    /// Somebody has the queue.
    #[error(
        "queue {queue} of interface {ifindex} belongs to another AF_XDP socket (waited {waited_ms} ms); end the program that has it: `ss --xdp -p`"
    )]
    Busy {
        /// Interface index.
        ifindex: u32,
        /// Queue.
        queue: u32,
        /// How long was waited.
        waited_ms: u64,
    },
    /// No such queue.
    #[error("interface {ifindex} has no queue {queue} that AF_XDP can use: {source}")]
    Queue {
        /// Interface index.
        ifindex: u32,
        /// Queue.
        queue: u32,
        /// Why.
        source: io::Error,
    },
    /// Rings were opened and closed so fast that the kernel has not let go of them.
    #[error(
        "{rings} rings closed within a second are not released by the kernel yet; try again in a second"
    )]
    Unreleased {
        /// How many.
        rings: usize,
    },
    /// Anything else about the device.
    #[error("queue {queue} of interface {ifindex} cannot be bound: {source}")]
    Bind {
        /// Interface index.
        ifindex: u32,
        /// Queue.
        queue: u32,
        /// Why.
        source: io::Error,
    },
}

impl Xsk {
    /// Opens a ring pair on a queue. The first of a pool registers its memory; the others name one of
    /// those in `share`.
    ///
    /// # Errors
    /// See [`XskError`]. The pool is as before.
    pub fn open(
        pool: &mut Pool,
        config: &XskConfig,
        share: Option<BorrowedFd<'_>>,
    ) -> Result<Xsk, XskError> {
        let fd = sys::socket(AF_XDP, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0)
            .map_err(XskError::Socket)?;
        if share.is_none() {
            register(&fd, pool)?;
        }
        let mut xsk = rings(Arc::new(fd), config)?;
        // Some drivers want frames in the fill ring before they are bound.
        xsk.refill(pool);
        match bind(&xsk, config, share) {
            Ok(got) => {
                xsk.got = got;
                xsk.got.busy_poll = busy_poll(&xsk, config);
                Ok(xsk)
            }
            Err(error) => {
                // Never bound, so nobody else knows these frames.
                xsk.abandon(pool);
                Err(error)
            }
        }
    }
}

fn register(fd: &OwnedFd, pool: &Pool) -> Result<(), XskError> {
    let (address, bytes) = pool.region();
    let umem = libc::xdp_umem_reg_v1 {
        addr: address as u64,
        len: bytes as u64,
        chunk_size: FRAME_SIZE as u32,
        headroom: 0,
    };
    // SAFETY: the structure is that of the option. The memory stays mapped as long as the pool lives, and
    // the kernel pins its pages besides; of the bytes behind lent buffers no reference is given out.
    unsafe { sys::set_option_struct(fd.as_fd(), SOL_XDP, libc::XDP_UMEM_REG, &umem) }
        .map_err(|source| XskError::Umem { bytes, source })
}

fn rings(fd: Arc<OwnedFd>, config: &XskConfig) -> Result<Xsk, XskError> {
    let entries = config.entries;
    let failed = |ring: &'static str| {
        move |source: io::Error| XskError::Ring {
            ring,
            entries,
            source,
        }
    };
    for (ring, option) in [
        ("fill", libc::XDP_UMEM_FILL_RING),
        ("completion", libc::XDP_UMEM_COMPLETION_RING),
        ("receive", libc::XDP_RX_RING),
        ("transmit", libc::XDP_TX_RING),
    ] {
        sys::set_option(fd.as_fd(), SOL_XDP, option, entries as i32).map_err(failed(ring))?;
    }
    // SAFETY: the structure is that of the option, and made of numbers.
    let offsets: libc::xdp_mmap_offsets =
        unsafe { sys::get_option_struct(fd.as_fd(), SOL_XDP, libc::XDP_MMAP_OFFSETS) }
            .map_err(failed("any"))?;
    let at = fd.as_fd();
    let fill = Producer::map(
        at,
        libc::XDP_UMEM_PGOFF_FILL_RING as i64,
        &offsets.fr,
        entries,
    )
    .map_err(failed("fill"))?;
    let completion = Consumer::map(
        at,
        libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
        &offsets.cr,
        entries,
    )
    .map_err(failed("completion"))?;
    let rx = Consumer::map(at, libc::XDP_PGOFF_RX_RING, &offsets.rx, entries)
        .map_err(failed("receive"))?;
    let tx = Producer::map(at, libc::XDP_PGOFF_TX_RING, &offsets.tx, entries)
        .map_err(failed("transmit"))?;
    Ok(Xsk::new(fd, config, fill, completion, rx, tx))
}

/// Binds with the best mode that works; a queue that is being let go of is waited for.
fn bind(xsk: &Xsk, config: &XskConfig, share: Option<BorrowedFd<'_>>) -> Result<Got, XskError> {
    let XskConfig { ifindex, queue, .. } = *config;
    let started = Instant::now();
    let mut got = Got::default();
    let modes: &[u16] = match (share, config.zero_copy) {
        // The mode is that of the socket the memory was registered with.
        (Some(_), _) => &[libc::XDP_SHARED_UMEM],
        (None, ZeroCopy::Prefer) => &[libc::XDP_ZEROCOPY, libc::XDP_COPY],
        (None, ZeroCopy::Never) => &[libc::XDP_COPY],
    };
    let mut left = modes.iter();
    let mut mode = left.next();
    while let Some(&flag) = mode {
        let wakeup = if share.is_some() {
            0
        } else {
            libc::XDP_USE_NEED_WAKEUP
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: AF_XDP as u16,
            sxdp_flags: flag | wakeup,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: share.map_or(0, |fd| std::os::fd::AsRawFd::as_raw_fd(&fd) as u32),
        };
        // SAFETY: the address is that of the family.
        let Err(source) = (unsafe { sys::bind(xsk.fd().as_fd(), &address) }) else {
            // SAFETY: the structure is that of the option, and made of one number.
            let options: io::Result<libc::xdp_options> =
                unsafe { sys::get_option_struct(xsk.fd().as_fd(), SOL_XDP, libc::XDP_OPTIONS) };
            got.zero_copy =
                options.is_ok_and(|options| options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0);
            return Ok(got);
        };
        match source.raw_os_error() {
            Some(libc::EBUSY) if started.elapsed() < config.patience => {
                got.retries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Some(libc::EBUSY) => {
                return Err(XskError::Busy {
                    ifindex,
                    queue,
                    waited_ms: started.elapsed().as_millis() as u64,
                });
            }
            _ if flag == libc::XDP_ZEROCOPY => {
                got.refused = Some(source.to_string());
                mode = left.next();
            }
            Some(libc::EINVAL | libc::ENODEV) => {
                return Err(XskError::Queue {
                    ifindex,
                    queue,
                    source,
                });
            }
            _ => {
                return Err(XskError::Bind {
                    ifindex,
                    queue,
                    source,
                });
            }
        }
    }
    unreachable!("the last mode returns")
}

fn busy_poll(xsk: &Xsk, config: &XskConfig) -> bool {
    let Some(us) = config.busy_poll_us else {
        return false;
    };
    [
        (SO_PREFER_BUSY_POLL, 1),
        (libc::SO_BUSY_POLL, us as i32),
        (SO_BUSY_POLL_BUDGET, 64),
    ]
    .into_iter()
    .all(|(name, value)| sys::set_option(xsk.fd().as_fd(), libc::SOL_SOCKET, name, value).is_ok())
}
