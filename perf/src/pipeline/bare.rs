//! The least that encapsulation takes: a loop without a pipeline, to hold Ringway's against.
//!
//! Copy the frame into one of 512 buffers, check the IPv4 header, decrement TTL, look the /24 up in a flat
//! table, hash the flow, write new MACs and the outer headers. One function, one format, no counters but
//! its own.

use super::run::Loop;

const BATCH: usize = 64;
const BUFFERS: usize = 512;
const BUFFER: usize = 2048;
/// Where a frame begins in its buffer.
const START: usize = 128;
/// Bytes of Ethernet, IPv4, UDP and VXLAN in front of it.
const OUTER: usize = 50;
/// Bytes that are copied; frames are 60.
const SLOT: usize = 64;

pub(super) struct Bare {
    frames: Vec<[u8; SLOT]>,
    len: usize,
    next: usize,
    buffers: Vec<[u8; BUFFER]>,
    buffer: usize,
    /// Next hop by the upper 24 bits of the destination; 0 is none.
    next_hops: Vec<u16>,
    template: [u8; OUTER],
    forwarded: u64,
    dropped: u64,
}

impl Bare {
    /// For IPv4 frames of one length, at most [`SLOT`].
    pub(super) fn new(frames: &[Vec<u8>]) -> anyhow::Result<Bare> {
        let len = frames.first().map_or(0, Vec::len);
        anyhow::ensure!(
            (34..=SLOT).contains(&len) && frames.iter().all(|frame| frame.len() == len),
            "the bare loop takes frames of one length from 34 to {SLOT} bytes"
        );
        let mut next_hops = vec![0; 1 << 24];
        let mut template = [0; OUTER];
        template[12..15].copy_from_slice(&[8, 0, 0x45]);
        template[22..24].copy_from_slice(&[64, 17]);
        let slots = frames.iter().map(|frame| {
            let mut slot = [0; SLOT];
            slot[..len].copy_from_slice(frame);
            slot
        });
        let frames: Vec<_> = slots.collect();
        for frame in &frames {
            next_hops[usize::from_be_bytes([0, 0, 0, 0, 0, frame[30], frame[31], frame[32]])] = 7;
        }
        Ok(Bare {
            frames,
            len,
            next: 0,
            buffers: vec![[0; BUFFER]; BUFFERS],
            buffer: 0,
            next_hops,
            template,
            forwarded: 0,
            dropped: 0,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum + (sum >> 16)) as u16
}

/// One frame in its buffer; `false` if it is not forwarded.
#[inline(always)]
fn forward(
    buffer: &mut [u8; BUFFER],
    len: usize,
    next_hops: &[u16],
    template: &[u8; OUTER],
) -> bool {
    let (front, frame) = buffer.split_at_mut(START);
    let Some(frame) = frame.first_chunk_mut::<SLOT>() else {
        return false;
    };
    if be16(frame, 12) != 0x0800 || frame[14] != 0x45 {
        return false;
    }
    let sum: u32 = (0..10).map(|i| be16(frame, 14 + 2 * i)).sum();
    if fold(sum) != 0xffff || frame[22] <= 1 {
        return false;
    }
    frame[22] -= 1;
    let checksum = fold(be16(frame, 24) + 0x100);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    let network = u32::from_be_bytes([0, frame[30], frame[31], frame[32]]);
    if next_hops[network as usize] == 0 {
        return false;
    }
    let addresses = u64::from_le_bytes(frame[26..34].try_into().expect("eight bytes"));
    let ports = u64::from(u32::from_le_bytes(
        frame[34..38].try_into().expect("four bytes"),
    ));
    let product =
        u128::from(addresses ^ 0x9e37_79b9_7f4a_7c15) * u128::from(ports ^ 0xd1b5_4a32_d192_ed03);
    let hash = product as u64 ^ (product >> 64) as u64;
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 1, 1]);
    let Some(outer) = front.last_chunk_mut::<OUTER>() else {
        return false;
    };
    *outer = *template;
    let total = (len + 36) as u16;
    outer[16..18].copy_from_slice(&total.to_be_bytes());
    let checksum = !fold(0x1234 + u32::from(total));
    outer[24..26].copy_from_slice(&checksum.to_be_bytes());
    let port = 49152 | (hash & 0x3fff) as u16;
    outer[34..36].copy_from_slice(&port.to_be_bytes());
    outer[38..40].copy_from_slice(&((len + 16) as u16).to_be_bytes());
    true
}

impl Loop for Bare {
    fn batch(&mut self) -> anyhow::Result<()> {
        let at = self.buffer;
        self.buffer = (at + BATCH) % BUFFERS;
        let buffers = &mut self.buffers[at..at + BATCH];
        for buffer in buffers.iter_mut() {
            let slot = &self.frames[self.next];
            self.next += 1;
            if self.next == self.frames.len() {
                self.next = 0;
            }
            buffer[START..START + SLOT].copy_from_slice(slot);
        }
        for buffer in buffers.iter_mut() {
            match forward(buffer, self.len, &self.next_hops, &self.template) {
                true => self.forwarded += 1,
                false => self.dropped += 1,
            }
        }
        std::hint::black_box(buffers);
        Ok(())
    }

    fn packets(&self) -> u64 {
        self.forwarded + self.dropped
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.dropped == 0, "the bare loop dropped {}", self.dropped);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringway_packet::kit;

    use super::*;
    use crate::lab::Family;
    use crate::pipeline::{Scenario, Traffic};

    #[test]
    fn forwards_what_it_should_and_writes_right_headers() {
        let frames = Traffic::small(Scenario::Encap, Family::V4, 64)
            .frames()
            .unwrap();
        let mut bare = Bare::new(&frames).unwrap();
        bare.batch().unwrap();
        assert_eq!((bare.forwarded, bare.dropped), (64, 0));
        let mut ports = std::collections::HashSet::new();
        for (buffer, frame) in bare.buffers.iter().zip(&frames) {
            let mut expected = frame.clone();
            expected[..12].copy_from_slice(&[2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 1, 1]);
            expected[22] -= 1;
            kit::fix_ipv4(&mut expected, 14);
            assert_eq!(buffer[START..START + frame.len()], expected[..]);
            let outer = &buffer[START - OUTER..START];
            assert_eq!(be16(outer, 16) as usize, frame.len() + 36);
            ports.insert(be16(outer, 34));
        }
        assert!(ports.len() > 50, "{} source ports", ports.len());
    }

    #[test]
    fn drops_what_is_broken() {
        let mut frames = Traffic::small(Scenario::Encap, Family::V4, 4)
            .frames()
            .unwrap();
        frames[0][14] = 0x46;
        frames[1][24] ^= 1;
        frames[2][22] = 1;
        kit::fix_ipv4(&mut frames[2], 14);
        let mut bare = Bare::new(&frames).unwrap();
        bare.batch().unwrap();
        assert_eq!((bare.forwarded, bare.dropped), (16, 48));
        assert!(bare.check().is_err());
        assert!(Bare::new(&[vec![0; 65]]).is_err());
    }
}
