//! A captured packet as one line.

use ringway_ports::pcap::ng::{self, Block, Direction};

use crate::summary;

/// Names of interfaces so far.
#[derive(Default)]
pub(super) struct Lines {
    interfaces: Vec<String>,
}

impl Lines {
    /// The line of a packet; none for any other block.
    pub(super) fn line(&mut self, block: &[u8]) -> Option<String> {
        if let Some(name) = ng::interface_name(block) {
            self.interfaces.push(name.into());
            return None;
        }
        let Block::Packet {
            interface,
            time,
            original_len,
            bytes,
            options,
        } = ng::understand(block)
        else {
            return None;
        };
        let interface = self.interfaces.get(interface as usize);
        let interface = interface.map_or("?", String::as_str);
        let way = match ng::direction(options) {
            Some(Direction::In) => "in ",
            Some(Direction::Out) => "out",
            None => "   ",
        };
        let comment = ng::comment(options).unwrap_or("");
        let what = summary::frame(bytes, original_len as usize);
        let time = summary::clock(time);
        Some(format!("{time} {interface} {way} {what}  [{comment}]\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    fn line(bytes: &[u8], comment: &str) -> String {
        let (mut interface, mut packet) = (Vec::new(), Vec::new());
        let described = ng::Interface {
            name: "default/web",
            ..ng::Interface::default()
        };
        ng::interface(&mut interface, &described, 100);
        let taken = ng::Packet {
            interface: 0,
            time: (13 * 3600 + 5 * 60 + 7) * 1_000_000_000 + 123_456_789,
            original_len: bytes.len() as u32,
            bytes,
            direction: Direction::In,
            lost: 0,
            comment,
        };
        ng::packet(&mut packet, &taken);
        let mut lines = Lines::default();
        assert_eq!(lines.line(&interface), None);
        lines.line(&packet).unwrap()
    }

    #[test]
    fn a_line_says_who_what_and_what_became_of_it() {
        let frame = kit::udp("10.77.1.2:1000", "10.77.2.2:53")
            .payload_len(20)
            .frame();
        assert_eq!(
            line(&frame, "to peer node2"),
            "13:05:07.123456 default/web in  10.77.1.2:1000 > 10.77.2.2:53 UDP 62 bytes  [to peer node2]\n"
        );
    }
}
