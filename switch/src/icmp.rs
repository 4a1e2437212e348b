//! ICMP errors that the switch sends, always from the gateway's address, at a limited rate.

use ringway_packet::addr::mapped;
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::{icmpv4, icmpv6};
use ringway_tables::{Cidr, Snapshot};

use crate::bytes::mac;
use crate::context::Context;
use crate::frame::Origin;
use crate::outbox::{MAX_FRAME, Out};
use crate::trace::{Sink, Step};
use crate::verdict::Tunnel;

/// What is wrong with a packet, for its sender to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Problem {
    /// Time exceeded in transit.
    TtlExceeded,
    /// Fragmentation needed, or packet too big; the MTU in bytes.
    TooBig(u16),
    /// Host, or address, unreachable.
    NoSuchHost,
}

/// Leaves an error for the sender of a frame, given by its head, in the outbox, unless the rules (RFC 1122 3.2.2, RFC
/// 4443 2.4e) or the rate limit forbid it.
#[cold]
pub(crate) fn send<S: Sink>(
    cx: &mut Context,
    snapshot: &Snapshot,
    origin: Origin,
    (head, parsed): (&[u8], &Parsed),
    problem: Problem,
    sink: &mut S,
) {
    let bucket = match origin {
        Origin::Port(port, _) => port.0,
        Origin::Peer(path) => !path.0,
        // It is a node's stack, which asked for nothing.
        Origin::PeerNode => return,
    };
    let may = match parsed.l3 {
        L3::Ipv4 => {
            let to = mapped(parsed.dst4());
            let broadcast = |cidr: &Cidr| cidr.last() == to;
            icmpv4::may_send_error(parsed, head) && !snapshot.node.cidrs.iter().any(broadcast)
        }
        L3::Ipv6 => icmpv6::may_send_error(parsed, head),
        _ => false,
    };
    if !may {
        return;
    }
    if !cx.limiter.allow(bucket, cx.now) {
        cx.counters.icmp_suppressed.add(1);
        return;
    }
    // Back the way it came: by the port, or through the tunnel to the peer that sent it.
    let (out, to_mac, from_mac, mtu) = match origin {
        Origin::Port(port, _) => (
            Out::Port(port),
            mac(head, 6),
            snapshot.node.gateway_mac,
            MAX_FRAME,
        ),
        Origin::Peer(id) => {
            let Some(path) = snapshot.path(id) else {
                return;
            };
            (
                Out::Tunnel(Tunnel {
                    path: id,
                    hash: 0,
                    tos: 0,
                }),
                path.dst_mac,
                path.src_mac,
                usize::from(path.mtu),
            )
        }
        Origin::PeerNode => return,
    };
    let l3 = usize::from(parsed.l3_off);
    let original = &head[l3..];
    let node = &snapshot.node;
    sink.step(|| Step::Originated("ICMP error"));
    cx.outbox.put(out, |frame| {
        frame[..6].copy_from_slice(&to_mac.0);
        frame[6..12].copy_from_slice(&from_mac.0);
        // What is quoted must not make the error itself too big for its path.
        let end = MAX_FRAME.min(14 + mtu);
        let body = &mut frame[14..end];
        let (ethertype, written) = if parsed.l3 == L3::Ipv4 {
            let kind = match problem {
                Problem::TtlExceeded => icmpv4::Error::TimeExceeded,
                Problem::TooBig(mtu) => icmpv4::Error::FragmentationNeeded(mtu),
                Problem::NoSuchHost => icmpv4::Error::HostUnreachable,
            };
            (
                0x0800u16,
                icmpv4::write_error(body, kind, node.gateway4?, parsed.src4(), original)?,
            )
        } else {
            let kind = match problem {
                Problem::TtlExceeded => icmpv6::Error::TimeExceeded,
                Problem::TooBig(mtu) => icmpv6::Error::PacketTooBig(u32::from(mtu)),
                Problem::NoSuchHost => icmpv6::Error::AddressUnreachable,
            };
            (
                0x86dd,
                icmpv6::write_error(body, kind, node.gateway6?, parsed.src6(), original)?,
            )
        };
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        Some(14 + written)
    });
}
