//! Where a sink's frames come from: an AF_XDP ring with its program, or a packet socket.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use ringway_packet::offload::Gso;
use ringway_ports::Pool;
use ringway_ports::raw::RawReceiver;
use ringway_ports::xdp::{AttachOptions, Attachment, Filter, Program, XskMap};
use ringway_ports::xsk::{RxFrame, Xsk};

use super::{Io, LoadError, Tally, clock, queue, route};

/// Frames kept in the fill ring.
const FILL: u32 = 2047;
/// Bytes that may wait in a packet socket: some 20,000 small packets with what the kernel adds.
const BUFFER: usize = 32 << 20;
/// Longest sleep.
const NAP: Duration = Duration::from_millis(20);

enum Device {
    Packet {
        socket: RawReceiver,
        // Nobody reads it: it keeps the stack from answering each packet with "port unreachable".
        _bound: Option<UdpSocket>,
    },
    Ring {
        xsk: Box<Xsk>,
        pool: Box<Pool>,
        received: Vec<RxFrame>,
        // Removes the program when dropped.
        _attachment: Attachment,
        _map: XskMap,
    },
}

/// An interface to count at, of the namespace of the thread that opened it.
pub struct Inlet {
    interface: String,
    device: Device,
    fell_back: Option<String>,
}

impl Inlet {
    /// Opens `interface` for packets to UDP port `port`. A ring takes those that go to an address of the
    /// interface away from the node's stack; a packet socket sees a copy of everything.
    ///
    /// # Errors
    /// It is not there, or does not do what `io` demands.
    pub fn open(interface: &str, io: Io, port: u16) -> Result<Inlet, LoadError> {
        let ifindex = if_nametoindex(interface).map_err(LoadError::interface(interface))?;
        let mut fell_back = None;
        if io.resolve(interface) == Io::Xdp {
            match ring(interface, ifindex, port) {
                Ok(device) => return Ok(Inlet::of(interface, device, None)),
                Err(error) if io == Io::Xdp => return Err(error),
                Err(error) => fell_back = Some(error.to_string()),
            }
        }
        let socket = RawReceiver::open(ifindex, BUFFER).map_err(|source| LoadError::Packet {
            interface: interface.to_owned(),
            source,
        })?;
        let bound = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
            .ok();
        if let Some(bound) = &bound {
            // The least there is: full, it drops at once.
            let _ = setsockopt(bound, sockopt::RcvBuf, &1);
        }
        let device = Device::Packet {
            socket,
            _bound: bound,
        };
        Ok(Inlet::of(interface, device, fell_back))
    }

    fn of(interface: &str, device: Device, fell_back: Option<String>) -> Inlet {
        Inlet {
            interface: interface.to_owned(),
            device,
            fell_back,
        }
    }

    /// `AF_PACKET`, or `AF_XDP, copy`, and why.
    pub fn describe(&self) -> String {
        let xsk = match &self.device {
            Device::Packet { .. } => None,
            Device::Ring { xsk, .. } => Some(&**xsk),
        };
        queue::describe(xsk, self.fell_back.as_deref())
    }

    /// Counts what waits; returns the number of frames.
    ///
    /// # Errors
    /// The interface is gone or down.
    pub fn receive(&mut self, tally: &mut Tally) -> Result<usize, LoadError> {
        match &mut self.device {
            Device::Packet { socket, .. } => {
                // Read after the system call, when the packets are here.
                let mut now = None;
                let result = socket.receive(|frame| {
                    let now = *now.get_or_insert_with(clock::now);
                    let gso = frame.offload.ok().filter(|offload| offload.gso == Gso::Udp);
                    tally.frame(frame.bytes, gso.map(|offload| offload.gso_size), now);
                });
                result.map_err(|source| LoadError::Receive {
                    interface: self.interface.clone(),
                    source,
                })
            }
            Device::Ring {
                xsk,
                pool,
                received,
                ..
            } => {
                let count = xsk.receive(pool, received, 64);
                let now = clock::now();
                for RxFrame { buf, off, len } in received.drain(..) {
                    tally.frame(pool.slice(buf.id(), off, len).unwrap_or(&[]), None, now);
                    pool.free(buf);
                }
                Ok(count)
            }
        }
    }

    /// Sleeps until a frame waits, not for long.
    pub fn wait(&self) {
        let fd: BorrowedFd<'_> = match &self.device {
            Device::Packet { socket, .. } => socket.as_fd(),
            Device::Ring { xsk, .. } => xsk.fd().as_fd(),
        };
        let timeout = PollTimeout::try_from(NAP).unwrap_or(PollTimeout::ZERO);
        // An interruption is as good as a wake-up.
        let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
    }

    /// Frames that arrived and found no room here: lost by the sink, not on the way.
    pub fn overrun(&mut self) -> u64 {
        match &mut self.device {
            Device::Packet { socket, .. } => socket.overrun().unwrap_or(0),
            // An empty fill ring is in the drops already.
            Device::Ring { xsk, .. } => {
                let statistics = xsk.statistics();
                statistics.map_or(0, |s| s.rx_dropped + s.rx_ring_full)
            }
        }
    }
}

/// Counts until `stop` is set and then until all that was sent is here, or nothing of ours has come for
/// `quiet`.
///
/// # Errors
/// The interface is gone or down.
pub fn count_until(
    inlet: &mut Inlet,
    tally: &mut Tally,
    stop: &AtomicBool,
    quiet: Duration,
) -> Result<(), LoadError> {
    let (mut last, mut seen) = (Instant::now(), tally.received());
    loop {
        // Before receiving: what came before it was set is counted.
        let stopped = stop.load(Ordering::Acquire);
        let frames = inlet.receive(tally)?;
        if !stopped || tally.received() != seen {
            (last, seen) = (Instant::now(), tally.received());
        }
        if stopped {
            let whole = tally.ended() && tally.counts().lost == 0;
            if whole || last.elapsed() >= quiet {
                return Ok(());
            }
        }
        if frames == 0 {
            inlet.wait();
        }
    }
}

fn ring(interface: &str, ifindex: u32, port: u16) -> Result<Device, LoadError> {
    let bpf = |source| LoadError::Bpf {
        interface: interface.to_owned(),
        source,
    };
    let (xsk, pool) = queue::open(interface, ifindex, FILL)?;
    let map = XskMap::new(1).map_err(bpf)?;
    map.set(0, xsk.fd().as_fd()).map_err(bpf)?;
    let filter = Filter {
        addresses: route::addresses(interface),
        ports: vec![port],
        cidrs: Vec::new(),
    };
    let program = Program::load(&filter, &map, false).map_err(bpf)?;
    let attachment =
        Attachment::attach(interface, &program, AttachOptions::default()).map_err(|source| {
            LoadError::Attach {
                interface: interface.to_owned(),
                source,
            }
        })?;
    Ok(Device::Ring {
        xsk: Box::new(xsk),
        pool: Box::new(pool),
        received: Vec::with_capacity(64),
        _attachment: attachment,
        _map: map,
    })
}
