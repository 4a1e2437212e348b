//! Creating, opening and deleting TAP interfaces, in the network namespace of the calling thread.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use ringway_packet::offload::VNET_HDR_LEN;

use crate::{ethtool, sys};

const DEVICE: &str = "/dev/net/tun";
/// How long [`delete`] waits for others to let go, and between its tries.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);

/// How a TAP is made.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct TapOptions {
    /// Several queues. The kernel prepares 256 of them, 0.25 MB of slab memory instead of 0.04, and when it
    /// is first up gives each a queueing discipline: 6.4 MB and 40 ms of a busy core at a queue length of
    /// 1000, against 0.02 MB and 0.5 ms where the root is `noqueue` by then. Must be given again at every
    /// [`open_queue`].
    pub multi_queue: bool,
    /// Only this uid, or whoever has `CAP_NET_ADMIN`, may attach. Give an unused one: without it any
    /// process that may open `/dev/net/tun` can take the interface while the agent is down.
    pub owner_uid: Option<u32>,
}

/// Offloads the kernel granted on a TAP: what it may hand us, and what it takes from us.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Offloads {
    /// Frames may come and go with their checksum undone (`TUN_F_CSUM`).
    pub checksum: bool,
    /// TCP superframes over IPv4 and IPv6 (`TUN_F_TSO4 | TUN_F_TSO6`).
    pub tso: bool,
    /// UDP superframes over IPv4 and IPv6 (`TUN_F_USO4 | TUN_F_USO6`, Linux ≥ 6.2).
    pub uso: bool,
}

/// An attached queue.
#[derive(Debug)]
pub struct Opened {
    /// The queue; non-blocking, closed on exec. Closing it leaves a persistent interface in place.
    pub fd: OwnedFd,
    /// What the kernel granted.
    pub offloads: Offloads,
}

