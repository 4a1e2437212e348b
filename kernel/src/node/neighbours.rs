//! Permanent neighbour entries on the node port: the next hops of its routes, and the pods.

use std::fmt;
use std::net::IpAddr;

use ringway_packet::mac::MacAddr;

use crate::netlink::NeighbourState;
use crate::reconcile::{Actual, Kernel, Kind, Refused, Wanted};

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    mac: Option<MacAddr>,
    permanent: bool,
}

impl Entry {
    /// A permanent one.
    pub(super) fn at(mac: MacAddr) -> Self {
        Self {
            mac: Some(mac),
            permanent: true,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mac {
            Some(mac) => write!(f, "at {mac}")?,
            None => f.write_str("at an unknown MAC address")?,
        }
        if self.permanent {
            return Ok(());
        }
        f.write_str(", for a while only")
    }
}

/// Entries of one interface.
#[derive(Debug)]
pub(super) struct Neighbours {
    pub(super) interface: String,
}

impl Kind for Neighbours {
    const NAME: &'static str = "neighbours";
    type Key = IpAddr;
    type Value = Entry;

    fn thing(&self, ip: &IpAddr) -> String {
        format!("neighbour {ip} of {}", self.interface)
    }

    /// Beside those wanted none is ours but at a sweep: what a pod that is being attached has set is not wanted
    /// yet. Groups are permanent, too, and the kernel's own.
    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        wanted: &Wanted<IpAddr, Entry>,
        sweep: bool,
        each: &mut dyn FnMut(IpAddr, Actual<Entry>),
    ) -> Result<(), Refused> {
        for n in kernel.netlink.neighbours(kernel.index)? {
            let permanent = n.state == NeighbourState::Permanent;
            let ours = sweep && permanent && !n.ip.is_multicast();
            if ours || wanted.get(&n.ip).is_some() {
                let value = Entry {
                    mac: n.mac,
                    permanent,
                };
                let protocol = n.protocol;
                each(n.ip, Actual { value, protocol });
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        ip: &IpAddr,
        value: &Entry,
        _: Option<&Entry>,
    ) -> Result<(), Refused> {
        if let Some(mac) = value.mac {
            kernel.netlink.set_neighbour(kernel.index, *ip, mac)?;
        }
        Ok(())
    }

    fn remove(&mut self, kernel: &mut Kernel<'_>, ip: &IpAddr, _: &Entry) -> Result<(), Refused> {
        Ok(kernel.netlink.remove_neighbour(kernel.index, *ip)?)
    }
}
