//! Flannel's udp backend: the UDP payload is one bare IP packet, nothing else (port 8285).
//!
//! There is no type field, so the version nibble of the first byte says what is inside.
//! Flannel's own proxy sends IPv4 only; IPv6 is our extension between Ringway nodes.

use ringway_packet::ethertype;

/// Flannel's default port, used as source and destination.
pub const DEFAULT_PORT: u16 = 8285;

/// What the first byte said, where it should have said IP.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum UdpError {
    /// Version nibble is neither 4 nor 6.
    #[error("UDP payload starts with IP version {version}, expected 4 or 6")]
    Version {
        /// Upper nibble of the first byte.
        version: u8,
    },
}

/// EtherType of the carried packet from its first byte.
#[inline]
pub const fn protocol(first_byte: u8) -> Result<u16, UdpError> {
    match first_byte >> 4 {
        4 => Ok(ethertype::IPV4),
        6 => Ok(ethertype::IPV6),
        version => Err(UdpError::Version { version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_4_and_6_pass() {
        for byte in 0..=255u8 {
            let expected = match byte {
                0x40..=0x4f => Ok(0x0800),
                0x60..=0x6f => Ok(0x86dd),
                _ => Err(UdpError::Version { version: byte >> 4 }),
            };
            assert_eq!(protocol(byte), expected, "{byte:#04x}");
        }
    }
}