/// Why a TAP could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The TUN driver is not there or not permitted.
    #[error("cannot open {DEVICE}: {0}; the tun module must be loaded and the device accessible")]
    Device(#[source] io::Error),
    /// An interface name the kernel would not take (1 to 15 bytes, no `/`, `:` or space).
    #[error("`{name}` is not an interface name: 1 to 15 bytes without `/`, `:`, `%` or space")]
    Name {
        /// The name given.
        name: String,
    },
    /// An interface of that name exists already in this namespace.
    #[error("an interface named {name} exists already in this network namespace")]
    Taken {
        /// The name given.
        name: String,
    },
    /// There is no interface of that name in this namespace.
    #[error("there is no interface named {name} in this network namespace")]
    NotFound {
        /// The name given.
        name: String,
    },
    /// The interface is not a TAP.
    #[error("interface {name} exists but is not a TAP")]
    NotTap {
        /// The name given.
        name: String,
    },
    /// The interface was made with the other queue mode.
    #[error("interface {name} was made with multi_queue = {}, opened with multi_queue = {wanted}; they must be equal", !.wanted)]
    QueueMode {
        /// The name given.
        name: String,
        /// What the caller asked for.
        wanted: bool,
    },
    /// Another process (or descriptor) is attached to the only queue.
    #[error("interface {name} is in use: another process is attached to it")]
    Busy {
        /// The name given.
        name: String,
    },
    /// The interface has an owner and we lack `CAP_NET_ADMIN`.
    #[error(
        "not permitted to attach to interface {name}: CAP_NET_ADMIN is needed in its namespace"
    )]
    Permission {
        /// The name given.
        name: String,
    },
    /// One of the interface's 256 queues more than the kernel allows.
    #[error("interface {name} has no free queue (the kernel allows 256)")]
    TooManyQueues {
        /// The name given.
        name: String,
    },
    /// Any other failure, with the request that failed.
    #[error("{request} on interface {name} failed: {source}")]
    Request {
        /// The ioctl.
        request: &'static str,
        /// The name given.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes a persistent TAP named `name` in the calling thread's network namespace, with vnet headers and
/// all offloads, and attaches its first queue.
///
/// # Errors
/// [`TapError::Taken`] if the name is in use by any interface; the others as their texts say. Nothing is
/// left behind.
pub fn create_persistent(name: &str, options: &TapOptions) -> Result<Opened, TapError> {
    let fd = open_device()?;
    if let Err(error) = set_iff(&fd, name, flags(options.multi_queue) | libc::IFF_TUN_EXCL)? {
        return Err(match sys::errno(&error) {
            libc::EBUSY | libc::EEXIST => TapError::Taken { name: name.into() },
            libc::EPERM | libc::EACCES => TapError::Permission { name: name.into() },
            _ => request("TUNSETIFF", name)(error),
        });
    }
    if let Some(uid) = options.owner_uid {
        // SAFETY: TUNSETOWNER takes a number.
        unsafe { sys::ioctl_value(fd.as_fd(), libc::TUNSETOWNER, uid.into()) }
            .map_err(request("TUNSETOWNER", name))?;
    }
    let offloads = configure(&fd, name)?;
    // Last, so that any failure above makes the interface vanish with the descriptor.
    // SAFETY: TUNSETPERSIST takes a number.
    unsafe { sys::ioctl_value(fd.as_fd(), libc::TUNSETPERSIST, 1) }
        .map_err(request("TUNSETPERSIST", name))?;
    Ok(Opened { fd, offloads })
}

/// As [`open_queue`], but nobody else may have a queue open: of a TAP with several the kernel gives one to
/// whoever asks.
///
/// # Errors
/// As there.
pub fn open_first(name: &str, multi_queue: bool) -> Result<Opened, TapError> {
    if multi_queue && ethtool::has_carrier(name).unwrap_or(false) {
        return Err(TapError::Busy { name: name.into() });
    }
    open_queue(name, multi_queue)
}

/// Attaches to a queue of the persistent TAP `name` in the calling thread's network namespace and sets
/// its header size and offloads again.
///
/// # Errors
/// [`TapError::NotFound`] (nothing is created), [`TapError::QueueMode`], [`TapError::Busy`] and the others
/// as their texts say.
pub fn open_queue(name: &str, multi_queue: bool) -> Result<Opened, TapError> {
    if !exists(name)? {
        return Err(TapError::NotFound { name: name.into() });
    }
    let fd = open_device()?;
    if let Err(error) = set_iff(&fd, name, flags(multi_queue))? {
        return Err(match sys::errno(&error) {
            libc::EBUSY => TapError::Busy { name: name.into() },
            libc::EPERM | libc::EACCES => TapError::Permission { name: name.into() },
            libc::E2BIG => TapError::TooManyQueues { name: name.into() },
            libc::EINVAL => why_invalid(name, multi_queue)?,
            _ => request("TUNSETIFF", name)(error),
        });
    }
    if !is_persistent(&fd, name)? {
        // The interface went between the look and the attach, and the attach made a fleeting one; it
        // goes with the descriptor.
        return Err(TapError::NotFound { name: name.into() });
    }
    let offloads = configure(&fd, name)?;
    Ok(Opened { fd, offloads })
}

/// Deletes the persistent TAP `name` of the calling thread's network namespace, once no other queue of it
/// is attached. One that is in use is waited for half a second: a process that has just ended has its
/// descriptors closed a little later, and a child of it has them all until it runs its own program.
///
/// # Errors
/// As [`open_queue`]: the interface must be there, be a TAP and not be in use.
pub fn delete(name: &str) -> Result<(), TapError> {
    let begin = Instant::now();
    let opened = loop {
        let opened = match open_first(name, false) {
            Err(TapError::QueueMode { .. }) => open_first(name, true),
            other => other,
        };
        match opened {
            Err(TapError::Busy { .. }) if begin.elapsed() < PATIENCE => thread::sleep(PAUSE),
            other => break other?,
        }
    };
    unpersist(opened.fd.as_fd()).map_err(request("TUNSETPERSIST", name))
}

/// Makes the interface behind `queue` vanish when its last descriptor is closed, whatever it is called now
/// and in whatever namespace it is.
///
/// # Errors
/// `EBADFD` if the interface is gone already.
pub fn unpersist(queue: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes a number.
    unsafe { sys::ioctl_value(queue, libc::TUNSETPERSIST, 0) }
}

fn request(request: &'static str, name: &str) -> impl FnOnce(io::Error) -> TapError {
    move |source| TapError::Request {
        request,
        name: name.into(),
        source,
    }
}

fn flags(multi_queue: bool) -> i32 {
    let queues = if multi_queue {
        libc::IFF_MULTI_QUEUE
    } else {
        0
    };
    libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues
}

fn open_device() -> Result<OwnedFd, TapError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE);
    Ok(file.map_err(TapError::Device)?.into())
}

