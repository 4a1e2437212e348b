//! Peers: the way to each, what is sent, and what comes back.

use crate::{About, Asked, Finding, Machine, Rank, Severity};

use super::{Found, broken};

/// Packets to a peer while none came back, from which on it is said.
const ONE_WAY: u64 = 3;

pub(super) fn check(asked: &Asked, machine: &Machine, found: &mut Found) {
    for way in &machine.ways {
        let about = About::Peer(way.peer.clone());
        match &way.by {
            Err(why) => found.push(
                Rank::Underlay,
                Finding {
                    about,
                    evidence: vec![format!("ip route get {}: {why}", way.address)],
                    remedy: "add the route that is missing or has expired".into(),
                    commands: vec![
                        format!("ip route get {}", way.address),
                        "ip route; ip -6 route    # look for `expires`".into(),
                    ],
                    ..broken(
                        "route",
                        format!(
                            "This node has no route to peer {} at {}",
                            way.peer, way.address
                        ),
                    )
                },
            ),
            Ok(by) if machine.underlay.as_ref().is_some_and(|own| own != by) => found.push(
                Rank::Hint,
                Finding {
                    severity: Severity::Warning,
                    about,
                    evidence: vec![format!("packets to {} leave by {by}", way.address)],
                    remedy: "see whether that is meant; the underlay's MTU and offloads are not that interface's".into(),
                    commands: vec![format!("ip route get {}", way.address)],
                    ..broken(
                        "route",
                        format!(
                            "Peer {} is not reached by the underlay's interface {}",
                            way.peer,
                            machine.underlay.as_deref().unwrap_or_default()
                        ),
                    )
                },
            ),
            Ok(_) => {}
        }
    }
    one_way(asked, found);
}

/// Peers to which packets go while nothing comes back.
fn one_way(asked: &Asked, found: &mut Found) {
    for later in &asked.peers_later {
        let Some(before) = asked.peers.iter().find(|p| p.name == later.name) else {
            continue;
        };
        let sent = later.to_peer.packets.saturating_sub(before.to_peer.packets);
        let came = later
            .from_peer
            .packets
            .saturating_sub(before.from_peer.packets);
        // What came and was dropped is said by its reason.
        let dropped = asked.drops.drops.iter().any(|drop| {
            let at = |at: &ringway_control::view::DropAt| {
                at.kind == "peer" && at.name == later.name && at.direction == "from"
            };
            drop.at.iter().any(at)
        });
        if sent < ONE_WAY || came > 0 || dropped {
            continue;
        }
        let address = later.addresses.first();
        let address = address.map_or_else(|| later.name.clone(), ToString::to_string);
        found.push(
            Rank::Peer,
            Finding {
                about: About::Peer(later.name.clone()),
                evidence: vec![format!(
                    "{sent} packets went to it in {:.0} s, and none came",
                    asked.between.as_secs_f64()
                )],
                remedy: "see whether its agent runs and gets them, and whether something on the way drops the tunnel's UDP port".into(),
                commands: vec![
                    format!("ping -c 3 {address}"),
                    format!("ringway capture --underlay --count 20 host {address}"),
                    format!("ringway doctor    # on {}", later.name),
                ],
                ..broken("peer", format!("Nothing comes back from peer {}", later.name))
            },
        );
    }
}
