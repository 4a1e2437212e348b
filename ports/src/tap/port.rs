//! One queue of a TAP as a port: one system call per frame, straight from and into pool buffers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ringway_packet::offload::{Gso, Offload, VNET_HDR_LEN};

use crate::frame::{Batch, Frame};
use crate::pool::{HEADROOM, Pool};
use crate::port::{Port, TransmitError};
use crate::sys;

const ETHERNET: usize = 14;
/// The kernel copies this much of a large frame into the linear part of its buffer: all headers fit.
const LINEAR_HINT: u32 = 256;
/// `UIO_MAXIOV`: parts of one writev, the head included.
const MAX_PARTS: usize = 1024;

/// What one TAP queue counted that no frame shows.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct TapCounters {
    /// Frames with a vnet header that makes no sense, shorter than an Ethernet header, or longer than a
    /// pool buffer.
    pub malformed: u64,
    /// Times a receive stopped because the pool was empty.
    pub no_buffer: u64,
}

/// The [`Port`] over one attached queue.
#[derive(Debug)]
pub struct Tap {
    fd: Arc<OwnedFd>,
    port: u32,
    parts: Parts,
    counters: TapCounters,
}

/// The iovec array, kept for reuse.
#[derive(Debug)]
struct Parts(Vec<libc::iovec>);

// SAFETY: the array's pointers are meaningful only inside one `transmit`, which fills it first; between
// calls it is spare memory. The compiler sees only raw pointers.
unsafe impl Send for Parts {}

impl Tap {
    /// A port over `queue` (see [`open_queue`](super::open_queue)) that marks its frames with `port`.
    pub fn new(queue: Arc<OwnedFd>, port: u32) -> Tap {
        Tap {
            fd: queue,
            port,
            parts: Parts(Vec::with_capacity(MAX_PARTS)),
            counters: TapCounters::default(),
        }
    }

    /// The descriptor, for polling and for handing over.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// What was counted since the port was made.
    pub fn counters(&self) -> TapCounters {
        self.counters
    }

    /// Sends a frame that lies in no pool: `room` is [`VNET_HDR_LEN`] bytes, which are overwritten, and
    /// the whole frame behind them.
    ///
    /// # Errors
    /// As [`transmit`](Port::transmit).
    pub fn send(&mut self, offload: &Offload, room: &mut [u8]) -> Result<(), TransmitError> {
        let len = room.len().saturating_sub(VNET_HDR_LEN) as u32;
        let Some((header, packet)) = room.split_first_chunk_mut() else {
            return Err(TransmitError::Malformed { len, limit: 0 });
        };
        offload.write(linear_hint(offload, packet, len), header);
        let result = retrying(|| sys::write(self.fd.as_fd(), room));
        outcome(result, room.len(), len)
    }
}

impl Port for Tap {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        let mut added = 0;
        for _ in 0..budget {
            if batch.is_full() {
                break;
            }
            let Some(buf) = pool.alloc() else {
                self.counters.no_buffer += 1;
                break;
            };
            let room = &mut pool.bytes_mut(buf.id())[HEADROOM - VNET_HDR_LEN..];
            let result = loop {
                match sys::read(self.fd.as_fd(), room) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            let length = match result {
                Ok(length) => length,
                Err(error) => {
                    pool.free(buf);
                    // Frames already taken must be served; a lasting error shows again next time.
                    if error.kind() == io::ErrorKind::WouldBlock || added > 0 {
                        break;
                    }
                    return Err(error);
                }
            };
            // A read that fills the buffer was cut short: the kernel reports no more than was asked for.
            let offload = if length < room.len() {
                described(&room[..length])
            } else {
                None
            };
            let Some((offload, packets)) = offload else {
                self.counters.malformed += 1;
                pool.free(buf);
                continue;
            };
            let len = (length - VNET_HDR_LEN) as u32;
            let frame = Frame {
                offload,
                packets,
                port: self.port,
                ..Frame::whole(buf.id(), len)
            };
            if let Err(buf) = batch.push(frame, buf) {
                pool.free(buf);
                break;
            }
            added += 1;
        }
        Ok(added)
    }

    fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &Batch,
        frame: &Frame,
    ) -> Result<(), TransmitError> {
        let (start, linear) = (frame.start as usize, frame.linear as usize);
        let malformed = |limit: usize| TransmitError::Malformed {
            len: frame.len,
            limit: limit as u32,
        };
        let size = pool.len_of(frame.buf);
        if start < VNET_HDR_LEN
            || linear < ETHERNET
            || start.checked_add(linear).is_none_or(|end| end > size)
        {
            return Err(malformed(size));
        }
        let head = &mut pool.bytes_mut(frame.buf)[start - VNET_HDR_LEN..start + linear];
        let (header, packet) = head.split_at_mut(VNET_HDR_LEN);
        let header: &mut [u8; VNET_HDR_LEN] = header.try_into().expect("split at its length");
        frame
            .offload
            .write(linear_hint(&frame.offload, packet, frame.len), header);

        let (result, expected) = if frame.tail.count == 0 {
            (retrying(|| sys::write(self.fd.as_fd(), head)), head.len())
        } else {
            let slices = batch.tail(frame);
            if slices.len() != frame.tail.count as usize || slices.len() >= MAX_PARTS {
                return Err(malformed(MAX_PARTS));
            }
            let parts = &mut self.parts.0;
            parts.clear();
            let mut total = 0;
            let mut add = |bytes: &[u8]| {
                total += bytes.len();
                parts.push(libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                });
            };
            let pool = &*pool;
            add(pool
                .slice(
                    frame.buf,
                    frame.start - VNET_HDR_LEN as u32,
                    frame.linear + VNET_HDR_LEN as u32,
                )
                .unwrap_or(&[]));
            for slice in slices {
                add(pool
                    .slice(slice.buf, slice.off, slice.len)
                    .ok_or_else(|| malformed(size))?);
            }
            // SAFETY: every part is a slice of the pool, which stays borrowed over the call.
            (
                retrying(|| unsafe { sys::writev(self.fd.as_fd(), &self.parts.0) }),
                total,
            )
        };
        outcome(result, expected, frame.len)
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}

