//! Explicit congestion notification across the tunnel, RFC 6040 (normal mode).
//!
//! The ingress copies the inner ECN field to the outer header (§4.1), routers of the underlay may
//! mark CE there, the egress merges both (§4.2). DSCP is not carried outside: the outer DSCP is
//! 0 (pipe model, RFC 2983), as the kernel's VXLAN device does by default, because a pod must not
//! choose its class on the underlay.

/// ECN field, the two low bits of TOS / traffic class (RFC 3168 §5).
pub const MASK: u8 = 0b11;
/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable, ECT(1).
pub const ECT1: u8 = 0b01;
/// ECN-capable, ECT(0).
pub const ECT0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The packet must be dropped: the underlay marked congestion, and the inner transport would
/// never learn of it (RFC 6040 §4.2: outer CE, inner Not-ECT).
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("outer header is marked CE but the inner packet is Not-ECT (RFC 6040 section 4.2)")]
pub struct CeOnNotEct;

/// Outer TOS / traffic class for an inner one: ECN copied, DSCP 0.
#[inline]
pub const fn encapsulate(inner_tos: u8) -> u8 {
    inner_tos & MASK
}

/// New inner ECN field (two bits) after decapsulation. Bits above the ECN field of either
/// argument are ignored, so whole TOS bytes may be given.
#[inline]
pub const fn decapsulate(outer_ecn: u8, inner_ecn: u8) -> Result<u8, CeOnNotEct> {
    match (inner_ecn & MASK, outer_ecn & MASK) {
        (NOT_ECT, CE) => Err(CeOnNotEct),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (_, CE) => Ok(CE),
        (ECT0, ECT1) => Ok(ECT1),
        (inner, _) => Ok(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040 figure 4, row by row: outer Not-ECT, ECT(0), ECT(1), CE.
    const FIGURE_4: [(u8, [Option<u8>; 4]); 4] = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
        (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];

    #[test]
    fn decapsulation_is_figure_4() {
        for (inner, row) in FIGURE_4 {
            for (outer, expected) in [NOT_ECT, ECT0, ECT1, CE].into_iter().zip(row) {
                for dscp in [0, 0b1011_1000] {
                    assert_eq!(
                        decapsulate(outer | dscp, inner | dscp).ok(),
                        expected,
                        "inner {inner:02b} outer {outer:02b}"
                    );
                }
            }
        }
    }

    #[test]
    fn encapsulation_copies_ecn_and_clears_dscp() {
        for tos in 0..=255u8 {
            assert_eq!(encapsulate(tos), tos % 4);
        }
    }

    #[test]
    fn an_unmarked_trip_changes_nothing() {
        for inner in 0..4 {
            assert_eq!(decapsulate(encapsulate(inner), inner), Ok(inner));
        }
    }
}
