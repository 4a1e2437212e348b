//! What one record claims, read for itself.

use std::net::IpAddr;

use ringway_cluster::flannel::{Backend, Vtep};
use ringway_cluster::{EncapKind, PathSpec};
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

use super::record::{Record, Rules};
use crate::layout::{Attributes, Subnets};

/// What a record claims, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    /// Networks of its pods.
    pub(super) networks: Vec<Cidr>,
    /// Outer addresses, the first of which is who it is. None: it is nobody we can talk to.
    pub(super) addresses: Vec<IpAddr>,
    /// Paths for IPv4 and IPv6 pods.
    pub(super) paths: [Option<PathSpec>; 2],
    /// One line each.
    pub(super) problems: Vec<String>,
}

impl Claim {
    /// Reads a record.
    pub(super) fn of(key: &str, record: &Record, rules: &Rules<'_>) -> Self {
        let mut claim = Self::default();
        if let Err(why) = claim.read(key, record, rules) {
            claim.addresses.clear();
            claim.problems.push(why);
        }
        claim
    }

    fn read(&mut self, key: &str, record: &Record, rules: &Rules<'_>) -> Result<(), String> {
        let subnets: Subnets = key.parse().map_err(|e| format!("{e}"))?;
        if record.value.is_empty() {
            // Kept free by somebody.
            return Ok(());
        }
        let said = Attributes::parse(&record.value).map_err(|e| e.to_string())?;
        // Without a lease and a backend it keeps a subnet for a node that has not come yet. Only where the cluster
        // speaks udp flanneld itself leaves it like that.
        let plain = record.lease == 0 && said.backend == Backend::Udp;
        if plain && rules.backend != EncapKind::Udp {
            return Ok(());
        }
        self.paths = self.read_paths(&said, rules)?;
        for cidr in subnets.all() {
            match outside(cidr, rules) {
                Some(why) => self.problems.push(format!("{cidr} is refused: {why}")),
                None => self.networks.push(cidr),
            }
        }
        for address in said.addresses() {
            if rules.reserved.contains(&address) {
                return Err(format!(
                    "it names this node's address {address}, and this node has another subnet; it ends with its \
                     lease, or delete the key"
                ));
            }
            if address.is_loopback() || address.is_multicast() {
                return Err(format!("{address} is no address of a node"));
            }
            self.addresses.push(address);
        }
        if self.addresses.is_empty() {
            return Err("it names no address of a node".into());
        }
        Ok(())
    }

    fn read_paths(
        &mut self,
        said: &Attributes,
        rules: &Rules<'_>,
    ) -> Result<[Option<PathSpec>; 2], String> {
        let path = |encap, vtep_mac| PathSpec {
            encap,
            vtep_mac,
            mtu: None,
        };
        match &said.backend {
            Backend::Vxlan { v4, v6 } => {
                let (both, ours) = ([v4.as_ref(), v6.as_ref()], rules.vni);
                if let Some(other) = both.iter().flatten().find(|v| v.vni != ours) {
                    self.problems.push(format!(
                        "its VNI is {} and ours {ours}; pods there cannot be reached until both are the same \
                         (underlay.vni here, Backend.VNI in Flannel's net-conf)",
                        other.vni
                    ));
                }
                let same = |v: Option<&Vtep>| v.filter(|v| v.vni == ours).copied();
                Ok(both.map(|v| same(v).map(|v| path(EncapKind::Vxlan, v.mac))))
            }
            Backend::Udp => {
                let bare = path(EncapKind::Udp, MacAddr::ZERO);
                // Flannel's own proxy carries IPv4 alone and never names an IPv6 address.
                let v6 = said.public_ipv6.map(|_| bare.clone());
                Ok([Some(bare), v6])
            }
            Backend::Other(name) => Err(format!(
                "its backend is {name:?}; Ringway speaks vxlan and udp, its pods cannot be reached"
            )),
        }
    }
}

/// Why no node may have this network, if so.
fn outside(cidr: Cidr, rules: &Rules<'_>) -> Option<String> {
    let around = |of: &Cidr| of.contains(cidr.first()) && of.contains(cidr.last());
    if !rules.networks.iter().any(around) {
        let all: Vec<String> = rules.networks.iter().map(Cidr::to_string).collect();
        let all = all.join(", ");
        return Some(format!("it is outside of the net-conf's networks ({all})"));
    }
    let mut reserved = rules.reserved.iter();
    let inside = reserved.find(|ip| cidr.contains(from_ip(**ip)))?;
    Some(format!("{inside}, this node's outer address, is in it"))
}
