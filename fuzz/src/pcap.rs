//! Any file through the capture reader: bounded memory, and packets that are there.

use ringway_ports::pcap::Reader;

/// One input: the file.
pub fn run(data: &[u8]) {
    let Ok(mut reader) = Reader::new(data) else {
        return;
    };
    let mut total = 24;
    while let Ok(Some(packet)) = reader.next_packet() {
        total += 16 + packet.bytes.len();
        assert!(total <= data.len(), "more than the file holds");
    }
}
