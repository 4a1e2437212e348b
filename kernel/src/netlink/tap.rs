//! TAPs of a namespace with their owner.

use netlink_packet_core::{NLM_F_DUMP, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::{Netlink, NetlinkError};

/// Attributes of a TUN or TAP, linux/if_link.h.
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
/// What `IFLA_TUN_TYPE` says of a TAP, linux/if_tun.h.
const IFF_TAP: u8 = 2;

/// A TAP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// User who may open it (`TUNSETOWNER`); none: everybody who may make one.
    pub owner: Option<u32>,
    /// `ip link set … alias`.
    pub alias: Option<String>,
    /// A process has a queue of it open: the kernel takes the carrier away with the last one.
    pub in_use: bool,
}

impl Netlink {
    /// Every TAP of the namespace.
    pub fn taps(&mut self) -> Result<Vec<Tap>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request(|| "listing interfaces".into(), message, NLM_F_DUMP)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.filter_map(tap).collect())
    }
}

/// The link, if it is a TAP.
fn tap(message: LinkMessage) -> Option<Tap> {
    let mut tap = Tap {
        index: message.header.index,
        ..Tap::default()
    };
    let mut is_tap = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => tap.name = name,
            LinkAttribute::IfAlias(alias) => tap.alias = Some(alias),
            LinkAttribute::Carrier(carrier) => tap.in_use = carrier != 0,
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.contains(&LinkInfo::Kind(InfoKind::Tun));
                let data = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Tun(data)) => Some(data),
                    _ => None,
                });
                for one in data.into_iter().flatten().filter(|_| kind) {
                    let mut value = vec![0; one.value_len()];
                    one.emit_value(&mut value);
                    match one.kind() {
                        IFLA_TUN_TYPE => is_tap = value == [IFF_TAP],
                        IFLA_TUN_OWNER => {
                            tap.owner = value.try_into().ok().map(u32::from_ne_bytes);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    is_tap.then_some(tap)
}
