//! Where generated frames leave: an AF_XDP ring or a packet socket.

use std::io;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use ringway_ports::Pool;
use ringway_ports::raw::{BATCH, RawSender};
use ringway_ports::xsk::{MAX_FRAME, Xsk};

use super::{Io, LoadError, queue};

/// How long a device may take nothing at all.
const PATIENCE: Duration = Duration::from_secs(1);

enum Device {
    Packet {
        socket: RawSender,
        memory: Vec<u8>,
        stride: usize,
    },
    Ring {
        xsk: Box<Xsk>,
        pool: Pool,
    },
}

/// An interface to send by, of the namespace of the thread that opened it.
pub struct Outlet {
    interface: String,
    device: Device,
    sent: u64,
    /// Why there is no ring, where one was looked for.
    fell_back: Option<String>,
}

impl Outlet {
    /// Opens `interface` for frames of at most `largest` bytes.
    ///
    /// # Errors
    /// It is not there, or does not do what `io` demands.
    pub fn open(interface: &str, io: Io, largest: usize) -> Result<Outlet, LoadError> {
        let ifindex = if_nametoindex(interface).map_err(LoadError::interface(interface))?;
        let mut fell_back = None;
        if largest <= MAX_FRAME && io.resolve(interface) == Io::Xdp {
            match ring(interface, ifindex) {
                Ok(device) => return Ok(Outlet::of(interface, device, None)),
                Err(error) if io == Io::Xdp => return Err(error),
                Err(error) => fell_back = Some(error.to_string()),
            }
        } else if io == Io::Xdp {
            return Err(LoadError::Size {
                size: largest,
                least: 0,
                most: MAX_FRAME,
            });
        }
        let socket = RawSender::open(ifindex).map_err(|source| LoadError::Packet {
            interface: interface.to_owned(),
            source,
        })?;
        let stride = largest.next_multiple_of(64);
        let device = Device::Packet {
            socket,
            memory: vec![0; stride * BATCH],
            stride,
        };
        Ok(Outlet::of(interface, device, fell_back))
    }

    fn of(interface: &str, device: Device, fell_back: Option<String>) -> Outlet {
        Outlet {
            interface: interface.to_owned(),
            device,
            sent: 0,
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

    /// Sends `count` frames, at most 64, each written by `write`, which returns its length. Returns how
    /// many the device refused for want of room. A ring and a socket's buffer that are full are waited for.
    ///
    /// # Errors
    /// The link is down, the interface is gone, a frame is too long, nothing moves for a second.
    pub fn burst(
        &mut self,
        count: usize,
        mut write: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<u64, LoadError> {
        let result = match &mut self.device {
            Device::Packet {
                socket,
                memory,
                stride,
            } => {
                let mut lens = [0; BATCH];
                let count = count.min(BATCH);
                for (slot, len) in memory.chunks_exact_mut(*stride).zip(&mut lens[..count]) {
                    *len = write(slot).min(*stride);
                }
                let frames: [&[u8]; BATCH] =
                    std::array::from_fn(|i| &memory[i * *stride..][..lens[i]]);
                by_socket(socket, &frames[..count])
            }
            Device::Ring { xsk, pool } => by_ring(xsk, pool, count, &mut write).map(|()| 0),
        };
        match result {
            Ok(refused) => {
                self.sent += count as u64;
                Ok(refused)
            }
            Err(source) => Err(LoadError::Send {
                interface: self.interface.clone(),
                sent: self.sent,
                source,
            }),
        }
    }

    /// Waits, not for long, until the device has all of it.
    pub fn finish(&mut self) {
        if let Device::Ring { xsk, pool } = &mut self.device {
            let begin = Instant::now();
            while xsk.sending() > 0 && begin.elapsed() < PATIENCE / 5 {
                xsk.flush(pool);
                std::thread::yield_now();
            }
        }
    }
}

fn ring(interface: &str, ifindex: u32) -> Result<Device, LoadError> {
    // Nothing is received.
    let (xsk, pool) = queue::open(interface, ifindex, 0)?;
    let xsk = Box::new(xsk);
    Ok(Device::Ring { xsk, pool })
}

fn by_socket(socket: &RawSender, frames: &[&[u8]]) -> io::Result<u64> {
    let (mut at, mut refused, mut stuck) = (0, 0, None);
    while at < frames.len() {
        match socket.send(&frames[at..]) {
            Ok(count) => at += count,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    refused += 1;
                    at += 1;
                }
                // The socket's buffer is full: what is in it has not left yet.
                Some(libc::EAGAIN | libc::EINTR) => {
                    if stuck.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    std::thread::yield_now();
                    continue;
                }
                _ => return Err(error),
            },
        }
        stuck = None;
    }
    Ok(refused)
}

fn by_ring(
    xsk: &mut Xsk,
    pool: &mut Pool,
    count: usize,
    write: &mut impl FnMut(&mut [u8]) -> usize,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut done = 0;
    while done < count {
        let Some(buf) = pool.alloc_frame() else {
            xsk.flush(pool);
            if xsk.is_stalled() {
                return Err(io::Error::from_raw_os_error(libc::ENETDOWN));
            }
            if begin.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
            continue;
        };
        let len = write(pool.bytes_mut(buf.id())) as u32;
        let mut buf = Some(buf);
        while let Some(waiting) = buf.take() {
            if let Err(back) = xsk.transmit(pool, waiting, 0, len) {
                if xsk.is_stalled() || begin.elapsed() > PATIENCE {
                    pool.free(back);
                    return Err(io::Error::from_raw_os_error(libc::ENETDOWN));
                }
                std::thread::yield_now();
                buf = Some(back);
            }
        }
        done += 1;
    }
    xsk.flush(pool);
    match xsk.is_stalled() {
        true => Err(io::Error::from_raw_os_error(libc::ENETDOWN)),
        false => Ok(()),
    }
}
