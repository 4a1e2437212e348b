//! Flows whose answers go back to the node's stack: symmetric return.
//!
//! ```text
//!  pod A ─ to a service ─▶ node's stack: DNAT ─ src A, dst B ─▶ switch ─▶ pod B, here or on another node
//!    ▲                            ▲                                          │
//!    └──── src service, dst A ────┴───── src B, dst A ◀──── switch ◀─────────┘
//! ```
//!
//! kube-proxy and host ports translate in the node's stack. What comes back from there has a pod's source
//! address, so its receiver answers that pod directly, and the pod hears from an address it never spoke to.
//! So the switch remembers what came from the node under a pod's address, and gives the answers to the node,
//! whose connection tracking translates them back. The pod may be another node's, which asked this one for a
//! backend that is here: then the answers are taken on their way to the tunnel.
//!
//! **State.** A fixed table shared by all workers: the request may be one worker's, the answer another's.
//! Buckets of four entries, one cache line; an entry is a keyed fingerprint of the *answer's* five-tuple and
//! when it was last seen. The key is random, so nobody can choose flows that meet in a bucket, and 64 bits
//! make a false match one in some 10^14 for a full table. Two words are written without a lock; when two
//! workers write one entry at once, one of the flows may be missed until its next packet from the node.
//!
//! **Life.** Every packet from the node enters its flow or refreshes it, every answer refreshes it. TCP is
//! kept for a day without a packet, anything else for three minutes, as the node's own connection tracking
//! keeps an answered flow. In a full bucket the one silent for longest makes room, TCP last: many short
//! exchanges must not push a silent connection out, which would come back with its next packet from the node
//! only. For the same reason an agent that starts anew asks the node's connection tracking.
//!
//! A client may use a port again, to speak to the very backend: its own packet to that ends the flow.
//!
//! **Fragments** have no ports but in the first. Of what may be fragmented, UDP and ICMP, a second entry with
//! ports 0 is kept, which every fragment between the two addresses matches.
//!
//! **ICMP errors** quote a packet of the flow; they follow it, for the node has to translate what they quote.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use ringway_packet::addr::mapped;
use ringway_packet::flow::FlowKey;
use ringway_packet::parse::{Fragment, L3, Parsed};
use ringway_packet::proto;
use ringway_tables::{MAX_PORTS, PortId};

use crate::bytes::{be16, be32};

const SECOND: u64 = 1_000_000_000;
/// How long a silent TCP flow is kept.
const TCP_LIFE: u64 = 24 * 3600 * SECOND;
/// How long any other is.
const OTHER_LIFE: u64 = 180 * SECOND;
/// A flow seen this lately is not written again.
const FRESH: u64 = SECOND;
const WAYS: usize = 4;
/// Buckets of a table that workers share: 65,536 flows, 1 MB.
pub const BUCKETS: usize = 16 * 1024;

/// What the pod of this node is in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It asks: answers are taken on their way to it.
    Client,
    /// It is asked by a pod of another node: answers are taken on their way from it.
    Backend,
}

#[derive(Debug, Default)]
struct Entry {
    /// 0: empty.
    tag: AtomicU64,
    /// Nanoseconds, the lowest bit replaced: 1 for TCP.
    seen: AtomicU64,
}

/// The table.
#[derive(Debug)]
pub struct Returns {
    buckets: Box<[[Entry; WAYS]]>,
    key: [u64; 2],
    /// Whether there ever was a flow: a node without translation pays for one load.
    used: AtomicBool,
    /// By role and port number, whether one of its pod's.
    ports: [Box<[AtomicBool]>; 2],
}

impl Default for Returns {
    /// A small one, of a single pipeline.
    fn default() -> Self {
        Self::new(64, [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344])
    }
}

