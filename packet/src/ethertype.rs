//! EtherType numbers (IANA "IEEE 802 Numbers").

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// Customer VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// Service VLAN tag (IEEE 802.1ad).
pub const QINQ: u16 = 0x88a8;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;
