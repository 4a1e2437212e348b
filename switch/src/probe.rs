//! Probes between nodes, inside the tunnel: whether packets get through to a peer, how long that takes, and how
//! large they may be.
//!
//! ```text
//!   Ethernet | IPv6 40: source ::, destination fe80::7277:7072:6f62:6501, next header 253, hop limit 1 | probe | padding
//!
//!    0        4      5      6      8       16                24
//!   | "rwp1" | kind | path | size | token | time when sent  |
//! ```
//!
//! The source is nobody's (RFC 4291 section 2.5.2): a node with another network, a kernel's VXLAN device, drops it and
//! sends no error. Next header 253 is for experiments (RFC 4727 section 2.3). So no packet of a pod is like it, and
//! none is looked at that would not be dropped for its source otherwise.
//!
//! A request is as large as what is tried; its answer is never larger than [`LEAST`], so nothing is amplified, and each
//! direction is tried by the end that sends in it. An answer is worth what its token is: whoever asked knows it, and
//! nobody else (the crate `health` judges). Both are limited for each peer, and requests
//! for all, by each worker.

pub(crate) mod answers;

use ringway_encap::Carries;
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::{L3, Parsed};
use ringway_packet::{ethernet, ethertype, ipv6};
use ringway_tables::{Path, PeerId, Snapshot};

use crate::bytes::{be16, be32, mac};
use crate::context::Context;
use crate::outbox::Out;
use crate::reason::{DropReason, IgnoreReason};
use crate::verdict::{Tunnel, Verdict};
pub use answers::Answer;

/// Where probes go: no address that anybody has.
const DESTINATION: u128 = 0xfe80_0000_0000_0000_7277_7072_6f62_6501;
/// Use for experimentation and testing (RFC 3692, RFC 4727).
const NEXT_HEADER: u8 = 253;
const MAGIC: [u8; 4] = *b"rwp1";
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
/// Bytes of a probe without padding.
const LEN: usize = 24;
/// Bytes of the smallest IP packet that is a probe, and of every answer.
pub const LEAST: u16 = (ipv6::LEN + LEN) as u16;

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom.
    pub peer: PeerId,
    /// By the path of its IPv6 pods, or of its IPv4 pods.
    pub v6: bool,
    /// Bytes of the IP packet, at least [`LEAST`].
    pub size: u16,
    /// What the answer has to know.
    pub token: u64,
}

/// The way of a probe with that token: the answer's as the request's.
fn way(snapshot: &Snapshot, peer: PeerId, v6: bool, token: u64) -> Option<(Tunnel, &Path)> {
    let path = snapshot
        .path_of(peer, v6)
        .or_else(|| snapshot.path_of(peer, !v6))?;
    let tunnel = Tunnel {
        path,
        hash: token as u32,
        tos: 0,
    };
    Some((tunnel, snapshot.path(path)?))
}

/// Writes a request as an Ethernet frame, sent at `now` (monotonic nanoseconds), and where it goes; none if the peer
/// has no path, or `out` no room.
pub fn write(
    snapshot: &Snapshot,
    request: &Request,
    now: u64,
    out: &mut [u8],
) -> Option<(Tunnel, usize)> {
    let (tunnel, path) = way(snapshot, request.peer, request.v6, request.token)?;
    let size = request.size.max(LEAST);
    let frame = out.get_mut(..ethernet::LEN + usize::from(size))?;
    frame.fill(0);
    let probe = headers(frame, path.dst_mac, path.src_mac)?;
    probe[..4].copy_from_slice(&MAGIC);
    (probe[4], probe[5]) = (REQUEST, u8::from(request.v6));
    probe[6..8].copy_from_slice(&size.to_be_bytes());
    probe[8..16].copy_from_slice(&request.token.to_be_bytes());
    probe[16..24].copy_from_slice(&now.to_be_bytes());
    Some((tunnel, ethernet::LEN + usize::from(size)))
}

