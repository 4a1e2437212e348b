//! What the underlay says of the paths to peers: next hops and MTUs, kept up to date.
//!
//! The MTU of a path is what its encapsulation leaves of the least of four: the interface's, the route's,
//! what ICMP said of the way, and what is wanted of the peer's path. Its next hop goes into the outer header,
//! where rings find it; a path without one goes by sockets, and the kernel asks for it.

use std::time::Instant;

use ringway_encap::mtu::MIN_IPV6;
use ringway_kernel::netlink::Change;
use ringway_kernel::next_hop::{Changed, Endpoints, NextHop, NextHops};
use ringway_packet::mac::MacAddr;
use ringway_tables::{PathId, PeerId, Snapshot};

use super::Control;
use super::acquire::receive_offload;
use crate::view::NextHopStatus;

impl Control {
    /// Asks the kernel for the next hop of every path, for the first time.
    pub(super) fn find_next_hops(&mut self) {
        let endpoints = self.endpoints();
        let now = Instant::now();
        let changed = self
            .next_hops
            .set_endpoints(endpoints, &mut self.netlink, now);
        self.follow(&changed);
        self.refresh_paths();
    }

    fn endpoints(&self) -> Vec<Endpoints> {
        let current = self.publisher.current();
        let way = |(_, path): (u32, &ringway_tables::Path)| Endpoints {
            src: path.src,
            dst: path.dst,
        };
        current.paths.iter().map(way).collect()
    }

    /// Takes in what the kernel reported.
    pub(super) fn handle_changes(&mut self, changes: Vec<Change>) {
        self.node.port.notify(&changes);
        self.outer.note_changes(&changes);
        let now = Instant::now();
        let changed = self.next_hops.handle(changes, &mut self.netlink, now);
        self.follow(&changed);
    }

    /// Once a second: next hops that want probing, the interface, its rings.
    pub(super) fn look_at_underlay(&mut self) {
        let now = Instant::now();
        let changed = self.next_hops.tick(&mut self.netlink, now);
        self.follow(&changed);
        let link = self.netlink.link(&self.underlay.interface).ok();
        if let Some(index) = link.as_ref().map(|link| link.index)
            && index != self.interface
        {
            tracing::warn!(
                interface = self.underlay.interface,
                "the underlay interface was recreated"
            );
            self.interface = index;
            receive_offload(&self.config, &self.underlay, &mut self.state.before);
            self.next_hops = NextHops::new(index);
            self.find_next_hops();
        }
        self.rings.look_after(
            &self.config,
            &self.underlay,
            link.as_ref(),
            &self.workers,
            &mut self.descriptors,
        );
    }

    fn follow(&mut self, changed: &Changed) {
        if changed.link
            && let Some(link) = self.next_hops.link()
            && link.mtu != self.underlay.mtu
        {
            tracing::warn!(
                interface = self.underlay.interface,
                "MTU of the underlay is {} now and was {}; pods keep theirs until they are attached again",
                link.mtu,
                self.underlay.mtu
            );
            self.underlay.mtu = link.mtu;
            // A packet that was made before may have met the link as it was for a moment.
            self.path_mtus.forget_all();
        } else if changed.destinations.is_empty() {
            return;
        }
        for dst in &changed.destinations {
            match self.next_hops.get(*dst) {
                Some(NextHop::Resolved(to)) => {
                    tracing::debug!(%dst, via = %to.via, mac = %to.mac, "next hop");
                }
                Some(other) => tracing::debug!(%dst, "next hop: {other:?}"),
                None => {}
            }
        }
        self.refresh_paths();
    }

    /// Enters next hops and MTUs into the paths, and publishes them if any is different.
    pub(super) fn refresh_paths(&mut self) {
        let current = self.publisher.current();
        let mut next = Snapshot::clone(&current);
        let mut different = false;
        let peers = &self.cluster.state().peers;
        // What is wanted of a peer's path, the largest outer packet among it.
        let wanted = |number: u32, peer: PeerId| {
            let v6 = current.path_of(peer, true) == Some(PathId(number));
            peers.get(&current.peer(peer)?.name)?.path(v6)?.mtu
        };
        for (number, path) in current.paths.iter() {
            let dst = path.dst;
            let hop = self.next_hops.get(dst).and_then(|hop| hop.resolved());
            let outer = [
                self.path_mtus.get(dst).map(u32::from),
                self.next_hops.mtu(dst),
                wanted(number, path.peer),
            ]
            .into_iter()
            .flatten()
            .fold(self.underlay.mtu, u32::min);
            let overhead = ringway_encap::mtu::overhead(path.encap, dst.is_ipv6());
            let mut path = path.clone();
            path.mtu = u16::try_from(outer)
                .unwrap_or(u16::MAX)
                .saturating_sub(overhead);
            let (to, from) = hop.map_or((MacAddr::default(), MacAddr::default()), |hop| {
                (hop.mac, hop.src_mac)
            });
            path.outer.set_next_hop(to, from);
            if current.path(PathId(number)).is_some_and(|old| {
                old.mtu != path.mtu || old.outer.next_hop() != path.outer.next_hop()
            }) {
                different = true;
                next.replace_path(PathId(number), path);
            }
        }
        if different {
            self.publish(next);
        }
    }

    /// IPv6 knows no packet below 1,280 bytes: over such a path its pods cannot talk.
    pub(super) fn warn_of_tiny_mtu(&self, dest: std::net::IpAddr, outer: u16) {
        let current = self.publisher.current();
        let least = |path: &ringway_tables::Path| {
            MIN_IPV6 + ringway_encap::mtu::overhead(path.encap, dest.is_ipv6())
        };
        let mut to_it = current.paths.iter().filter(|(_, path)| path.dst == dest);
        if self.this_node().main_cidr(true).is_some()
            && let Some(need) = to_it.find_map(|(_, p)| (outer < least(p)).then(|| least(p)))
        {
            tracing::warn!(
                %dest,
                "the path takes packets of {outer} bytes, less than the {need} that IPv6 pods need: \
                 raise its MTU, their large packets are lost"
            );
        }
    }

    pub(super) fn next_hop_status(&self) -> Vec<NextHopStatus> {
        let has_rings = self.descriptors.rings.is_some();
        self.next_hops
            .iter()
            .map(|(dst, hop)| NextHopStatus {
                dst,
                by: match hop.resolved() {
                    Some(_) if has_rings => "ring".into(),
                    _ => "socket".into(),
                },
                next_hop: match hop {
                    NextHop::Resolved(to) => format!("{} at {}", to.via, to.mac),
                    NextHop::Resolving => "being resolved".into(),
                    NextHop::Elsewhere(why) => why.to_string(),
                },
            })
            .collect()
    }
}
