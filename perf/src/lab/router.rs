//! A router between the two nodes' underlay subnets.
//!
//! ```text
//!            node 1                                        node 2
//!   10.78.1.10 │ eth0                             10.78.2.10 │ eth0
//!   fd78:1::a  │                                  fd78:2::a  │
//!            veth                                          veth
//!              │         ┌──────────────────────┐            │
//!   gateway 1  ├── n1g1 ─┤                      ├─ n2g1 ─────┤
//!   gateway 2  └╌╌ n1g2 ─┤        router        ├─ n2g2 ╌╌╌╌╌┘
//!                        └──────────────────────┘
//! ```
//! A node's two gateways are on one link and have a MAC each: the second is a macvlan on the first.

use super::error::Result;
use super::netns::Netns;
use super::plan::{self, Family};
use super::underlay::{INTERFACE, Mode, set_mode, veth};

/// The router of a [`super::Wire::Routed`].
pub struct Router {
    /// Its namespace.
    pub ns: Netns,
}

impl Router {
    /// Two gateways towards each node, whose [`INTERFACE`] is made, without addresses.
    pub(super) fn between(ns: Netns, nodes: [&Netns; 2], mode: Mode) -> Result<Router> {
        // Or each interface answers for the address of the other one on its link,
        ns.sysctl("ipv4.conf.all.arp_ignore", "1")?;
        // and the second takes nothing, because the way back is by the first.
        for scope in ["all", "default"] {
            ns.sysctl(&format!("ipv4.conf.{scope}.rp_filter"), "0")?;
        }
        ns.sysctl("ipv4.ip_forward", "1")?;
        ns.sysctl("ipv6.conf.all.forwarding", "1")?;
        let router = Router { ns };
        for (i, node) in [1, 2].into_iter().zip(nodes) {
            let [first, second] = [1, 2].map(|g| Router::interface(i, g));
            veth(&router.ns, &first, node, "")?;
            router.ns.ip(&format!(
                "link add link {first} name {second} type macvlan mode bridge"
            ))?;
            for (g, interface) in [(1, &first), (2, &second)] {
                router.set_up(i, g, interface)?;
            }
            set_mode(&router.ns, &first, mode)?;
        }
        Ok(router)
    }

    fn set_up(&self, i: u8, g: u8, interface: &str) -> Result<()> {
        self.ns
            .sysctl(&format!("ipv6.conf.{interface}.accept_dad"), "0")?;
        let (mac, v4, v6) = (
            plan::router_mac(i, g),
            plan::router(i, g, Family::V4),
            plan::router(i, g, Family::V6),
        );
        self.ns.ip_batch(&format!(
            "link set {interface} address {mac}\naddr add {v4}/24 dev {interface}\n\
             addr add {v6}/64 dev {interface} nodad\nlink set {interface} up\n"
        ))
    }

    /// The interface of gateway `g`, 1 or 2, towards node `i`.
    pub fn interface(i: u8, g: u8) -> String {
        format!("n{i}g{g}")
    }

    /// Node `i` in `node` reaches the other node's subnet by gateway `g` from now on.
    pub fn route(i: u8, node: &Netns, g: u8) -> Result<()> {
        for family in Family::BOTH {
            let (to, via) = (plan::routed_cidr(3 - i, family), plan::router(i, g, family));
            node.ip(&format!("route replace {to} via {via} dev {INTERFACE}"))?;
        }
        Ok(())
    }

    /// From now on neighbours are told when the gateway's MAC changes: by a gratuitous ARP
    /// (RFC 5944 section 4.6) and an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
    pub fn announce(&self, i: u8, g: u8) -> Result<()> {
        let interface = Router::interface(i, g);
        self.ns
            .sysctl(&format!("ipv4.conf.{interface}.arp_notify"), "1")?;
        self.ns
            .sysctl(&format!("ipv6.conf.{interface}.ndisc_notify"), "1")
    }

    /// Gateway `g` of node `i` still answers, and forwards nothing any more.
    pub fn stop_forwarding(&self, i: u8, g: u8) -> Result<()> {
        for family in ["-4", "-6"] {
            let interface = Router::interface(i, g);
            self.ns
                .ip(&format!("{family} rule add iif {interface} blackhole"))?;
        }
        Ok(())
    }
}