/// Writes Ethernet and IPv6 of a frame that has its length; what is behind them.
fn headers(frame: &mut [u8], dst: MacAddr, src: MacAddr) -> Option<&mut [u8]> {
    let (ethernet, packet) = frame.split_first_chunk_mut()?;
    let (ip, probe) = packet.split_first_chunk_mut()?;
    ethernet::Repr {
        dst,
        src,
        ethertype: ethertype::IPV6,
    }
    .emit(ethernet);
    ipv6::Repr {
        src: 0,
        dst: DESTINATION,
        next_header: NEXT_HEADER,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: 1,
        payload_len: probe.len() as u16,
    }
    .emit(ip);
    Some(probe)
}

/// Whether a frame from a peer is a probe, to either of this node's VTEPs.
pub(crate) fn is_one(snapshot: &Snapshot, carries: Carries, head: &[u8], parsed: &Parsed) -> bool {
    let to = || mac(head, 0);
    let own = [snapshot.node.vtep_mac, snapshot.node.vtep_mac6];
    parsed.l3 == L3::Ipv6
        && parsed.proto == NEXT_HEADER
        && parsed.addresses() == Some((0, DESTINATION))
        && (carries == Carries::Packets || own.contains(&to()))
}

/// A probe from a peer: answers a request, keeps an answer for whoever asked.
pub(crate) fn handle(
    cx: &mut Context,
    snapshot: &Snapshot,
    peer: PeerId,
    head: &[u8],
    parsed: &Parsed,
) -> Verdict {
    let at = usize::from(parsed.l4_off);
    let Some(probe) = head.get(at..at + LEN).filter(|p| p[..4] == MAGIC) else {
        return DropReason::MalformedProbe.into();
    };
    let (probes, now) = (&mut cx.probes, cx.now);
    match probe[4] {
        REQUEST => {
            let (of_peer, of_all) = &mut probes.asked;
            match of_peer.allow(peer.0, now) && of_all.allow(0, now) {
                true => answer(cx, snapshot, peer, probe, parsed),
                false => DropReason::ProbeLimited.into(),
            }
        }
        ANSWER => {
            if probes.is_full() || !probes.answered.allow(peer.0, now) {
                return DropReason::ProbeLimited.into();
            }
            probes.keep(Answer {
                peer,
                token: word(probe, 8),
                size: be16(probe, 6),
                round_trip_ns: cx.now.saturating_sub(word(probe, 16)),
            });
            IgnoreReason::ProbeAnswer.into()
        }
        _ => DropReason::MalformedProbe.into(),
    }
}

fn answer(
    cx: &mut Context,
    snapshot: &Snapshot,
    peer: PeerId,
    probe: &[u8],
    parsed: &Parsed,
) -> Verdict {
    let v6 = probe[5] & 1 == 1;
    let Some((tunnel, path)) = way(snapshot, peer, v6, word(probe, 8)) else {
        return DropReason::NoPath.into();
    };
    let put = cx.outbox.put(Out::Tunnel(tunnel), |out| {
        let frame = out.get_mut(..ethernet::LEN + usize::from(LEAST))?;
        frame.fill(0);
        let answer = headers(frame, path.dst_mac, path.src_mac)?;
        answer.copy_from_slice(&probe[..LEN]);
        answer[4] = ANSWER;
        // What came, whatever it says of itself.
        let size = u16::try_from(parsed.ip_len).unwrap_or(u16::MAX);
        answer[6..8].copy_from_slice(&size.to_be_bytes());
        Some(ethernet::LEN + usize::from(LEAST))
    });
    match put {
        true => Verdict::Answered,
        false => DropReason::AnswerQueueFull.into(),
    }
}

fn word(probe: &[u8], at: usize) -> u64 {
    u64::from(be32(probe, at)) << 32 | u64::from(be32(probe, at + 4))
}
