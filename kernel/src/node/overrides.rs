//! Routes of somebody else that take packets for pods away from the node port.
//!
//! ```text
//! 10.77.2.0/24   via 169.254.82.87 dev ringway0          ours
//! 10.77.2.128/25 dev eth1                                 more specific: takes half of it
//! fd77:2::/64    dev eth1 metric 512                      the same network, and goes before ours
//! blackhole 10.77.2.7                                     and what refuses
//! ```
//!
//! Ours are there, so there is nothing to set again; theirs are not ours to remove, and somebody may mean them.
//! So they are named, each with the command that removes it, and do not fail CNI's STATUS: pods reach each other
//! through the switch, which does not ask the kernel. What suffers is what the node's own stack sends to pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_packet::addr::to_ip;
use ringway_tables::Cidr;

use super::routes::{Destination, Lead};
use crate::netlink::{Foreign, Netlink, NetlinkError};
use crate::reconcile::{By, Condition, OWNER, Wanted};

/// How often it is looked although nobody has told of a change.
const PERIOD: Duration = Duration::from_secs(30);
/// Looks may take this part of the time at most: when a change was told, and when not. A router may have a
/// million routes.
const SHARE: u32 = 100;
const IDLE_SHARE: u32 = 1000;
/// `RTPROT_KERNEL`, linux/rtnetlink.h: made by the kernel for an address.
const KERNEL: u8 = 2;
/// Routes that are named one by one.
const LISTED: usize = 16;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    told: bool,
    looked: Option<Instant>,
    /// What the last look took.
    cost: Duration,
    found: BTreeMap<String, Condition>,
    more: usize,
}

impl Overrides {
    /// Somebody may have changed routes.
    pub(super) fn tell(&mut self) {
        self.told = true;
    }

    /// Those of the last look.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> + '_ {
        let more = (self.more > 0).then(|| Condition {
            what: format!("{} more routes", self.more),
            wanted: "by the node port".into(),
            found: "elsewhere".into(),
            why: "see those above".into(),
            since: self.looked.unwrap_or_else(Instant::now),
        });
        self.found.values().cloned().chain(more)
    }

    /// Looks, if it is time. `interface`: name and index of the node port.
    pub(super) fn look(
        &mut self,
        netlink: &mut Netlink,
        interface: (&str, u32),
        wanted: &Wanted<Destination, Lead>,
        now: Instant,
    ) {
        let since = self.looked.map(|at| now.saturating_duration_since(at));
        let pause = match self.told {
            true => self.cost * SHARE,
            false => PERIOD.max(self.cost * IDLE_SHARE),
        };
        if since.is_some_and(|since| since < pause) {
            return;
        }
        self.told = false;
        self.looked = Some(now);
        let begin = Instant::now();
        let all = find(netlink, interface.1, wanted);
        self.cost = begin.elapsed();
        match all {
            Ok(all) => self.note(netlink, interface.0, all, now),
            Err(e) => tracing::warn!("others' routes cannot be listed: {e}"),
        }
    }

    fn note(&mut self, netlink: &mut Netlink, port: &str, all: Vec<(Foreign, Cidr)>, now: Instant) {
        let mut before = std::mem::take(&mut self.found);
        self.more = all.len().saturating_sub(LISTED);
        for (route, ours) in all.into_iter().take(LISTED) {
            let command = command(&route, netlink);
            if let Some(known) = before.remove(&command) {
                self.found.insert(command, known);
                continue;
            }
            let condition = Condition {
                what: format!("route {}/{}", route.destination, route.prefix_len),
                wanted: format!("by {port}"),
                found: format!("{}{}", way(&route, netlink), By(Some(route.protocol))),
                why: format!(
                    "it {}, so what the node itself sends to these pods takes it. It stays, for somebody may mean \
                     it; `ip route del {command}` removes it",
                    match route.prefix_len > ours.prefix_len() {
                        true => format!("is more specific than ours to {ours}"),
                        false => "goes before ours to the same network".into(),
                    }
                ),
                since: now,
            };
            tracing::warn!("{condition}");
            self.found.insert(command, condition);
        }
        for gone in before.into_values().filter(|_| self.more == 0) {
            tracing::info!("{} is by {port} again", gone.what);
        }
    }
}

