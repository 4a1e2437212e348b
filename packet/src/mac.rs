//! Ethernet (EUI-48) addresses.

use std::fmt;
use std::str::FromStr;

/// A MAC address, octets in wire order.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Default)]
pub struct MacAddr(pub [u8; 6]);

/// Why a text is not a MAC address.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error(
    "{text:?} is not a MAC address: expected six two-digit hexadecimal octets, as 02:52:57:00:00:01"
)]
pub struct MacError {
    /// The text.
    pub text: String,
}

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Group bit set: multicast or broadcast (IEEE 802-2014 section 8.2.2).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The octets as the low 48 bits, first octet highest.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`to_u64`](Self::to_u64); the upper 16 bits are ignored.
    #[inline]
    pub const fn from_u64(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    /// The octets as a number to compare and look up by, first octet lowest: on a little-endian machine as they
    /// lie, so that it costs two loads.
    #[inline]
    pub const fn to_key(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The inverse of [`to_key`](Self::to_key); the upper 16 bits are ignored.
    #[inline]
    pub const fn from_key(key: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = key.to_le_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    /// The six octets at `at`, if they are there.
    #[inline]
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        bytes.get(at..)?.first_chunk().copied().map(MacAddr)
    }

    /// Where IPv6 sends what is meant for multicast group `to` (RFC 2464 section 7).
    #[inline]
    pub const fn of_ipv6_multicast(to: u128) -> Self {
        let [a, b, c, d] = (to as u32).to_be_bytes();
        MacAddr([0x33, 0x33, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    /// Six octets of two hexadecimal digits, separated by `:` throughout or `-` throughout.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError {
            text: text.to_owned(),
        };
        let bytes = text.as_bytes();
        if bytes.len() != 17 {
            return Err(error());
        }
        let separator = bytes[2];
        let mut octets = [0; 6];
        for (i, octet) in octets.iter_mut().enumerate() {
            let at = i * 3;
            if i > 0 && (bytes[at - 1] != separator || !matches!(separator, b':' | b'-')) {
                return Err(error());
            }
            let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(error);
            *octet = (digit(bytes[at])? << 4 | digit(bytes[at + 1])?) as u8;
        }
        Ok(MacAddr(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: MacAddr = MacAddr([0x02, 0x52, 0x57, 0x00, 0xab, 0x01]);

    #[test]
    fn text_and_integer_come_back() {
        assert_eq!(M.to_string(), "02:52:57:00:ab:01");
        assert_eq!("02:52:57:00:AB:01".parse(), Ok(M));
        assert_eq!("02-52-57-00-ab-01".parse(), Ok(M));
        assert_eq!(M.to_u64(), 0x0252_5700_ab01);
        assert_eq!(MacAddr::from_u64(0xdead_0252_5700_ab01), M);
        assert_eq!(M.to_key(), 0x01ab_0057_5202);
        assert_eq!(MacAddr::from_key(0xdead_01ab_0057_5202), M);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "02:52:57:00:ab",
            "02:52:57:00:ab:0",
            "02:52:57:00:ab:01:",
            "02:52:57-00:ab:01",
            "02x52x57x00xabx01",
            "+2:52:57:00:ab:01",
            "0g:52:57:00:ab:01",
            "025257.00ab01.123",
            "02:52:57:00:a\u{e9}:0",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError { text: text.into() }));
        }
    }

    #[test]
    fn group_bit() {
        assert!(MacAddr::BROADCAST.is_multicast());
        assert!(MacAddr::of_ipv6_multicast(0xff02 << 112 | 1).is_multicast());
        assert_eq!(
            MacAddr::of_ipv6_multicast(0xff02 << 112 | 1).to_string(),
            "33:33:00:00:00:01"
        );
        assert!(!M.is_multicast());
    }

    #[test]
    fn read_is_bounded() {
        assert_eq!(
            MacAddr::read(&[9, 0x02, 0x52, 0x57, 0, 0xab, 1], 1),
            Some(M)
        );
        assert_eq!(MacAddr::read(&[0; 6], 1), None);
        assert_eq!(MacAddr::read(&[0; 6], 7), None);
    }
}