impl Returns {
    /// `buckets` (rounded up to a power of two) of four flows each; `key` should be random.
    pub fn new(buckets: usize, key: [u64; 2]) -> Self {
        let buckets = buckets.max(1).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Default::default()).collect(),
            key,
            used: AtomicBool::new(false),
            ports: std::array::from_fn(|_| {
                (0..MAX_PORTS).map(|_| AtomicBool::new(false)).collect()
            }),
        }
    }

    /// A copy as it stands now: what a trace asks and changes in place of the table itself.
    pub fn copy(&self) -> Self {
        let copy = Self {
            buckets: (0..self.buckets.len())
                .map(|_| Default::default())
                .collect(),
            key: self.key,
            used: AtomicBool::new(self.in_use()),
            ports: self.ports.each_ref().map(|ports| {
                let ports = ports.iter();
                ports
                    .map(|used| AtomicBool::new(used.load(Relaxed)))
                    .collect()
            }),
        };
        if self.in_use() {
            let entries = self.buckets.iter().zip(&copy.buckets);
            for (from, to) in entries.flat_map(|(from, to)| from.iter().zip(to)) {
                to.tag.store(from.tag.load(Relaxed), Relaxed);
                to.seen.store(from.seen.load(Relaxed), Relaxed);
            }
        }
        copy
    }

    /// Whether there ever was a flow.
    #[inline]
    pub fn in_use(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// A packet of a flow of the pod at `port` came from the node. `now`: monotonic nanoseconds.
    pub fn from_node(&self, port: PortId, role: Role, head: &[u8], parsed: &Parsed, now: u64) {
        let Some(key) = key_of(head, parsed) else {
            return;
        };
        let answer = key.reversed();
        self.enter(answer, now);
        // The answer to a fragmented request may be whole; of its fragments the first has the ports.
        if parsed.fragment == Fragment::First {
            let (src_port, dst_port) = match echo(head, parsed) {
                Some(id) => (id, id),
                None => (parsed.dst_port, parsed.src_port),
            };
            self.enter(
                FlowKey {
                    src_port,
                    dst_port,
                    ..answer
                },
                now,
            );
        }
        if key.proto != proto::TCP && parsed.fragment == Fragment::None {
            self.enter(without_ports(answer), now);
        }
        self.mark(port, role);
    }

    /// Enters a flow of the pod at `port` that the node is known to translate, by the tuple of its answers:
    /// an agent that starts anew has not seen it.
    pub fn known_to_node(&self, port: PortId, role: Role, answer: FlowKey, now: u64) {
        self.enter(answer, now);
        if answer.proto != proto::TCP {
            self.enter(without_ports(answer), now);
        }
        self.mark(port, role);
    }

    fn mark(&self, port: PortId, role: Role) {
        if let Some(port) = self.port(port, role) {
            port.store(true, Relaxed);
            self.used.store(true, Relaxed);
        }
    }

    /// A client has sent a packet to another pod itself. A flow that it had through the node under the same
    /// tuple is over: its port is used again, and the answers are for the client.
    #[inline]
    pub fn direct(&self, port: PortId, role: Role, head: &[u8], parsed: &Parsed) {
        if self.has(port, role) {
            self.forget(head, parsed);
        }
    }

    #[cold]
    fn forget(&self, head: &[u8], parsed: &Parsed) {
        let Some(key) = key_of(head, parsed) else {
            return;
        };
        // Of fragments the ports are not known.
        if parsed.fragment != Fragment::None {
            return;
        }
        let (tag, bucket) = self.place(key.reversed());
        if let Some(entry) = bucket.iter().find(|entry| entry.tag.load(Relaxed) == tag) {
            entry.tag.store(0, Relaxed);
        }
    }

    /// Whether a packet to a client at `port`, or from a backend there, is an answer of such a flow.
    #[inline]
    pub fn takes(&self, port: PortId, role: Role, head: &[u8], parsed: &Parsed, now: u64) -> bool {
        self.has(port, role) && self.known(head, parsed, now)
    }

    #[cold]
    fn known(&self, head: &[u8], parsed: &Parsed, now: u64) -> bool {
        // A quoted packet has the direction of the request.
        let quoted = quoted(head, parsed).map(FlowKey::reversed);
        let Some(key) = quoted.or_else(|| key_of(head, parsed)) else {
            return false;
        };
        let (tag, bucket) = self.place(key);
        let found = bucket.iter().find(|entry| entry.tag.load(Relaxed) == tag);
        let Some(entry) = found else { return false };
        let seen = entry.seen.load(Relaxed);
        let age = now.saturating_sub(seen);
        if age > life(seen) {
            return false;
        }
        if age > FRESH {
            entry.seen.store(stamp(now, key.proto), Relaxed);
        }
        true
    }

    fn enter(&self, key: FlowKey, now: u64) {
        let (tag, bucket) = self.place(key);
        let age = |entry: &Entry| now.saturating_sub(entry.seen.load(Relaxed));
        // Empty or forgotten ones first, then of what is not TCP the oldest, then of TCP.
        let rank = |entry: &Entry| {
            let seen = entry.seen.load(Relaxed);
            let class = match entry.tag.load(Relaxed) {
                0 => 2,
                _ if age(entry) > life(seen) => 2,
                _ => u8::from(seen & 1 == 0),
            };
            (class, age(entry))
        };
        let entry = match bucket.iter().find(|e| e.tag.load(Relaxed) == tag) {
            Some(known) if age(known) <= FRESH => return,
            Some(known) => known,
            None => match bucket.iter().max_by_key(|entry| rank(entry)) {
                Some(oldest) => oldest,
                None => return,
            },
        };
        entry.seen.store(stamp(now, key.proto), Relaxed);
        entry.tag.store(tag, Relaxed);
    }

    /// None for a number that the tables do not give.
    fn port(&self, port: PortId, role: Role) -> Option<&AtomicBool> {
        self.ports[role as usize].get(port.0 as usize)
    }

    /// Whether the port ever had a flow.
    #[inline]
    fn has(&self, port: PortId, role: Role) -> bool {
        self.port(port, role).is_some_and(|used| used.load(Relaxed))
    }

    /// Fingerprint, never 0, and the bucket it belongs in.
    fn place(&self, key: FlowKey) -> (u64, &[Entry; WAYS]) {
        let [a, b] = self.key;
        let ports = u64::from(key.src_port) << 32 | u64::from(key.dst_port) << 16;
        let src = mix(key.src as u64 ^ a, (key.src >> 64) as u64 ^ b);
        let dst = mix(
            key.dst as u64 ^ b,
            (key.dst >> 64) as u64 ^ a.rotate_left(32),
        );
        let tag = mix(src ^ ports ^ u64::from(key.proto), dst ^ a.rotate_left(17))
            ^ mix(dst ^ b, src ^ ports);
        let bucket = tag.rotate_left(29) as usize & (self.buckets.len() - 1);
        (tag.max(1), &self.buckets[bucket])
    }
}

