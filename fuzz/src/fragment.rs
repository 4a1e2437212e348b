//! Any IPv4 packet through fragmentation: pieces fit the MTU, are good packets, and carry every byte
//! once, at its offset.
//!
//! Input: MTU (2), the packet.

use ringway_packet::ipv4::{Fragmenter, View};
use ringway_packet::kit;

use crate::input::Input;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mtu = usize::from(input.u16());
    let mut packet = input.rest().to_vec();
    let header = usize::from(packet.first().copied().unwrap_or(0) & 0xf) * 4;
    if (20..=packet.len()).contains(&header) {
        kit::fix_ipv4(&mut packet, 0);
    }
    check(&packet, mtu);
}

/// Fragments `packet` for `mtu` if that can be done, and checks what comes out.
pub fn check(packet: &[u8], mtu: usize) {
    let Ok(fragmenter) = Fragmenter::new(packet, mtu) else {
        return;
    };
    let Ok(whole) = View::new(packet) else {
        return;
    };
    let start = whole.header_len();
    let mut at = start;
    for i in 0..fragmenter.count() {
        let mut piece = [0; 60];
        let (header_len, payload) = (fragmenter.header_len(i), fragmenter.payload(i));
        fragmenter.write_header(i, &mut piece[..header_len]);
        let piece = [&piece[..header_len], &packet[payload.clone()]].concat();
        assert!(
            piece.len() <= mtu,
            "{} bytes for an MTU of {mtu}",
            piece.len()
        );
        assert_eq!(payload.start, at);
        at = payload.end;
        let view = View::new(&piece).expect("a good packet");
        assert_eq!(view.payload().len(), payload.len());
        assert_eq!(
            view.fragment_offset(),
            whole.fragment_offset() + payload.start - start
        );
        let last = i + 1 == fragmenter.count();
        assert_eq!(view.more_fragments(), !last || whole.more_fragments());
        if fragmenter.count() > 1 {
            assert!(last || payload.len() % 8 == 0 && !payload.is_empty());
        }
        let (repr, first) = (view.repr(), whole.repr());
        assert_eq!(
            (repr.src, repr.dst, repr.id, repr.proto, repr.ttl, repr.tos),
            (
                first.src,
                first.dst,
                first.id,
                first.proto,
                first.ttl,
                first.tos
            )
        );
    }
    assert_eq!(at, start + whole.payload().len());
}
