//! The port that swallows.

use std::io;

use crate::frame::{Batch, Frame};
use crate::pool::Pool;
use crate::port::{Port, TransmitError};

/// Takes every frame, counts it and forgets it; never receives.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Null {
    /// Frames taken; a superframe is one.
    pub frames: u64,
    /// Wire packets they stand for.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl Port for Null {
    fn receive(&mut self, _: &mut Pool, _: &mut Batch, _: usize) -> io::Result<usize> {
        Ok(0)
    }

    fn transmit(&mut self, _: &mut Pool, _: &Batch, frame: &Frame) -> Result<(), TransmitError> {
        self.frames += 1;
        self.packets += u64::from(frame.packets);
        self.bytes += u64::from(frame.len);
        Ok(())
    }

    fn flush(&mut self, _: &Pool) -> Result<(), TransmitError> {
        Ok(())
    }
}
