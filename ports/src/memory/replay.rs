//! The port that never runs dry.

use std::io;

use ringway_packet::offload::Offload;

use crate::frame::{Batch, Frame, Tail};
use crate::pool::{HEADROOM, Pool};
use crate::port::{Port, TransmitError};

/// A frame to replay.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ReplayFrame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Checksum and segmentation state to hand out with it.
    pub offload: Offload,
    /// Wire packets it stands for.
    pub packets: u16,
    /// Ingress port to hand out with it.
    pub port: u32,
}

impl ReplayFrame {
    /// A plain frame: one packet, nothing vouched for.
    pub fn plain(bytes: Vec<u8>, port: u32) -> ReplayFrame {
        ReplayFrame {
            bytes,
            offload: Offload::default(),
            packets: 1,
            port,
        }
    }
}

/// Brings its frames in order, again and again, each copied into a fresh pool buffer (as a NIC or a TAP
/// would place it). What is transmitted to it is refused as [`TransmitError::Down`].
#[derive(Clone, Debug)]
pub struct Replay {
    frames: Vec<ReplayFrame>,
    next: usize,
    /// Frames left to bring; `None` = endless.
    left: Option<u64>,
}

impl Replay {
    /// Endless.
    pub fn new(frames: Vec<ReplayFrame>) -> Replay {
        Replay {
            frames,
            next: 0,
            left: None,
        }
    }

    /// `total` frames, then nothing more.
    pub fn limited(frames: Vec<ReplayFrame>, total: u64) -> Replay {
        Replay {
            frames,
            next: 0,
            left: Some(total),
        }
    }
}

impl Port for Replay {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        let mut added = 0;
        let budget = self.left.map_or(budget, |left| {
            budget.min(left.try_into().unwrap_or(usize::MAX))
        });
        while added < budget && !batch.is_full() {
            let Some(source) = self.frames.get(self.next) else {
                break;
            };
            let Some(buf) = pool.alloc() else { break };
            let len = source.bytes.len();
            let Some(room) = pool.bytes_mut(buf).get_mut(HEADROOM..HEADROOM + len) else {
                pool.free(buf);
                let limit = pool.buf_size() - HEADROOM.min(pool.buf_size());
                return Err(io::Error::other(format!(
                    "a replayed frame of {len} bytes does not fit a buffer of {limit}"
                )));
            };
            room.copy_from_slice(&source.bytes);
            let len = len as u32;
            let frame = Frame {
                buf,
                start: HEADROOM as u32,
                linear: len,
                len,
                tail: Tail::default(),
                offload: source.offload,
                packets: source.packets,
                port: source.port,
            };
            if !batch.push(frame) {
                pool.free(buf);
                break;
            }
            self.next = if self.next + 1 == self.frames.len() {
                0
            } else {
                self.next + 1
            };
            added += 1;
        }
        if let Some(left) = &mut self.left {
            *left -= added as u64;
        }
        Ok(added)
    }

    fn transmit(&mut self, _: &mut Pool, _: &Batch, _: &Frame) -> Result<(), TransmitError> {
        Err(TransmitError::Down)
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}
