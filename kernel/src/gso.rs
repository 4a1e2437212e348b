//! How large a superframe a pod's stack may hand us.
//!
//! A superframe towards a peer leaves as one `UDP_SEGMENT` message, which holds
//! at most 64 segments (`UDP_MAX_SEGMENTS`, linux/udp.h) and 65,507 bytes (the
//! largest UDP payload over IPv4). Each segment carries at most one inner IP
//! packet of the interface's MTU, its Ethernet header and the VXLAN header. One
//! superframe more than fits would need a second message for a handful of
//! segments, so the limits are set on the interface itself.

/// `UDP_MAX_SEGMENTS`: segments of one message (Linux before 6.10 has 64).
const MAX_SEGMENTS: u32 = 64;
/// 65,535 less the IPv4 and UDP headers.
const MAX_MESSAGE: u32 = 65_507;
/// Inner Ethernet (14) and VXLAN (8) headers, which every segment carries.
const PER_SEGMENT: u32 = 14 + 8;
/// IPv4 and TCP headers without options: what is not payload in a segment.
const IP_TCP: u32 = 40;
/// What TCP takes off `gso_max_size` for its own headers: `MAX_TCP_HEADER` + 1,
/// 257 to 385 with the kernel's configuration (include/net/tcp.h).
const TCP_HEADROOM: u32 = 385;
/// `GSO_LEGACY_MAX_SIZE`: a TAP takes no larger frame.
const MAX_SIZE: u32 = 65_536;

/// Limits for `IFLA_GSO_MAX_SEGS` and `IFLA_GSO_MAX_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GsoLimits {
    /// Segments in one superframe, 1 to 64. This is the limit that counts: the
    /// kernel enforces it for TCP, UDP and forwarded packets
    /// (`gso_features_check`, net/core/dev.c).
    pub segments: u32,
    /// Bytes of one superframe, chosen so that TCP can reach `segments`.
    pub size: u32,
}

/// Limits for an interface with this MTU: `segments · (mtu + 22) ≤ 65,507`.
pub fn limits(mtu: u16) -> GsoLimits {
    let mtu = u32::from(mtu).max(68);
    let segments = (MAX_MESSAGE / (mtu + PER_SEGMENT)).clamp(1, MAX_SEGMENTS);
    of_segments(mtu, segments)
}

/// The same for superframes of fewer segments, one at least.
pub fn at_most(mtu: u16, segments: u32) -> GsoLimits {
    let segments = limits(mtu).segments.min(segments).max(1);
    of_segments(u32::from(mtu).max(68), segments)
}

fn of_segments(mtu: u32, segments: u32) -> GsoLimits {
    let size = (segments * (mtu - IP_TCP) + TCP_HEADROOM).min(MAX_SIZE);
    GsoLimits { segments, size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_segments() {
        let (size, segments) = (3 * 1410 + 385, 3);
        assert_eq!(at_most(1450, 3), GsoLimits { segments, size });
        assert_eq!(at_most(1450, 1000), limits(1450));
        assert_eq!(at_most(1450, 0).segments, 1);
        assert_eq!(at_most(0, u32::MAX), limits(0));
    }

    #[test]
    fn usual_mtus() {
        // 65507 / 1472 = 44.5
        assert_eq!(
            limits(1450),
            GsoLimits {
                segments: 44,
                size: 44 * 1410 + 385
            }
        );
        // 65507 / 8972 = 7.3
        assert_eq!(limits(8950).segments, 7);
        // 65507 / 1302 = 50.3
        assert_eq!(limits(1280).segments, 50);
        // Small segments: the count is the limit.
        assert_eq!(limits(576).segments, 64);
    }

    #[test]
    fn every_mtu_fits_one_message() {
        for mtu in 0..=u16::MAX {
            let GsoLimits { segments, size } = limits(mtu);
            assert!((1..=64).contains(&segments), "mtu {mtu}");
            let wire = segments * (u32::from(mtu) + 22);
            assert!(wire <= 65_507 || segments == 1, "mtu {mtu}: {wire} bytes");
            assert!(size <= 65_536, "mtu {mtu}: {size}");
            // As many as fit: one segment more would not.
            let more = (segments + 1) * (u32::from(mtu).max(68) + 22);
            assert!(segments == 64 || more > 65_507, "mtu {mtu}");
        }
    }

    #[test]
    fn tcp_reaches_the_segment_limit() {
        // Without TCP options the payload of a segment is mtu − 40.
        for mtu in [1280u16, 1430, 1450, 8950] {
            let l = limits(mtu);
            assert!(l.size - 385 >= l.segments * (u32::from(mtu) - 40));
        }
    }
}
