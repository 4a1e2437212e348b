//! The interface itself: its name, addresses of the link layer, sizes.

use std::fmt;

use crate::gso;
use crate::mac;
use crate::netlink::{Link, LinkChange, NetlinkError};
use crate::reconcile::{Actual, Kernel, Kind, Refused, Wanted};

/// One attribute, in the order in which they are set: limits of superframes follow the MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    Name,
    Qdisc,
    Mac,
    Mtu,
    GsoMaxSize,
    GsoMaxSegs,
    Arp,
    Alias,
    Master,
    Carrier,
}

impl Attribute {
    const ALL: [Self; 10] = [
        Self::Name,
        Self::Qdisc,
        Self::Mac,
        Self::Mtu,
        Self::GsoMaxSize,
        Self::GsoMaxSegs,
        Self::Arp,
        Self::Alias,
        Self::Master,
        Self::Carrier,
    ];
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Qdisc => "queueing discipline",
            Self::Mac => "MAC address",
            Self::Mtu => "MTU",
            Self::GsoMaxSize => "gso_max_size",
            Self::GsoMaxSegs => "gso_max_segs",
            Self::Arp => "ARP",
            Self::Alias => "alias",
            Self::Master => "master interface",
            Self::Carrier => "carrier",
        })
    }
}

/// What all nodes' ports have.
const ON: &str = "on";
const OFF: &str = "off";
const NONE: &str = "none";
const DEFAULT: &str = "the kernel's default";

/// Attributes of one interface.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) interface: String,
}

/// Those of the node port.
pub(super) fn wanted(
    name: &str,
    alias: &str,
    mtu: u16,
) -> impl Iterator<Item = (Attribute, String)> {
    let gso = gso::limits(mtu);
    Attribute::ALL.into_iter().map(move |attribute| {
        let value = match attribute {
            Attribute::Name => name.to_owned(),
            // Of no use on a TAP, and 256 of them on one of several queues (`pod::queue`).
            Attribute::Qdisc => NONE.to_owned(),
            Attribute::Mac => mac::GATEWAY.to_string(),
            Attribute::Mtu => mtu.to_string(),
            Attribute::GsoMaxSize => gso.size.to_string(),
            Attribute::GsoMaxSegs => gso.segments.to_string(),
            Attribute::Arp => ON.to_owned(),
            Attribute::Alias => alias.to_owned(),
            // A bridge, a bond or a VRF takes its packets away.
            Attribute::Master => NONE.to_owned(),
            // A TAP has one while somebody has it open.
            Attribute::Carrier => ON.to_owned(),
        };
        (attribute, value)
    })
}

fn value(link: &Link, attribute: Attribute, default_qdisc: bool) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let on = |is: bool| if is { ON } else { OFF }.to_owned();
    match attribute {
        Attribute::Name => link.name.clone(),
        // One that somebody has chosen stays.
        Attribute::Qdisc => if default_qdisc { DEFAULT } else { NONE }.to_owned(),
        Attribute::Mac => link
            .mac
            .map_or_else(|| NONE.to_owned(), |mac| mac.to_string()),
        Attribute::Mtu => link.mtu.to_string(),
        Attribute::GsoMaxSize => number(link.gso_max_size),
        Attribute::GsoMaxSegs => number(link.gso_max_segs),
        Attribute::Arp => on(!link.no_arp),
        Attribute::Alias => link.alias.clone().unwrap_or_else(|| NONE.to_owned()),
        Attribute::Master => link
            .master
            .map_or_else(|| NONE.to_owned(), |index| format!("interface {index}")),
        // Of one that is down nothing can be said.
        Attribute::Carrier => on(link.carrier || !link.up),
    }
}

impl Kind for Attributes {
    const NAME: &'static str = "link";
    type Key = Attribute;
    type Value = String;

