//! How large a pod's packet may be so that its encapsulation fits the underlay.
//!
//! Overhead is counted from the underlay's IP MTU to the inner IP packet:
//! outer IP (20 or 40) + UDP 8, and for VXLAN + header 8 + inner Ethernet 14. The outer Ethernet
//! header is not in the underlay's MTU. Flannel takes 50 off even where the underlay is IPv6; the
//! truth there is 70.

use crate::outer::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN};
use crate::{Carries, Encap};

/// Smallest MTU IPv4 must work with (RFC 791 §3.2).
pub const MIN_IPV4: u16 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200 §5).
pub const MIN_IPV6: u16 = 1280;

/// The underlay is too small for this encapsulation.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("underlay MTU {underlay} less {overhead} of encapsulation leaves less than {minimum}")]
pub struct MtuError {
    /// MTU of the underlay.
    pub underlay: u16,
    /// Bytes the encapsulation takes.
    pub overhead: u16,
    /// The least that must be left.
    pub minimum: u16,
}

/// Bytes an encapsulation takes off the underlay's MTU: VXLAN 50 over IPv4 and 70 over IPv6,
/// UDP 28 and 48.
#[inline]
pub const fn overhead(encap: Encap, outer_v6: bool) -> u16 {
    let ip = if outer_v6 { IPV6_LEN } else { IPV4_LEN };
    let inner = match encap.carries() {
        Carries::Frames => ETHERNET_LEN,
        Carries::Packets => 0,
    };
    (ip + encap.over().header_len() + encap.header_len() + inner) as u16
}

/// Largest inner IP packet in bytes for an underlay MTU. `inner_v6` says that IPv6 pods use the
/// path, which then must offer [`MIN_IPV6`], else [`MIN_IPV4`].
pub const fn inner_mtu(
    underlay: u16,
    encap: Encap,
    outer_v6: bool,
    inner_v6: bool,
) -> Result<u16, MtuError> {
    let overhead = overhead(encap, outer_v6);
    let minimum = if inner_v6 { MIN_IPV6 } else { MIN_IPV4 };
    match underlay.checked_sub(overhead) {
        Some(inner) if inner >= minimum => Ok(inner),
        _ => Err(MtuError {
            underlay,
            overhead,
            minimum,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VXLAN: Encap = Encap::Vxlan { vni: 1 };

    #[test]
    fn overheads() {
        assert_eq!(overhead(VXLAN, false), 50);
        assert_eq!(overhead(VXLAN, true), 70);
        assert_eq!(overhead(Encap::Udp, false), 28);
        assert_eq!(overhead(Encap::Udp, true), 48);
    }

    #[test]
    fn usual_underlays() {
        assert_eq!(inner_mtu(1500, VXLAN, false, false), Ok(1450));
        assert_eq!(inner_mtu(1500, VXLAN, true, true), Ok(1430));
        assert_eq!(inner_mtu(9001, Encap::Udp, false, false), Ok(8973));
        assert_eq!(inner_mtu(1500, Encap::Udp, true, true), Ok(1452));
        assert_eq!(inner_mtu(u16::MAX, VXLAN, false, false), Ok(65485));
    }

    #[test]
    fn limits_are_exact_and_errors_name_the_values() {
        assert_eq!(inner_mtu(1330, VXLAN, false, true), Ok(1280));
        let err = inner_mtu(1329, VXLAN, false, true).unwrap_err();
        assert_eq!(
            err.to_string(),
            "underlay MTU 1329 less 50 of encapsulation leaves less than 1280"
        );
        assert_eq!(inner_mtu(118, VXLAN, false, false), Ok(68));
        assert!(inner_mtu(117, VXLAN, false, false).is_err());
        assert!(inner_mtu(0, VXLAN, true, false).is_err());
        assert!(inner_mtu(49, VXLAN, false, false).is_err());
    }
}
