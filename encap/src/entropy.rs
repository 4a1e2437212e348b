//! Outer source port: one per inner flow, so that routers (ECMP) and NICs (RSS) on the underlay
//! spread flows and keep each flow's packets in order.
//!
//! RFC 7348 §5 recommends a hash of the inner headers, in the dynamic range 49152–65535.

/// First port used.
pub const FIRST: u16 = 49152;
/// Number of ports used, a power of two.
pub const COUNT: u16 = 16384;

/// Source port in `49152..=65535` for a flow hash. All 32 bits of the hash take part.
#[inline]
pub const fn source_port(hash: u32) -> u16 {
    let folded = hash ^ (hash >> 14) ^ (hash >> 28);
    FIRST | (folded as u16 & (COUNT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_the_dynamic_range() {
        for hash in [0, 1, 0x3fff, 0x4000, 0x8000_0000, u32::MAX] {
            assert!(source_port(hash) >= FIRST, "{hash:#x}");
        }
    }

    #[test]
    fn reaches_every_port_from_low_or_high_hash_bits() {
        for shift in [0, 14, 18] {
            let mut seen = vec![false; usize::from(COUNT)];
            for i in 0..u32::from(COUNT) {
                seen[usize::from(source_port(i << shift) - FIRST)] = true;
            }
            assert!(seen.iter().all(|&s| s), "shift {shift}");
        }
    }

    #[test]
    fn each_hash_bit_matters() {
        for bit in 0..32 {
            assert_ne!(source_port(0), source_port(1 << bit), "bit {bit}");
        }
    }
}
