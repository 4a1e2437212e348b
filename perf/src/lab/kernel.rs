//! A node whose pod network is the kernel's: what Flannel's vxlan backend programs.
//!
//! ```text
//!  pod netns          node netns
//!  eth0 (veth) ────── cni0 (bridge, gateway .1)
//!                      │ ip_forward
//!                      ├ flannel.1     VXLAN 1, port 8472, IPv4 underlay, IPv4 pods
//!                      └ flannel-v6.1  VXLAN 1, port 8472, IPv6 underlay, IPv6 pods
//! ```
//! Per peer and family three permanent entries: the route of its pod CIDR, the neighbour that
//! stands for it, the FDB entry of its VTEP MAC. Nothing is learnt and nothing is flooded.

use super::error::Result;
use super::netns::Netns;
use super::plan::{self, Family};
use super::underlay::INTERFACE;

/// The MTU of a pod: 1500 less 50 bytes of VXLAN over IPv4.
const POD_MTU: u32 = 1450;

pub(super) fn device(family: Family) -> &'static str {
    match family {
        Family::V4 => "flannel.1",
        Family::V6 => "flannel-v6.1",
    }
}

/// Bridge and VXLAN devices of node `i`.
pub(super) fn set_up(ns: &Netns, i: u8, underlay: plan::Addresses) -> Result<()> {
    bridge(ns, i)?;
    devices(ns, i, underlay)
}

/// The bridge, as the plugin makes it for the first pod.
fn bridge(ns: &Netns, i: u8) -> Result<()> {
    let (gw4, gw6) = (plan::gateway(i, Family::V4), plan::gateway(i, Family::V6));
    ns.ip_batch(&format!(
        "link add cni0 type bridge\naddr add {gw4}/24 dev cni0\naddr add {gw6}/64 dev cni0 nodad\n\
         link set cni0 mtu {POD_MTU} up\n"
    ))
}

/// The VXLAN devices, as flanneld makes them.
pub(super) fn devices(ns: &Netns, i: u8, underlay: plan::Addresses) -> Result<()> {
    for family in Family::BOTH {
        let (dev, mac, local) = (
            device(family),
            plan::kernel_vtep_mac(i, family),
            underlay(i, family),
        );
        // Flannel gives its IPv6 device the same MTU and relies on luck; 20 bytes less is right.
        let (length, mtu) = match family {
            Family::V4 => ("32", POD_MTU),
            Family::V6 => ("128 nodad", POD_MTU - 20),
        };
        let (address, prefix) = (
            plan::pod(i, 0, family),
            length.split(' ').next().unwrap_or(length),
        );
        let flags = length.strip_prefix(prefix).unwrap_or("");
        ns.ip_batch(&format!(
            "link add {dev} address {mac} type vxlan id 1 dev {INTERFACE} local {local} dstport 8472 nolearning\n\
             addr add {address}/{prefix} dev {dev}{flags}\nlink set {dev} mtu {mtu} up\n"
        ))?;
    }
    Ok(())
}

/// What node `i` needs to know of its peer `o`. `vtep_mac` gives the peer's MAC of a family.
pub(super) fn add_peer(
    ns: &Netns,
    o: u8,
    underlay: plan::Addresses,
    vtep_mac: impl Fn(Family) -> String,
) -> Result<()> {
    for family in Family::BOTH {
        let (dev, mac) = (device(family), vtep_mac(family));
        let (cidr, via) = (plan::pod_cidr(o, family), plan::pod(o, 0, family));
        ns.ip_batch(&format!(
            "route add {cidr} via {via} dev {dev} onlink\nneigh replace {via} lladdr {mac} dev {dev} nud permanent\n"
        ))?;
        ns.command(
            "bridge",
            &format!("fdb append {mac} dev {dev} dst {}", underlay(o, family)),
        )?;
    }
    Ok(())
}

/// A pod on the bridge: a veth pair, both addresses, default routes.
pub(super) fn attach(ns: &Netns, pod: &Netns, i: u8, host: u8) -> Result<()> {
    let (port, mtu) = (format!("veth{host}"), POD_MTU);
    ns.ip(&format!(
        "link add {port} mtu {mtu} type veth peer name eth0 netns {} mtu {mtu}",
        pod.name()
    ))?;
    ns.ip(&format!("link set {port} master cni0 up"))?;
    pod.ip_batch(&format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
         route add default via {}\nroute add default via {}\n",
        plan::pod(i, host, Family::V4),
        plan::pod(i, host, Family::V6),
        plan::gateway(i, Family::V4),
        plan::gateway(i, Family::V6),
    ))
}

/// Removes what [`attach`] made.
pub(super) fn detach(ns: &Netns, host: u8) -> Result<()> {
    ns.ip(&format!("link del veth{host}")).map(drop)
}
