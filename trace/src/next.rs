//! Where to look next, as commands.

use std::fmt::Write;

use ringway_config::Decider;
use ringway_encap::Carries;
use ringway_packet::addr::to_ip;
use ringway_packet::parse::Parsed;
use ringway_switch::Verdict;
use ringway_tables::{PathId, PortId, Snapshot};
use ringway_worker::observe::Entry;
use ringway_worker::trace::Traced;

use super::answer::{Half, Next};
use super::words::port_name;

/// Of a frame: what the commands are made of.
pub(super) struct Ends {
    pub(super) from: Entry,
    pub(super) parsed: Option<Parsed>,
    /// What goes through the tunnel; none: that is not known as a whole.
    pub(super) frame: Option<Option<Vec<u8>>>,
}

/// The first frame of what a peer is sent, with an Ethernet header.
pub(super) fn tunnelled(tables: &Snapshot, traced: &Traced) -> Option<Vec<u8>> {
    let sent = traced.sent.as_ref()?;
    let path = tables.path(sent.path)?;
    let carried = sent.datagrams.first()?.get(path.encap.header_len()..)?;
    Some(match path.encap.carries() {
        Carries::Frames => carried.to_vec(),
        Carries::Packets => [traced.frame.get(..14)?, carried].concat(),
    })
}

pub(super) fn next(
    tables: &Snapshot,
    decider: Decider,
    verdict: &Verdict,
    ends: &Ends,
) -> Vec<Next> {
    let both = ends.parsed.and_then(|parsed| parsed.addresses());
    let hosts = both.map(|(src, dst)| format!("host {} and host {}", to_ip(src), to_ip(dst)));
    match verdict {
        Verdict::Tunnel(tunnel) | Verdict::Fragment(tunnel) => {
            let Some(peer) = peer_name(tables, tunnel.path) else {
                return Vec::new();
            };
            let command = match (&ends.frame, &hosts) {
                (Some(Some(frame)), _) => {
                    let (me, frame) = (&tables.node.name, hex(frame));
                    format!("ringway trace --from-peer {me} --frame {frame}")
                }
                (None, Some(hosts)) => {
                    format!("ringway trace --live --count 1 --filter '{hosts}'")
                }
                _ => return Vec::new(),
            };
            vec![Next {
                what: format!("on {peer}"),
                command: on_node(decider, &peer, &command),
            }]
        }
        Verdict::Deliver(PortId::NODE) => match both {
            Some((src, dst)) => vec![Next {
                what: "where the node's stack sends it".into(),
                command: format!(
                    "ip route get {} from {} iif ringway0",
                    to_ip(dst),
                    to_ip(src)
                ),
            }],
            None => Vec::new(),
        },
        Verdict::Deliver(port) => match (tables.port(*port), hosts) {
            (Some(pod), Some(hosts)) => vec![Next {
                what: format!(
                    "whether {} gets such, and answers",
                    port_name(tables, *port)
                ),
                command: format!("ringway capture --pod {} {hosts}", pod.name),
            }],
            _ => Vec::new(),
        },
        Verdict::Drop(_) => {
            let at = match ends.from {
                Entry::Port(PortId::NODE) => "--node".into(),
                Entry::Port(port) => tables
                    .port(port)
                    .map_or("--drops".into(), |pod| format!("--pod {}", pod.name)),
                Entry::Peer(peer) => tables
                    .peer(peer)
                    .map_or("--drops".into(), |peer| format!("--peer {}", peer.name)),
                Entry::Underlay | Entry::Switch => "--drops".into(),
            };
            vec![
                Next {
                    what: "how often, and from whom".into(),
                    command: "ringway drops".into(),
                },
                Next {
                    what: "the packets themselves".into(),
                    command: format!("ringway capture {at} --only-dropped"),
                },
            ]
        }
        Verdict::Answered | Verdict::Ignore(_) => Vec::new(),
    }
}

/// What the agent of the peer is asked with that such a frame goes to.
pub(super) fn half(tables: &Snapshot, verdict: &Verdict, ends: &Ends) -> Option<Half> {
    let (Verdict::Tunnel(tunnel) | Verdict::Fragment(tunnel)) = verdict else {
        return None;
    };
    let frame = ends.frame.as_ref()?.as_ref()?;
    Some(Half {
        peer: peer_name(tables, tunnel.path)?,
        address: tables.path(tunnel.path)?.dst,
        frame: hex(frame),
    })
}

/// A command as it is given to the agent of another node.
pub fn on_node(decider: Decider, node: &str, command: &str) -> String {
    match decider {
        // As docs/operations.md has it.
        Decider::Kubernetes => format!(
            "kubectl -n ringway exec $(kubectl -n ringway get pod -l app.kubernetes.io/name=ringway \
             --field-selector spec.nodeName={node} -o name) -c agent -- {command}"
        ),
        Decider::File | Decider::Etcd => command.into(),
    }
}

/// What another node's agent says to do next there, as it is done from here.
pub fn from_here(decider: Decider, node: &str, next: &Next) -> Next {
    let ours = next.command.starts_with("ringway ");
    Next {
        what: format!("on {node}, {}", next.what),
        command: match ours {
            true => on_node(decider, node, &next.command),
            // The image has no other programs.
            false => next.command.clone(),
        },
    }
}

fn peer_name(tables: &Snapshot, path: PathId) -> Option<String> {
    let path = tables.path(path)?;
    Some(tables.peer(path.peer)?.name.to_string())
}

/// Bytes as two hexadecimal digits each.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
