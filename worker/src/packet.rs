//! The two views of a frame: the worker's, by buffer number, and the pipeline's, by bytes.

use ringway_ports::{Frame, Pool};
use ringway_switch::Packet;

/// The pipeline's view of a frame.
#[inline]
pub(crate) fn packet_of<'a>(pool: &'a mut Pool, frame: &Frame) -> Packet<'a> {
    Packet {
        buf: pool.bytes_mut(frame.buf),
        start: frame.start as usize,
        linear: frame.linear as usize,
        len: frame.len as usize,
        packets: u32::from(frame.packets),
        offload: frame.offload,
    }
}

/// What the pipeline left, for the worker: where the frame now begins, and its offloads.
#[inline]
pub(crate) fn frame_of(packet: &Packet<'_>, frame: &Frame) -> Frame {
    Frame {
        start: packet.start as u32,
        linear: packet.linear as u32,
        len: packet.len as u32,
        offload: packet.offload,
        ..*frame
    }
}
