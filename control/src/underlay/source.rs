//! Which address of the underlay interface is the outer one, where the configuration names none.
//!
//! An interface may have several: a virtual IP that moves between nodes, a privacy address that changes every
//! day, one on its way out. Peers accept packets from the addresses they were told of only, so the order
//! matters; but the only address there is will do, whatever it looks like (GCP and DHCPv6 give /32 and /128).
//!
//! ```text
//! usable (never tentative, never a duplicate)
//!   ▶ what the kernel itself sends from, towards the peers, else by the default route
//!   ▶ preferred before deprecated ▶ permanent before dynamic before temporary ▶ a network before a host's /32 or /128
//!   ▶ the kernel's order
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use ringway_kernel::netlink::{Address, Lifetime, Netlink, RouteTo};

use ringway_cluster::State;
use ringway_view::{Choice, PassedOver};

/// Somewhere out there, of each family: where a packet goes that only the default route leads. Both are for
/// documentation (RFC 5737, RFC 3849), so that nobody has a route of his own for them.
pub(super) const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8::1"];

/// Peers for which the kernel is asked: each takes some 50 µs, and the control thread does nothing else meanwhile.
const MOST_PEERS: usize = 256;

/// What the kernel sends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Towards each peer that it has a route to: source, and the peer's name.
    peers: Vec<(IpAddr, Arc<str>)>,
    /// By the default route, of each family.
    outside: Vec<IpAddr>,
}

impl Kernel {
    /// Asks it where there is a choice. What it does not answer counts for nothing.
    pub(super) fn ask(state: &State, all: &[Address], netlink: &mut Netlink) -> Self {
        let mut source = |to: IpAddr| match netlink.route_to(to, None) {
            Ok(RouteTo::Link { source, .. }) => source,
            _ => None,
        };
        let mut kernel = Self::default();
        let families = [false, true].into_iter();
        for v6 in families.filter(|v6| usable(all, *v6).count() > 1) {
            for peer in state.peers.values().step_by(step(state.peers.len())) {
                // The first of a family is what we send to.
                let to = peer.addresses.iter().find(|ip| ip.is_ipv6() == v6);
                let from = to.and_then(|to| source(*to));
                kernel.peers.extend(from.map(|ip| (ip, peer.name.clone())));
            }
            let outside: Option<IpAddr> = OUTSIDE[usize::from(v6)].parse().ok();
            kernel.outside.extend(outside.and_then(&mut source));
        }
        kernel
    }

    /// To how many peers it sends from this address.
    fn peers(&self, ip: IpAddr) -> usize {
        self.peers.iter().filter(|(from, _)| *from == ip).count()
    }

    /// Why it counts as the kernel's own, if it does.
    fn why(&self, ip: IpAddr) -> Option<String> {
        let mut names = self.peers.iter().filter(|(from, _)| *from == ip);
        match (names.next(), names.count()) {
            (Some((_, name)), 0) => Some(format!("the kernel sends from it to {name}")),
            (Some((_, name)), more) => Some(format!(
                "the kernel sends from it to {name} and {more} more"
            )),
            (None, _) if self.outside.contains(&ip) => {
                Some("the kernel sends from it by its default route".into())
            }
            (None, _) => None,
        }
    }
}

/// Chooses among the interface's global addresses those of one family; `None` when none can be used.
pub(super) fn choose(all: &[Address], v6: bool, kernel: &Kernel) -> Option<Choice> {
    let family = all.iter().filter(|a| a.global && a.ip.is_ipv6() == v6);
    let mut usable: Vec<&Address> = usable(all, v6).collect();
    // Stable: the kernel's order is the last criterion.
    usable.sort_by_key(|a| {
        (
            usize::MAX - kernel.peers(a.ip),
            !kernel.outside.contains(&a.ip),
            a.deprecated,
            a.lifetime,
            is_host(a),
        )
    });
    let chosen = usable.first()?.ip;
    let why = match (usable.len(), kernel.why(chosen)) {
        (1, _) => "the only one that can be used".into(),
        (_, Some(why)) => why,
        (n, None) => format!("the best of {n}, by lifetime and prefix"),
    };
    let passed_over = family
        .filter(|a| a.ip != chosen)
        .map(|a| PassedOver {
            address: a.ip,
            why: against(a),
        })
        .collect();
    Some(Choice {
        address: chosen,
        why,
        passed_over,
    })
}

/// Those of one family that packets can be sent from.
fn usable(all: &[Address], v6: bool) -> impl Iterator<Item = &Address> {
    let usable = move |a: &&Address| a.global && !a.tentative && !a.duplicate;
    all.iter()
        .filter(usable)
        .filter(move |a| a.ip.is_ipv6() == v6)
}

/// Every which of so many peers is asked for.
fn step(peers: usize) -> usize {
    peers.div_ceil(MOST_PEERS).max(1)
}

/// What the configuration names.
pub(super) fn configured(all: &[Address], chosen: IpAddr) -> Choice {
    let others = all
        .iter()
        .filter(|a| a.global && a.ip.is_ipv6() == chosen.is_ipv6() && a.ip != chosen);
    Choice {
        address: chosen,
        why: "underlay.addresses".into(),
        passed_over: others
            .map(|a| PassedOver {
                address: a.ip,
                why: "not the first in underlay.addresses".into(),
            })
            .collect(),
    }
}

/// The prefix is the address alone.
fn is_host(a: &Address) -> bool {
    a.prefix_len == if a.ip.is_ipv6() { 128 } else { 32 }
}

/// What speaks against an address.
fn against(a: &Address) -> String {
    let host = format!("/{}", a.prefix_len);
    let reasons = [
        (a.duplicate, "another station has it"),
        (
            a.tentative && !a.duplicate,
            "duplicate address detection is not done",
        ),
        (a.deprecated, "deprecated"),
        (a.lifetime == Lifetime::Temporary, "temporary"),
        (a.lifetime == Lifetime::Dynamic, "dynamic"),
        (is_host(a), host.as_str()),
    ];
    let reasons: Vec<&str> = reasons
        .iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, why)| *why)
        .collect();
    match reasons.as_slice() {
        [] => "another comes first".into(),
        reasons => reasons.join(", "),
    }
}

#[cfg(test)]
mod tests;
