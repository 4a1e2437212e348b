//! The port that never runs dry.

use std::io;

use ringway_packet::offload::Offload;

use crate::frame::{Batch, Frame};
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

    /// The frame that is brought next, if there are any.
    #[inline]
    pub fn peek(&self) -> Option<&ReplayFrame> {
        self.frames.get(self.next)
    }

    /// It was brought.
    #[inline]
    pub fn advance(&mut self) {
        self.next = if self.next + 1 == self.frames.len() {
            0
        } else {
            self.next + 1
        };
    }
}

impl Port for Replay {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, budget: usize) -> io::Result<usize> {
        let mut added = 0;
        let budget = self.left.map_or(budget, |left| {
            budget.min(left.try_into().unwrap_or(usize::MAX))
        });
        while added < budget && !batch.is_full() {
            let Some(source) = self.peek() else { break };
            let Some(buf) = pool.alloc() else { break };
            let len = source.bytes.len();
            let Some(room) = pool.bytes_mut(buf.id()).get_mut(HEADROOM..HEADROOM + len) else {
                pool.free(buf);
                let limit = pool.buf_size() - HEADROOM.min(pool.buf_size());
                return Err(io::Error::other(format!(
                    "a replayed frame of {len} bytes does not fit a buffer of {limit}"
                )));
            };
            room.copy_from_slice(&source.bytes);
            let frame = Frame {
                offload: source.offload,
                packets: source.packets,
                port: source.port,
                ..Frame::whole(buf.id(), len as u32)
            };
            if let Err(buf) = batch.push(frame, buf) {
                pool.free(buf);
                break;
            }
            self.advance();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_ends_when_told() {
        let frames = (1..=3u8)
            .map(|i| ReplayFrame::plain(vec![i; 60], i.into()))
            .collect();
        let mut replay = Replay::limited(frames, 5);
        let (mut pool, mut batch) = (Pool::heap(8, 512), Batch::new());
        assert_eq!(replay.receive(&mut pool, &mut batch, 4).unwrap(), 4);
        assert_eq!(replay.receive(&mut pool, &mut batch, 4).unwrap(), 1);
        assert_eq!(replay.receive(&mut pool, &mut batch, 4).unwrap(), 0);
        let seen: Vec<_> = batch
            .frames
            .iter()
            .map(|f| (pool.bytes(f.buf)[f.start as usize], f.port))
            .collect();
        assert_eq!(seen, [(1, 1), (2, 2), (3, 3), (1, 1), (2, 2)]);
        batch.recycle(&mut pool);
        assert_eq!(pool.available(), 8);
    }

    #[test]
    fn stops_at_a_full_batch_or_an_empty_pool() {
        let mut replay = Replay::new(vec![ReplayFrame::plain(vec![0; 60], 0)]);
        let (mut pool, mut batch) = (Pool::heap(70, 256), Batch::new());
        assert_eq!(
            replay.receive(&mut pool, &mut batch, 1000).unwrap(),
            Batch::MAX_FRAMES
        );
        let mut other = Batch::new();
        assert_eq!(
            replay.receive(&mut pool, &mut other, 1000).unwrap(),
            70 - Batch::MAX_FRAMES
        );
        assert_eq!(
            Replay::new(Vec::new())
                .receive(&mut pool, &mut other, 1)
                .unwrap(),
            0
        );
    }

    #[test]
    fn a_frame_too_large_for_the_pool_is_an_error() {
        let mut replay = Replay::new(vec![ReplayFrame::plain(vec![0; 65], 0)]);
        let (mut pool, mut batch) = (Pool::heap(1, 256), Batch::new());
        let error = replay
            .receive(&mut pool, &mut batch, 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("65 bytes") && error.contains("64"),
            "{error}"
        );
        assert_eq!(pool.available(), 1);
    }
}
