//! Opening the sockets of an underlay and setting their options.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::address::Name;
use super::config::{Granted, PathMtu, SocketConfig, SocketError, UdpChecksum};
use super::{Dest, Lane, SocketFds, holder, lanes};
use crate::sys;

/// Most source ports of one underlay, in each lane.
pub const MAX_TX_PORTS: usize = 64;
/// Attempts at the receive port, and the pause between two: 100 ms in all.
const BIND_ATTEMPTS: usize = 10;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// Opens and configures the sockets for `config` in the calling thread's network namespace.
///
/// # Errors
/// See [`SocketError`].
pub fn open_fds(config: &SocketConfig) -> Result<SocketFds, SocketError> {
    let local = config.local;
    if !(1..=MAX_TX_PORTS).contains(&config.tx_ports) {
        return Err(SocketError::TxPorts {
            given: config.tx_ports,
            limit: MAX_TX_PORTS,
        });
    }
    if config.checksum == UdpChecksum::Off && local.is_ipv6() {
        return Err(SocketError::ZeroChecksumIpv6 { local });
    }
    let mut of_group = config.clone();
    if local.port() == 0 {
        // Of those that are free the kernel would also give one that is another group's.
        let alone = open_rx(config, false)?;
        of_group.local = local_address(&alone).map_err(failed("getsockname", config))?;
    }
    let rx = [open_rx(&of_group, true)?, open_rx(&of_group, true)?];
    // Of bulk alone is asked how long it stood.
    let bulk = rx[Lane::Bulk as usize].as_fd();
    sys::set_option(bulk, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
        .map_err(failed("SO_TIMESTAMPNS", config))?;
    let pairs: Vec<_> = (0..config.tx_ports)
        .map(|_| open_tx_pair(config))
        .collect::<Result<_, _>>()?;
    // Those of a lane together: the highest bit of a hash chooses it.
    let (mut tx, bulk_tx): (Vec<_>, Vec<_>) = pairs.into_iter().map(<_>::from).unzip();
    tx.extend(bulk_tx);
    Ok(SocketFds { rx, tx })
}

fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    UdpSocket::from(fd.try_clone()?).local_addr()
}

/// The source ports of transmit sockets.
pub(super) fn source_ports(config: &SocketConfig, tx: &[OwnedFd]) -> Result<Vec<u16>, SocketError> {
    let ports: io::Result<_> = tx.iter().map(|fd| Ok(local_address(fd)?.port())).collect();
    ports.map_err(failed("getsockname", config))
}

