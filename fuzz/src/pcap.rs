//! Any file through the capture reader: bounded memory, and packets that are there.

use ringway_ports::pcap::Reader;
use ringway_ports::pcap::ng::{self, Block};

/// One input: the file.
pub fn run(data: &[u8]) {
    blocks(data);
    let Ok(mut reader) = Reader::new(data) else {
        return;
    };
    let mut total = 24;
    while let Ok(Some(packet)) = reader.next_packet() {
        total += 16 + packet.bytes.len();
        assert!(total <= data.len(), "more than the file holds");
    }
}

/// The same as pcapng, whose blocks the command line takes apart.
fn blocks(mut data: &[u8]) {
    while let Ok(Some(len)) = ng::block_len(data) {
        assert!(len >= 12);
        let (block, rest) = data.split_at(len);
        if let Block::Packet { bytes, options, .. } = ng::understand(block) {
            assert!(bytes.len() + options.len() <= block.len());
            ng::comment(options);
            ng::direction(options);
        }
        ng::interface_name(block);
        ng::losses(block);
        data = rest;
    }
}
