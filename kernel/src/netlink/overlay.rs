//! Overlays that the kernel carries itself: VXLAN devices and TUNs, as Flannel's backends make them.

use netlink_packet_core::{NLM_F_DUMP, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};
use ringway_packet::mac::MacAddr;

use super::{Netlink, NetlinkError};

/// Attribute of a TUN or TAP, linux/if_link.h.
const IFLA_TUN_TYPE: u16 = 3;
/// What `IFLA_TUN_TYPE` says of a TUN, linux/if_tun.h.
const IFF_TUN: u8 = 1;

/// A device that carries packets to other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Its MAC address; a TUN has none.
    pub mac: Option<MacAddr>,
    /// What it is.
    pub kind: OverlayKind,
}

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayKind {
    /// A VXLAN device.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// UDP port it receives at.
        port: u16,
        /// Its tunnels go by IPv6.
        v6: bool,
    },
    /// A TUN, which leads to some process.
    Tun,
}

impl Netlink {
    /// Every such device of the namespace.
    ///
    /// # Errors
    /// Interfaces cannot be listed.
    pub fn overlays(&mut self) -> Result<Vec<Overlay>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request(|| "listing interfaces".into(), message, NLM_F_DUMP)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.filter_map(overlay).collect())
    }
}

/// The link, if it is one.
fn overlay(message: LinkMessage) -> Option<Overlay> {
    let (mut name, mut mac, mut kind) = (String::new(), None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::Address(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
            }
            LinkAttribute::LinkInfo(infos) => kind = kind_of(&infos),
            _ => {}
        }
    }
    let index = message.header.index;
    kind.map(|kind| Overlay {
        index,
        name,
        mac,
        kind,
    })
}

fn kind_of(infos: &[LinkInfo]) -> Option<OverlayKind> {
    let is = |kind: InfoKind| infos.contains(&LinkInfo::Kind(kind));
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) if is(InfoKind::Vxlan) => {
            let (mut vni, mut port, mut v6) = (0, 0, false);
            for one in data {
                match one {
                    InfoVxlan::Id(id) => vni = *id,
                    InfoVxlan::Port(number) => port = *number,
                    InfoVxlan::Local6(ip) => v6 = !ip.is_unspecified(),
                    _ => {}
                }
            }
            Some(OverlayKind::Vxlan { vni, port, v6 })
        }
        LinkInfo::Data(InfoData::Tun(data)) if is(InfoKind::Tun) => {
            let is_tun = |one: &_| tun_type(one) == Some(IFF_TUN);
            data.iter().any(is_tun).then_some(OverlayKind::Tun)
        }
        _ => None,
    })
}

fn tun_type(one: &impl Nla) -> Option<u8> {
    let mut value = vec![0; one.value_len()];
    one.emit_value(&mut value);
    match value[..] {
        [kind] if one.kind() == IFLA_TUN_TYPE => Some(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_netns, ip};
    use ringway_ports::tap::{self, TapOptions};

    #[test]
    fn devices_are_known_by_what_they_are() {
        in_netns(|| {
            let _tap = tap::create_persistent("tap0", &TapOptions::default()).unwrap();
            ip(
                "link add some4 address 0e:00:00:00:00:04 type vxlan id 1 local 192.0.2.1 dstport 8472 nolearning",
            );
            ip(
                "link add some6 address 0e:00:00:00:00:06 type vxlan id 7 local 2001:db8::1 dstport 4789 nolearning",
            );
            ip("tuntap add dev flannel0 mode tun");
            ip("link add cni0 type bridge");
            let mut all = Netlink::open().unwrap().overlays().unwrap();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            let seen: Vec<_> = all
                .iter()
                .map(|o| (o.name.as_str(), o.mac.map(|mac| mac.to_string()), o.kind))
                .collect();
            let vxlan = |vni, port, v6| OverlayKind::Vxlan { vni, port, v6 };
            assert_eq!(
                seen,
                [
                    ("flannel0", None, OverlayKind::Tun),
                    (
                        "some4",
                        Some("0e:00:00:00:00:04".into()),
                        vxlan(1, 8472, false)
                    ),
                    (
                        "some6",
                        Some("0e:00:00:00:00:06".into()),
                        vxlan(7, 4789, true)
                    ),
                ]
            );
        });
    }
}