/// What the sockets have, asked from the kernel.
pub(super) fn granted(config: &SocketConfig, fds: &SocketFds) -> Granted {
    let ask = |fd: &OwnedFd, level, name| sys::get_option(fd.as_fd(), level, name).unwrap_or(0);
    let tx = &fds.tx[0];
    let zero_checksum = ask(tx, libc::SOL_SOCKET, libc::SO_NO_CHECK) != 0;
    // Reading UDP_SEGMENT succeeds on every kernel that has it. A socket without checksum cannot segment.
    let segmentation = sys::get_option(tx.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
    Granted {
        gso: config.gso && segmentation && !zero_checksum,
        gro: fds
            .rx
            .iter()
            .all(|rx| ask(rx, libc::SOL_UDP, libc::UDP_GRO) != 0),
        zero_checksum,
        rcvbuf: ask(&fds.rx[0], libc::SOL_SOCKET, libc::SO_RCVBUF) as usize,
        sndbuf: ask(tx, libc::SOL_SOCKET, libc::SO_SNDBUF) as usize,
    }
}

/// Whether the receive port is free, for a program whose sockets share it with each other and with nobody else:
/// the kernel lets any process of the same user join them.
///
/// # Errors
/// [`SocketError::PortTaken`] with the holder, and what opening says otherwise.
pub fn probe(config: &SocketConfig) -> Result<(), SocketError> {
    open_rx(config, false).map(drop)
}

/// Opens a receive socket; `grouped`: it may share its port.
fn open_rx(config: &SocketConfig, grouped: bool) -> Result<OwnedFd, SocketError> {
    let fd = open_common(config)?;
    let set = |call, level, name, value| {
        sys::set_option(fd.as_fd(), level, name, value).map_err(failed(call, config))
    };
    if grouped {
        set("SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if config.local.is_ipv6() {
        set("IPV6_RECVTCLASS", libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    } else {
        set("IP_RECVTOS", libc::SOL_IP, libc::IP_RECVTOS, 1)?;
    }
    set("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    set_buffer(
        fd.as_fd(),
        libc::SO_RCVBUFFORCE,
        libc::SO_RCVBUF,
        config.rcvbuf,
    )
    .map_err(failed("SO_RCVBUF", config))?;
    if config.gro {
        // Refused by kernels before 5.0, which is no reason not to run; `Granted` tells.
        let _ = sys::set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
    }
    bind_patiently(&fd, config.local).map_err(|source| match sys::errno(&source) {
        libc::EADDRINUSE => SocketError::PortTaken {
            local: config.local,
            holder: holder::find(config.local),
        },
        libc::EADDRNOTAVAIL => SocketError::NoSuchAddress {
            local: config.local,
        },
        _ => failed("bind", config)(source),
    })?;
    if grouped {
        let program = lanes::chooser(config.local.is_ipv6(), config.workers);
        attach(&fd, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
            .map_err(failed("SO_ATTACH_REUSEPORT_CBPF", config))?;
    }
    Ok(fd)
}

/// Transmit sockets on a pair of source ports, one for each lane.
fn open_tx_pair(config: &SocketConfig) -> Result<[OwnedFd; 2], SocketError> {
    let random = RandomState::new().build_hasher().finish() as u32;
    let pair = lanes::bind_pair(|| open_tx(config), config.local, random)?;
    pair.map_err(|source| match sys::errno(&source) {
        libc::EADDRNOTAVAIL => SocketError::NoSuchAddress {
            local: config.local,
        },
        libc::EADDRINUSE => SocketError::NoSourcePort {
            local: config.local,
        },
        _ => failed("bind", config)(source),
    })
}

/// A transmit socket that is not bound.
fn open_tx(config: &SocketConfig) -> Result<OwnedFd, SocketError> {
    let fd = open_common(config)?;
    let set = |call, level, name, value| {
        sys::set_option(fd.as_fd(), level, name, value).map_err(failed(call, config))
    };
    if config.local.is_ipv6() {
        let value = match config.path_mtu {
            PathMtu::Probe => libc::IPV6_PMTUDISC_PROBE,
            PathMtu::Omit => libc::IPV6_PMTUDISC_OMIT,
        };
        let (level, name) = (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER);
        set("IPV6_MTU_DISCOVER", level, name, value)?;
    } else {
        let value = match config.path_mtu {
            PathMtu::Probe => libc::IP_PMTUDISC_PROBE,
            PathMtu::Omit => libc::IP_PMTUDISC_OMIT,
        };
        let (level, name) = (libc::SOL_IP, libc::IP_MTU_DISCOVER);
        set("IP_MTU_DISCOVER", level, name, value)?;
    }
    if config.checksum == UdpChecksum::Off {
        set("SO_NO_CHECK", libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
    }
    set_buffer(
        fd.as_fd(),
        libc::SO_SNDBUFFORCE,
        libc::SO_SNDBUF,
        config.sndbuf,
    )
    .map_err(failed("SO_SNDBUF", config))?;
    refuse_input(&fd).map_err(failed("SO_ATTACH_FILTER", config))?;
    Ok(fd)
}

fn open_common(config: &SocketConfig) -> Result<OwnedFd, SocketError> {
    let v6 = config.local.is_ipv6();
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let fd = sys::socket(domain, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0)
        .map_err(failed("socket", config))?;
    let set = |call, level, name| {
        sys::set_option(fd.as_fd(), level, name, 1).map_err(failed(call, config))
    };
    if v6 {
        set("IPV6_V6ONLY", libc::SOL_IPV6, libc::IPV6_V6ONLY)?;
        set("IPV6_RECVERR", libc::SOL_IPV6, libc::IPV6_RECVERR)?;
    } else {
        set("IP_RECVERR", libc::SOL_IP, libc::IP_RECVERR)?;
    }
    if let Some(device) = &config.device {
        sys::set_option_bytes(
            fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            device.as_bytes(),
        )
        .map_err(|source| SocketError::Device {
            device: device.clone(),
            source,
        })?;
    }
    Ok(fd)
}

fn failed(call: &'static str, config: &SocketConfig) -> impl FnOnce(io::Error) -> SocketError {
    let local = config.local;
    move |source| SocketError::Call {
        call,
        local,
        source,
    }
}

/// Beyond the system's limit with `CAP_NET_ADMIN`, else up to it.
fn set_buffer(fd: BorrowedFd<'_>, force: i32, plain: i32, bytes: usize) -> io::Result<()> {
    let value = i32::try_from(bytes).unwrap_or(i32::MAX);
    sys::set_option(fd, libc::SOL_SOCKET, force, value)
        .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, plain, value))
}

/// A transmit socket reads nothing, so what is sent to its port would fill its receive memory and then
/// the error queue, which shares it, would stay empty. A filter of one instruction discards it all.
fn refuse_input(fd: &OwnedFd) -> io::Result<()> {
    let reject = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    attach(fd, libc::SO_ATTACH_FILTER, &[reject])
}

/// Attaches a classic BPF program.
fn attach(fd: &OwnedFd, option: i32, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the structure's bytes are read as such; it has no padding the kernel looks at, and the
    // pointer in it is to a slice that is only read.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const program).cast::<u8>(), size_of_val(&program))
    };
    sys::set_option_bytes(fd.as_fd(), libc::SOL_SOCKET, option, bytes)
}

pub(super) fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let scope = if let SocketAddr::V6(v6) = address {
        v6.scope_id()
    } else {
        0
    };
    let (name, len) = Name::of(Dest::from(address), address.is_ipv6(), scope);
    // SAFETY: the name is a live local at least `len` long.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A socket closed a moment ago may live on in a child of its process that was forked and has not reached
/// its exec yet. Only what holds on is worth an error.
fn bind_patiently(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    for _ in 0..BIND_ATTEMPTS {
        match bind(fd, address) {
            Err(error) if sys::errno(&error) == libc::EADDRINUSE => std::thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    bind(fd, address)
}