    fn thing(&self, key: &Attribute) -> String {
        format!("{key} of {}", self.interface)
    }

    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        _: &Wanted<Attribute, String>,
        _: bool,
        each: &mut dyn FnMut(Attribute, Actual<String>),
    ) -> Result<(), Refused> {
        let link = find(kernel)?;
        let default_qdisc = kernel.netlink.has_default_qdisc(link.index)?;
        for attribute in Attribute::ALL {
            let value = value(&link, attribute, default_qdisc);
            let protocol = None;
            each(attribute, Actual { value, protocol });
        }
        Ok(())
    }

    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        key: &Attribute,
        value: &String,
        _: Option<&String>,
    ) -> Result<(), Refused> {
        // Numbers are ours, written a moment ago.
        let number = || value.parse::<u32>().ok();
        let none = LinkChange::default;
        let change = match key {
            Attribute::Name => return Ok(rename(kernel, value)?),
            Attribute::Qdisc => return Ok(kernel.netlink.set_noqueue(kernel.index)?),
            Attribute::Mac => LinkChange {
                mac: Some(mac::GATEWAY),
                ..none()
            },
            Attribute::Mtu => LinkChange {
                mtu: number(),
                ..none()
            },
            Attribute::GsoMaxSize => LinkChange {
                gso_max_size: number(),
                ..none()
            },
            Attribute::GsoMaxSegs => LinkChange {
                gso_max_segs: number(),
                ..none()
            },
            Attribute::Arp => LinkChange {
                arp: Some(true),
                ..none()
            },
            Attribute::Alias => LinkChange {
                alias: Some(value),
                ..none()
            },
            Attribute::Master => LinkChange {
                master: Some(0),
                ..none()
            },
            Attribute::Carrier => LinkChange {
                carrier: Some(true),
                ..none()
            },
        };
        Ok(kernel.netlink.change_link(kernel.index, &change)?)
    }

    fn remove(&mut self, _: &mut Kernel<'_>, _: &Attribute, _: &String) -> Result<(), Refused> {
        Ok(())
    }
}

fn find(kernel: &mut Kernel<'_>) -> Result<Link, NetlinkError> {
    let name = format!("interface {}", kernel.index);
    let link = kernel.netlink.link_at(kernel.index)?;
    link.ok_or(NetlinkError::NoLink { name })
}

/// Before Linux 6.2 an interface that is up keeps its name.
fn rename(kernel: &mut Kernel<'_>, name: &str) -> Result<(), NetlinkError> {
    let rename = LinkChange {
        name: Some(name),
        ..LinkChange::default()
    };
    if kernel.netlink.change_link(kernel.index, &rename).is_ok() {
        return Ok(());
    }
    let down = LinkChange {
        up: Some(false),
        ..LinkChange::default()
    };
    kernel.netlink.change_link(kernel.index, &down)?;
    kernel.netlink.change_link(kernel.index, &rename)
}

/// Whether the interface is up: set after its addresses, before its routes.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) interface: String,
}

/// It shall be.
pub(super) fn up() -> [((), &'static str); 1] {
    [((), "up")]
}

impl Kind for Activity {
    const NAME: &'static str = "activity";
    type Key = ();
    type Value = &'static str;

    fn thing(&self, (): &()) -> String {
        self.interface.clone()
    }

    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        _: &Wanted<(), &'static str>,
        _: bool,
        each: &mut dyn FnMut((), Actual<&'static str>),
    ) -> Result<(), Refused> {
        let value = if find(kernel)?.up { "up" } else { "down" };
        let protocol = None;
        each((), Actual { value, protocol });
        Ok(())
    }

    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        (): &(),
        _: &&'static str,
        _: Option<&&'static str>,
    ) -> Result<(), Refused> {
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        Ok(kernel.netlink.change_link(kernel.index, &up)?)
    }

    fn remove(&mut self, _: &mut Kernel<'_>, (): &(), _: &&'static str) -> Result<(), Refused> {
        Ok(())
    }
}
