//! Writing capture files that tcpdump and Wireshark read.

use std::io::{self, Write};
use std::time::Duration;

use super::{FILE_HEADER, LINKTYPE_ETHERNET, MAGIC_NANOS, MAX_PACKET, PACKET_HEADER};

/// Writes a pcap file with nanosecond times, little endian.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    snap_len: u32,
}

impl<W: Write> Writer<W> {
    /// Writes the file header. Packets are cut to `snap_len` bytes; 0 or more than [`MAX_PACKET`] means
    /// [`MAX_PACKET`]. Give it a buffered output.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(mut output: W, snap_len: u32) -> io::Result<Writer<W>> {
        let snap_len = if snap_len == 0 {
            MAX_PACKET
        } else {
            snap_len.min(MAX_PACKET)
        };
        let mut header = [0u8; FILE_HEADER];
        header[..4].copy_from_slice(&MAGIC_NANOS.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&snap_len.to_le_bytes());
        header[20..].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        output.write_all(&header)?;
        Ok(Writer { output, snap_len })
    }

    /// Writes one packet given as its pieces in order. `original_len` is its length on the wire. Times
    /// past the year 2106 do not fit the format and wrap.
    ///
    /// # Errors
    /// Writing failed; the file may end in half a packet.
    pub fn write<'a>(
        &mut self,
        time: Duration,
        original_len: u32,
        pieces: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> io::Result<()> {
        let all: usize = pieces.clone().into_iter().map(<[u8]>::len).sum();
        let mut left = all.min(self.snap_len as usize);
        let mut header = [0u8; PACKET_HEADER];
        header[..4].copy_from_slice(&(time.as_secs() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&time.subsec_nanos().to_le_bytes());
        header[8..12].copy_from_slice(&(left as u32).to_le_bytes());
        header[12..].copy_from_slice(&original_len.to_le_bytes());
        self.output.write_all(&header)?;
        for piece in pieces {
            let part = &piece[..piece.len().min(left)];
            self.output.write_all(part)?;
            left -= part.len();
        }
        Ok(())
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// Flushing failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcap::Reader;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(Vec::new(), 5).unwrap();
        let time = Duration::new(1_700_000_000, 123_456_789);
        writer.write(time, 3, [&b"abc"[..]]).unwrap();
        writer
            .write(time, 9, [&b"abc"[..], b"def", b"ghi"])
            .unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!(
            (packet.time, packet.original_len, packet.bytes),
            (time, 3, &b"abc"[..])
        );
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!((packet.original_len, packet.bytes), (9, &b"abcde"[..]));
        assert!(reader.next_packet().unwrap().is_none());
    }
}
