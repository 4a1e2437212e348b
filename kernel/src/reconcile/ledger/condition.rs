//! A difference, and the condition that it is while it stays, in words.

use std::fmt;
use std::time::Instant;

use crate::reconcile::OWNER;

/// A thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which kind of thing, see [`Kind::NAME`](crate::reconcile::Kind::NAME).
    pub kind: &'static str,
    /// What: `route 10.77.2.0/24`.
    pub thing: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// Number of the routing protocol that has set what is there, where the kernel tells
    /// (`RTA_PROTOCOL`, `IFA_PROTO`, `NDA_PROTOCOL`).
    pub by: Option<u8>,
}

/// Something that is not as it should be, and stays so for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// Why it stays so, and what helps.
    pub why: String,
    /// Since when.
    pub since: Instant,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            wanted,
            found,
            why,
            ..
        } = self;
        write!(f, "{what} should be {wanted} and is {found}: {why}")
    }
}

/// Who has set it, in words: the number of a routing protocol.
pub struct By(pub Option<u8>);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // include/uapi/linux/rtnetlink.h, and what iproute2's rt_protos has besides.
        let name = |number| match number {
            2 => "the kernel",
            3 => "boot, as of `ip route`",
            4 => "static",
            9 => "router advertisement",
            11 => "zebra",
            12 => "bird",
            16 => "dhcp",
            18 => "keepalived",
            42 => "babel",
            80 => "felix",
            OWNER => "ringway",
            186 => "bgp",
            187 => "isis",
            188 => "ospf",
            189 => "rip",
            192 => "eigrp",
            _ => "not a well-known one",
        };
        match self.0 {
            None => Ok(()),
            Some(number) => write!(f, ", protocol number {number} ({})", name(number)),
        }
    }
}
