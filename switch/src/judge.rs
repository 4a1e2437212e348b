//! Stage 6. Judge: whether a decision stands, before anything is written. What is switched by MAC and what is routed
//! both come by.
//!
//! Today the judge is the table of [`returns`](crate::returns): what the node's stack has translated has its
//! answers returned to it. Policy and connection tracking come here, too.

use ringway_packet::parse::{L3, Parsed};
use ringway_tables::{PortId, Snapshot, Target};

use crate::context::Context;
use crate::decide::Decision;
use crate::frame::{Frame, Origin};
use crate::returns::Role;
use crate::trace::{Sink, Step};

/// The decision, or another in its place.
#[inline(always)]
pub(crate) fn judge<'s, S: Sink>(
    cx: &Context,
    snapshot: &Snapshot,
    frame: &Frame<'_, '_>,
    decision: Decision<'s>,
    sink: &mut S,
) -> Decision<'s> {
    let (origin, to) = (frame.origin, decision.port());
    // A node that translates nothing pays for one load.
    if origin.is_node() {
        note(cx, snapshot, (frame.head(), frame.parsed), to);
    } else if cx.returns.in_use() {
        let what = (frame.head(), frame.parsed);
        if let Some(pod) = answers(cx, origin, what, to) {
            sink.step(|| Step::Returned(pod));
            cx.counters.returned.add(frame.packet.packets);
            return Decision::Node;
        }
    }
    decision
}

/// A packet from the node under the address of a pod, of this node or for a pod of this node: its answers are
/// to return to the node.
#[inline(never)]
fn note(cx: &Context, snapshot: &Snapshot, (head, parsed): (&[u8], &Parsed), to: Option<PortId>) {
    let source = match parsed.l3 {
        L3::Ipv4 => snapshot.routes4.lookup(parsed.src4()),
        L3::Ipv6 => snapshot.routes6.lookup(parsed.src6()),
        L3::Arp | L3::Other => return,
    };
    let (pod, role) = match (source, to) {
        (Some(Target::Port(PortId::NODE)), _) => return,
        (Some(Target::Port(client)), _) => (client, Role::Client),
        (Some(Target::Path(_)), Some(backend)) => (backend, Role::Backend),
        _ => return,
    };
    cx.returns.from_node(pod, role, head, parsed, cx.now);
}

/// Whose flow it is that the packet answers, if the node has translated it. One that a pod sends to another by
/// itself ends such a flow.
#[inline(never)]
fn answers(
    cx: &Context,
    origin: Origin,
    (head, parsed): (&[u8], &Parsed),
    to: Option<PortId>,
) -> Option<PortId> {
    let returns = &cx.returns;
    let from = match origin {
        _ if to == Some(PortId::NODE) => return None,
        Origin::Port(port, _) => {
            returns.direct(port, Role::Client, head, parsed);
            Some(port)
        }
        Origin::Peer(_) => {
            if let Some(pod) = to {
                returns.direct(pod, Role::Backend, head, parsed);
            }
            None
        }
        Origin::PeerNode => return None,
    };
    // Which pod's flow it may be an answer of.
    let (pod, role) = match (to, from) {
        (Some(client), _) => (client, Role::Client),
        (None, Some(backend)) => (backend, Role::Backend),
        (None, None) => return None,
    };
    let known = returns.takes(pod, role, head, parsed, cx.now);
    known.then_some(pod)
}
