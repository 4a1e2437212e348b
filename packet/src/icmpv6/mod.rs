//! ICMP for IPv6 (RFC 4443), neighbour discovery (RFC 4861), and the errors the switch sends.

mod error;
mod nd;

pub use error::{Error, MAX_ERROR_LEN, may_send_error, write_error};
pub use nd::{Neighbour, NeighbourError, write_advertisement};

use crate::bytes::put16;
use crate::checksum;
use crate::proto;

/// Length of the header.
pub const LEN: usize = 8;
/// Type: destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Type: packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 129;
/// Type: is there a router?
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type: a router is here.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type: who has the target address?
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type: the target address is here.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Type: use another first hop.
pub const REDIRECT: u8 = 137;

/// Offsets of the fields.
pub mod field {
    /// Type, 1 byte; below 128 it is an error.
    pub const TYPE: usize = 0;
    /// Code, 1 byte.
    pub const CODE: usize = 1;
    /// Checksum over pseudo-header and message, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Neighbour solicitation and advertisement: target address, 16 bytes.
    pub const TARGET: usize = 8;
    /// Neighbour solicitation and advertisement: options.
    pub const OPTIONS: usize = 24;
}

/// Why bytes are not an ICMPv6 message.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("ICMPv6 needs {LEN} bytes, {have} there")]
pub struct IcmpError {
    /// Bytes there.
    pub have: usize,
}

/// A checked ICMPv6 message.
#[derive(Copy, Clone, Debug)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Checks the length. `message` ends where the IP packet does.
    pub fn new(message: &'a [u8]) -> Result<Self, IcmpError> {
        if message.len() < LEN {
            return Err(IcmpError {
                have: message.len(),
            });
        }
        Ok(View(message))
    }

    /// The header.
    pub fn repr(&self) -> Repr {
        let rest = std::array::from_fn(|i| self.0[4 + i]);
        Repr {
            kind: self.0[field::TYPE],
            code: self.0[field::CODE],
            rest,
        }
    }

    /// What follows the header: echo data, the quote of an error, or the body of an ND message.
    pub fn body(&self) -> &'a [u8] {
        &self.0[LEN..]
    }

    /// Whether the checksum is right between these addresses.
    pub fn verify(&self, src: u128, dst: u128) -> bool {
        let pseudo = checksum::pseudo_v6(src, dst, proto::ICMPV6, self.0.len());
        checksum::verify(pseudo, [self.0])
    }
}

/// An ICMPv6 header without its checksum.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Repr {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes whose meaning depends on the type.
    pub rest: [u8; 4],
}

impl Repr {
    /// Writes the header of `message`, whose body is in place, and its checksum; `None` if it is
    /// shorter than a header.
    pub fn emit(&self, message: &mut [u8], src: u128, dst: u128) -> Option<()> {
        let header = message.first_chunk_mut::<LEN>()?;
        let [a, b, c, d] = self.rest;
        *header = [self.kind, self.code, 0, 0, a, b, c, d];
        let pseudo = checksum::pseudo_v6(src, dst, proto::ICMPV6, message.len());
        let value = checksum::finish(pseudo + checksum::sum(message));
        put16(message, field::CHECKSUM, value);
        Some(())
    }
}
