//! ARP for IPv4 over Ethernet (RFC 826).

/// Length of the packet.
pub const LEN: usize = 28;
/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has.
pub const REPLY: u16 = 2;
