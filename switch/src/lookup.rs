//! Stage 4. Lookup: what the tables say of the destination.

use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{PortId, Snapshot, Target};

use crate::bytes::mac;
use crate::trace::{Sink, Step};

/// Whose destination MAC it is.
#[inline(always)]
pub(crate) fn by_mac<S: Sink>(snapshot: &Snapshot, head: &[u8], sink: &mut S) -> Option<PortId> {
    let to = mac(head, 0);
    let found = snapshot.mac(to);
    sink.step(|| Step::Mac(to, found));
    found
}

/// Where the destination address leads. Each family has a table of its own: an IPv4-mapped address of an IPv6
/// packet is no IPv4 address.
#[inline(always)]
pub(crate) fn by_address<S: Sink>(
    snapshot: &Snapshot,
    parsed: &Parsed,
    sink: &mut S,
) -> Option<Target> {
    let target = match parsed.l3 {
        L3::Ipv4 => snapshot.routes4.lookup(parsed.dst4()),
        _ => snapshot.routes6.lookup(parsed.dst6()),
    };
    sink.step(|| {
        let to = parsed.addresses().map_or(0, |(_, to)| to);
        let found = match parsed.l3 {
            L3::Ipv4 => snapshot.routes4.lookup_prefix(parsed.dst4()),
            _ => snapshot.routes6.lookup_prefix(parsed.dst6()),
        };
        debug_assert_eq!(found.map(|(_, target)| target), target);
        Step::Route(to, found)
    });
    target
}

/// The way back to a packet's source.
pub(crate) fn back(snapshot: &Snapshot, parsed: &Parsed) -> Step {
    let from = parsed.addresses().map_or(0, |(from, _)| from);
    let found = match parsed.l3 {
        L3::Ipv4 => snapshot.routes4.lookup_prefix(parsed.src4()),
        L3::Ipv6 => snapshot.routes6.lookup_prefix(parsed.src6()),
        L3::Arp | L3::Other => None,
    };
    Step::Back(from, found)
}