/// What a write of a frame of `len` bytes, `expected` with its vnet header, came to.
#[inline]
fn outcome(result: io::Result<usize>, expected: usize, len: u32) -> Result<(), TransmitError> {
    match result {
        Ok(written) if written == expected => Ok(()),
        Ok(_) => Err(TransmitError::Refused { len }),
        Err(error) => Err(match sys::errno(&error) {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => TransmitError::Full,
            libc::EIO => TransmitError::Down,
            libc::EBADFD => TransmitError::Gone,
            libc::EINVAL => TransmitError::Refused { len },
            errno => TransmitError::Other(errno),
        }),
    }
}

fn retrying(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Offload and wire packets of a frame as read, vnet header first; `None` if it is malformed.
fn described(bytes: &[u8]) -> Option<(Offload, u16)> {
    let (header, packet) = bytes.split_first_chunk::<VNET_HDR_LEN>()?;
    if packet.len() < ETHERNET {
        return None;
    }
    let offload = Offload::read(header, packet.len()).ok()?;
    if offload.gso == Gso::None {
        return Some((offload, 1));
    }
    // The kernel's own length of the headers is a hint. A superframe whose checksum is done is rare; then
    // it must do, for counting only.
    let hint = usize::from(u16::from_ne_bytes([header[2], header[3]]));
    let payload = packet
        .len()
        .saturating_sub(offload.header_len(packet).unwrap_or(hint));
    Some((
        offload,
        u16::try_from(offload.segments(payload).max(1)).ok()?,
    ))
}

/// What `hdr_len` tells the kernel on transmit: how much to keep linear. With 0 it would look for one
/// block of memory for the whole frame.
fn linear_hint(offload: &Offload, packet: &[u8], len: u32) -> u16 {
    let hint = match offload.gso {
        Gso::None => len.min(LINEAR_HINT) as usize,
        _ => offload.header_len(packet).unwrap_or(0),
    };
    hint.min(packet.len()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vnet header (flags, type, hdr_len, gso_size, csum_start, csum_offset) and `len` bytes of frame.
    fn read(flags: u8, kind: u8, words: [u16; 4], len: usize) -> Vec<u8> {
        let mut bytes = vec![flags, kind];
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.resize(VNET_HDR_LEN + len, 0);
        bytes
    }

    #[test]
    fn a_superframe_stands_for_its_segments() {
        let mut tcp = read(1, 1, [0, 1000, 34, 16], 34 + 32 + 2500);
        tcp[VNET_HDR_LEN + 34 + 12] = 8 << 4;
        let (offload, packets) = described(&tcp).unwrap();
        assert_eq!(
            (offload.gso, offload.gso_size, packets),
            (Gso::Tcp4, 1000, 3)
        );
        let (_, packets) = described(&read(1, 5, [0, 1000, 34, 6], 34 + 8 + 3000)).unwrap();
        assert_eq!(packets, 3);
        assert_eq!(described(&read(0, 0, [0; 4], 60)).unwrap().1, 1);
    }

    #[test]
    fn nonsense_is_malformed() {
        for (why, bytes) in [
            ("nothing", vec![]),
            ("half a vnet header", vec![0; 9]),
            ("half an Ethernet header", read(0, 0, [0; 4], 13)),
            (
                "a checksum beyond the frame",
                read(1, 0, [0, 0, 50, 16], 60),
            ),
            (
                "an unknown kind of segmentation",
                read(0, 7, [0, 100, 0, 0], 60),
            ),
            ("segments of nothing", read(1, 1, [0, 0, 34, 16], 60)),
        ] {
            assert!(described(&bytes).is_none(), "{why}");
        }
    }

    #[test]
    fn no_header_panics() {
        let mut state = 1u32;
        for _ in 0..100_000 {
            let mut bytes = [0; 40];
            for byte in &mut bytes {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            bytes[1] %= 6;
            let len = state as usize % bytes.len();
            if let Some((offload, packets)) = described(&bytes[..len]) {
                assert!(packets >= 1);
                assert!(usize::from(linear_hint(&offload, &bytes[..len], len as u32)) <= len);
            }
        }
    }
}