/// Those that go before ours, each with the network of ours that it is in.
fn find(
    netlink: &mut Netlink,
    index: u32,
    wanted: &Wanted<Destination, Lead>,
) -> Result<Vec<(Foreign, Cidr)>, NetlinkError> {
    let lengths: BTreeSet<(bool, u8)> = wanted.iter().map(|(to, _)| to.length()).collect();
    let around = |route: &Foreign| -> Option<Cidr> {
        let v6 = route.destination.is_ipv6();
        let shorter = lengths.range((v6, 0)..=(v6, route.prefix_len)).rev();
        let mut ours = shorter.filter_map(|(_, len)| {
            let cidr = Cidr::containing(route.destination, *len).ok()?;
            wanted.get(&Destination::to(cidr)).map(|_| cidr)
        });
        ours.next()
    };
    let mut inside = Vec::new();
    // Ours to pods that are still on another plugin's bridge (`crate::bridge`).
    let ours_by_bridge = |route: &Foreign| {
        route.protocol == OWNER && route.prefix_len == host_len(route.destination)
    };
    // Of an address that the node itself has, which the local table leads to before any other.
    let nodes_own = |route: &Foreign| {
        route.protocol == KERNEL && route.prefix_len == host_len(route.destination)
    };
    netlink.each_foreign(index, |route| {
        if !ours_by_bridge(&route)
            && !nodes_own(&route)
            && let Some(ours) = around(&route)
        {
            inside.push((route, ours));
        }
    })?;
    inside.retain(|(route, ours)| {
        let same = route.prefix_len == ours.prefix_len();
        !same || route.tos != 0 || goes_first(netlink, route, *ours)
    });
    Ok(inside)
}

/// Prefix length of a single address.
fn host_len(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

/// Whether a route to the same network goes before ours, by the kernel's own word. The address that is asked for
/// is behind the network's own and the gateway's, which are the node's.
fn goes_first(netlink: &mut Netlink, route: &Foreign, network: Cidr) -> bool {
    let host = to_ip((network.first() + 2).min(network.last()));
    match netlink.fib_match(host) {
        Ok(Some(first)) => {
            (first.destination, first.prefix_len) == (route.destination, route.prefix_len)
                && first.interface == route.interface
        }
        // Refused: by this one, or by one that is more specific and named itself.
        Ok(None) | Err(_) => route.refuses.is_some(),
    }
}

/// `by eth1`, `blackhole`.
fn way(route: &Foreign, netlink: &mut Netlink) -> String {
    match (route.refuses, route.interface) {
        (Some(kind), _) => kind.into(),
        (None, 0) => "by several interfaces".into(),
        (None, index) => format!("by {}", name(index, netlink)),
    }
}

/// What `ip route del` takes it by.
fn command(route: &Foreign, netlink: &mut Netlink) -> String {
    let mut words = Vec::new();
    words.extend(route.refuses.map(str::to_owned));
    words.push(format!("{}/{}", route.destination, route.prefix_len));
    if route.refuses.is_none() && route.interface != 0 {
        words.push(format!("dev {}", name(route.interface, netlink)));
    }
    // What the kernel says when none was given: 0 for IPv4, 1024 for IPv6.
    let usual = if matches!(route.destination, IpAddr::V6(_)) {
        1024
    } else {
        0
    };
    if route.metric != usual {
        words.push(format!("metric {}", route.metric));
    }
    if route.tos != 0 {
        words.push(format!("tos {:#x}", route.tos));
    }
    words.join(" ")
}

fn name(index: u32, netlink: &mut Netlink) -> String {
    match netlink.link_at(index) {
        Ok(Some(link)) => link.name,
        _ => format!("interface {index}"),
    }
}
