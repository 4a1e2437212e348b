//! Pods that lie in ways a good frame does not show: by offload metadata, by fragments, by padding,
//! by addresses that are nobody's.

mod cast;

use cast::*;
use ringway_packet::offload::{Checksum, Offload};
use ringway_switch::trace::Off;
use ringway_switch::{DropReason, Verdict};

const A: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 2];
const B: [u8; 6] = [0x0a, 0x58, 10, 77, 1, 3];

/// From alice, the checksum still to be done at `start + offset`.
fn partial(frame: &[u8], start: u16, offset: u16) -> Outcome {
    Stage::vxlan().run(frame, |s, p| {
        p.offload = Offload {
            checksum: Checksum::Partial { start, offset },
            ..Offload::default()
        };
        s.pipeline.from_port(&s.snapshot, ALICE, p, s.now, &mut Off)
    })
}

/// Whoever finishes a checksum writes two bytes after everything has been checked; they may be no
/// others than those of the checksum.
#[test]
fn a_checksum_to_be_done_overwrites_nothing_that_was_checked() {
    for frame in [
        udp4((A, GATEWAY), (alice4(), carol4()), 64, 64),
        udp4((A, B), (alice4(), bob4()), 64, 64),
        udp6((A, GATEWAY), (v6(1, 2), v6(2, 2)), 64, 64),
        udp6((A, B), (v6(1, 2), v6(1, 3)), 64, 64),
    ] {
        let l4 = if frame[12] == 8 { 34 } else { 54 };
        for at in 0..l4 + 8 {
            for start in [0, 14, l4, at / 2, at].into_iter().filter(|s| *s <= at) {
                let o = partial(&frame, start, at - start);
                let own = (start, at) == (l4, l4 + 6);
                if own {
                    assert!(
                        !matches!(o.verdict, Verdict::Drop(_)),
                        "{start}+{}: {:?}",
                        at - start,
                        o.verdict
                    );
                } else {
                    assert_eq!(
                        o.verdict,
                        Verdict::Drop(DropReason::BadOffload),
                        "{start}+{} of {frame:02x?}",
                        at - start
                    );
                    o.moved(&[
                        ("received", 1),
                        ("alice rx", 1),
                        ("dropped", 1),
                        ("drop bad_offload", 1),
                        ("alice drops", 1),
                    ]);
                }
            }
        }
        // A tunnel inside the pod: the checksum of a packet in the payload.
        let inner = partial(&frame, l4 + 8 + 20, 16);
        assert!(
            !matches!(inner.verdict, Verdict::Drop(_)),
            "{:?}",
            inner.verdict
        );
    }
}