/// Both halves of the 128-bit product, folded.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn stamp(now: u64, protocol: u8) -> u64 {
    now & !1 | u64::from(protocol == proto::TCP)
}

fn life(seen: u64) -> u64 {
    if seen & 1 == 1 { TCP_LIFE } else { OTHER_LIFE }
}

fn without_ports(key: FlowKey) -> FlowKey {
    FlowKey {
        src_port: 0,
        dst_port: 0,
        ..key
    }
}

/// The tuple of a packet; of an echo its identifier stands for both ports.
fn key_of(head: &[u8], parsed: &Parsed) -> Option<FlowKey> {
    let mut key = FlowKey::of(parsed)?;
    if parsed.fragment == Fragment::None
        && let Some(id) = echo(head, parsed)
    {
        (key.src_port, key.dst_port) = (id, id);
    }
    Some(key)
}

/// Identifier of an echo request or reply (RFC 792, RFC 4443 section 4).
fn echo(head: &[u8], parsed: &Parsed) -> Option<u16> {
    let icmp = head.get(usize::from(parsed.l4_off)..)?;
    let is_echo = match (parsed.l3, parsed.proto) {
        (L3::Ipv4, proto::ICMPV4) => matches!(icmp.first()?, 0 | 8),
        (L3::Ipv6, proto::ICMPV6) => matches!(icmp.first()?, 128 | 129),
        _ => false,
    };
    (is_echo && icmp.len() >= 8).then(|| be16(icmp, 4))
}

/// The tuple of the packet that an ICMP error quotes. Quotes may be short: the fixed IP header and the
/// ports are all that is read.
fn quoted(head: &[u8], parsed: &Parsed) -> Option<FlowKey> {
    if parsed.fragment != Fragment::None {
        return None;
    }
    let icmp = head.get(usize::from(parsed.l4_off)..)?;
    let ip = icmp.get(8..)?;
    let (src, dst, protocol, l4) = match (parsed.l3, parsed.proto) {
        // Destination unreachable, time exceeded, parameter problem.
        (L3::Ipv4, proto::ICMPV4) if matches!(icmp[0], 3 | 11 | 12) => {
            let fixed = ip.first_chunk::<20>()?;
            let words = usize::from(fixed[0] & 0xf);
            let later = be16(fixed, 6) & 0x1fff != 0;
            if fixed[0] >> 4 != 4 || words < 5 || later {
                return None;
            }
            (
                mapped(be32(fixed, 12)),
                mapped(be32(fixed, 16)),
                fixed[9],
                ip.get(words * 4..)?,
            )
        }
        // RFC 4443: errors have the types below 128.
        (L3::Ipv6, proto::ICMPV6) if icmp[0] < 128 => {
            let fixed = ip.first_chunk::<40>()?;
            if fixed[0] >> 4 != 6 {
                return None;
            }
            let address = |at: usize| {
                let bytes: Option<[u8; 16]> = fixed.get(at..at + 16)?.try_into().ok();
                bytes.map(u128::from_be_bytes)
            };
            (address(8)?, address(24)?, fixed[6], &ip[40..])
        }
        _ => return None,
    };
    let (src_port, dst_port) = match protocol {
        proto::TCP | proto::UDP | proto::SCTP => {
            let ports = l4.first_chunk::<4>()?;
            (be16(ports, 0), be16(ports, 2))
        }
        proto::ICMPV4 | proto::ICMPV6 => {
            let id = be16(l4.first_chunk::<6>()?, 4);
            (id, id)
        }
        _ => (0, 0),
    };
    Some(FlowKey {
        src,
        dst,
        src_port,
        dst_port,
        proto: protocol,
    })
}

#[cfg(test)]
mod tests;