fn ifreq(name: &str) -> Result<libc::ifreq, TapError> {
    let valid = (1..libc::IFNAMSIZ).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b))
        && name != "."
        && name != "..";
    if !valid {
        return Err(TapError::Name { name: name.into() });
    }
    // SAFETY: an ifreq of zeroes is valid: integers, byte arrays and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// `TUNSETIFF`. The outer error is ours, the inner one the kernel's.
fn set_iff(fd: &OwnedFd, name: &str, flags: i32) -> Result<io::Result<()>, TapError> {
    let mut argument = ifreq(name)?;
    argument.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF takes an ifreq.
    Ok(unsafe { sys::ioctl_ref(fd.as_fd(), libc::TUNSETIFF, &mut argument) })
}

fn exists(name: &str) -> Result<bool, TapError> {
    let socket =
        sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(request("socket", name))?;
    let mut argument = ifreq(name)?;
    // SAFETY: SIOCGIFINDEX takes an ifreq.
    match unsafe { sys::ioctl_ref(socket.as_fd(), libc::SIOCGIFINDEX, &mut argument) } {
        Ok(()) => Ok(true),
        Err(error) if sys::errno(&error) == libc::ENODEV => Ok(false),
        Err(error) => Err(request("SIOCGIFINDEX", name)(error)),
    }
}

fn is_persistent(fd: &OwnedFd, name: &str) -> Result<bool, TapError> {
    let mut argument = ifreq(name)?;
    // SAFETY: TUNGETIFF takes an ifreq.
    unsafe { sys::ioctl_ref(fd.as_fd(), libc::TUNGETIFF, &mut argument) }
        .map_err(request("TUNGETIFF", name))?;
    // SAFETY: TUNGETIFF filled in the flags member, and every bit pattern is a valid integer.
    let flags = unsafe { argument.ifr_ifru.ifru_flags };
    Ok(flags as i32 & libc::IFF_PERSIST != 0)
}

/// `EINVAL` stands for "not a TAP" and for "other queue mode": attaching with the other mode tells.
fn why_invalid(name: &str, multi_queue: bool) -> Result<TapError, TapError> {
    let other = open_device()?;
    Ok(match set_iff(&other, name, flags(!multi_queue))? {
        Err(error) if sys::errno(&error) == libc::EINVAL => TapError::NotTap { name: name.into() },
        _ => TapError::QueueMode {
            name: name.into(),
            wanted: multi_queue,
        },
    })
}

/// Header size and offloads: what every attach must set again.
fn configure(fd: &OwnedFd, name: &str) -> Result<Offloads, TapError> {
    let mut size = VNET_HDR_LEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to an int.
    unsafe { sys::ioctl_ref(fd.as_fd(), libc::TUNSETVNETHDRSZ, &mut size) }
        .map_err(request("TUNSETVNETHDRSZ", name))?;
    let basic = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    // SAFETY: TUNSETOFFLOAD takes a number.
    let set = |bits: libc::c_uint| unsafe {
        sys::ioctl_value(fd.as_fd(), libc::TUNSETOFFLOAD, bits.into())
    };
    let uso = set(basic | uso).is_ok();
    if !uso {
        set(basic).map_err(request("TUNSETOFFLOAD", name))?;
    }
    Ok(Offloads {
        checksum: true,
        tso: true,
        uso,
    })
}
