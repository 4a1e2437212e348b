//! Making, reopening and removing a pod's interface.
//!
//! All of it happens in a thread inside the pod's namespace. A TAP made in the node's namespace and moved
//! would not keep the pod's namespace alive by its descriptors, but moving costs 13 to 34 ms (the kernel
//! waits for all its readers, twice), and after a restart its descriptors are opened inside anyhow: the
//! namespace has to be watched, and they are closed within a second or two after its path is gone.
//!
//! ```text
//! pod:  create eth0, open queues ─ no qdisc ─ MAC, MTU, GSO limits, queue length ─ addresses ─ up ─ routes
//! ```
//!
//! The interface is persistent from the first moment. Until [`Making::keep`] is called, dropping what was
//! made takes the persistence back, and the interface vanishes with its last descriptor. What an agent
//! leaves that is killed in between is known from the pod's record: see [`sweep`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_ports::tap::{self, TapError, TapOptions};
use ringway_tables::Cidr;

use crate::netlink::{Link, LinkChange, Netlink, NetlinkError, Route};
use crate::netns::{NAMED, Netns, run_in};
pub use crate::pod::error::InterfaceError;
use crate::pod::lanes;
pub use crate::pod::lanes::Queues;
use crate::pod::queue::Queue;
use crate::sysctl::{self, SysctlError};

/// Owner of our TAPs: no account has it, so that no unprivileged process that
/// may open /dev/net/tun can take one while the agent is down. (65534 is
/// `nobody`, and `(uid_t)-1` means "no owner".)
pub const TAP_OWNER_UID: u32 = 4_294_967_290;
/// Alias of the TAPs of an agent: which of several on a machine, by its state directory. `uninstall` finds
/// them by it when their record is gone.
pub fn alias(state_dir: &Path) -> String {
    // IFALIASZ, linux/if.h, is 256 with the end.
    let name: String = state_dir.display().to_string();
    let start = name.len().saturating_sub(240);
    let start = (start..name.len()).find(|at| name.is_char_boundary(*at));
    format!("ringway {}", &name[start.unwrap_or(0)..])
}

/// What the pod's interface shall be.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Name inside the pod.
    pub ifname: &'a str,
    /// See [`alias`].
    pub alias: &'a str,
    /// MAC address.
    pub mac: MacAddr,
    /// MTU in bytes.
    pub mtu: u16,
    /// Addresses with prefix length and gateway.
    pub addresses: &'a [PodAddress],
    /// Routes besides the default ones.
    pub routes: &'a [PodRoute],
    /// How many workers read it.
    pub workers: usize,
    /// How long they are, and how large a superframe.
    pub queue: Queue,
}

/// A route of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRoute {
    /// Network address of the destination.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Next hop.
    pub gateway: IpAddr,
}

/// One address of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The address.
    pub ip: IpAddr,
    /// On-link prefix length: that of the node's pod network.
    pub prefix_len: u8,
    /// Next hop of the default route.
    pub gateway: IpAddr,
}

/// An interface under construction; removed when dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the interface"]
pub struct Making {
    queues: Option<Queues>,
}

impl Making {
    /// The queues, to be handed to workers.
    pub fn queues(&self) -> Queues {
        self.queues.clone().unwrap_or(Queues {
            fds: Vec::new(),
            lanes: None,
            uso: false,
        })
    }

    /// The interface stays.
    pub fn keep(mut self) {
        self.queues = None;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(queues) = self.queues.take() {
            remove(&queues);
        }
    }
}

/// Makes the interface, complete, up, and with carrier.
pub fn create(netns: &Netns, spec: &Spec) -> Result<Making, InterfaceError> {
    run_in(netns, || make(netns, spec))?
}

/// Makes it in the current namespace, which is `netns`.
fn make(netns: &Netns, spec: &Spec) -> Result<Making, InterfaceError> {
    let taken = || InterfaceError::NameTaken {
        netns: netns.path().display().to_string(),
        ifname: spec.ifname.to_owned(),
    };
    let options = TapOptions {
        multi_queue: true,
        owner_uid: Some(TAP_OWNER_UID),
    };
    let first = tap::create_persistent(spec.ifname, &options).map_err(|e| match e {
        TapError::Taken { .. } => taken(),
        e => e.into(),
    })?;
    let mut making = Making {
        queues: Some(Queues::single(first)),
    };
    if let Some(queues) = &mut making.queues {
        lanes::open_others(queues, spec.ifname, spec.workers)?;
    }
    configure(&mut Netlink::open()?, netns, spec)?;
    Ok(making)
}

/// Sets everything on it.
fn configure(netlink: &mut Netlink, netns: &Netns, spec: &Spec) -> Result<(), InterfaceError> {
    let ifname = spec.ifname;
    let index = index(ifname)?.ok_or_else(|| NetlinkError::NoLink {
        name: ifname.to_owned(),
    })?;
    // Before it is up, or the default one is made first.
    netlink.set_noqueue(index)?;
    netlink.change_link(
        index,
        &LinkChange {
            alias: Some(spec.alias),
            mac: Some(spec.mac),
            mtu: Some(spec.mtu.into()),
            ..spec.queue.change()
        },
    )?;
    ipv6_settings(ifname, spec.addresses.iter().any(|a| a.ip.is_ipv6()))?;
    for address in spec.addresses {
        netlink.add_address(index, address.ip, address.prefix_len)?;
    }
    netlink.change_link(
        index,
        &LinkChange {
            up: Some(true),
            ..LinkChange::default()
        },
    )?;
    let defaults = spec.addresses.iter().map(|address| PodRoute {
        destination: match address.ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        },
        prefix_len: 0,
        gateway: address.gateway,
    });
    for route in defaults.chain(spec.routes.iter().copied()) {
        let added = netlink.add_route(&Route {
            protocol: crate::netlink::STATIC,
            destination: route.destination,
            prefix_len: route.prefix_len,
            gateway: Some(route.gateway),
            // The gateway of a borrowed address lies in another network.
            onlink: is_beyond(spec.addresses, route.gateway),
            source: None,
            interface: index,
        })?;
        // A second interface of a pod must not take the first one's traffic.
        if !added {
            tracing::info!(netns = %netns.path().display(), ifname, gateway = %route.gateway,
                "the pod has a route to {}/{} already; it keeps it", route.destination, route.prefix_len);
        }
    }
    Ok(())
}

/// Whether the next hop is the gateway of a borrowed address, a network by itself, and in the network of none.
fn is_beyond(addresses: &[PodAddress], next_hop: IpAddr) -> bool {
    let borrowed = |a: &PodAddress| {
        let bits = if a.ip.is_ipv6() { 128 } else { 32 };
        a.prefix_len + 1 >= bits && a.gateway == next_hop
    };
    let around = |a: &PodAddress| {
        let network = Cidr::containing(a.ip, a.prefix_len);
        network.is_ok_and(|network| network.contains(from_ip(next_hop)))
    };
    addresses.iter().any(borrowed) && !addresses.iter().any(around)
}

/// IPv6 settings of the interface, in the current namespace. Addresses are
/// given out by the node, so router advertisements are not listened to and
/// duplicates are not probed for: the link-local address works at once.
fn ipv6_settings(ifname: &str, pod_has_ipv6: bool) -> Result<(), SysctlError> {
    let key = |name: &str| format!("ipv6/conf/{ifname}/{name}");
    // Without IPv6 in the kernel there is nothing to settle; an IPv6 address
    // will be refused with a clear error when it is added.
    sysctl::set_if_present(&key("accept_ra"), "0")?;
    sysctl::set_if_present(&key("accept_dad"), "0")?;
    if pod_has_ipv6 {
        sysctl::set_if_present(&key("disable_ipv6"), "0")?;
    }
    Ok(())
}

/// Opens the queues of an interface made earlier, inside its namespace. The
/// namespace lives from now on as long as the descriptors: it must be watched.
/// `multi_queue` must be what it was made with.
pub fn reopen(
    netns: &Netns,
    ifname: &str,
    multi_queue: bool,
    workers: usize,
) -> Result<Queues, InterfaceError> {
    run_in(netns, || {
        let mut queues = Queues::single(tap::open_first(ifname, multi_queue)?);
        if multi_queue {
            lanes::open_others(&mut queues, ifname, workers)?;
        }
        Ok(queues)
    })?
}

/// Where interfaces with this alias are, by MAC address, in every network namespace that has a name or a
/// process: path of the namespace and name.
pub fn everywhere(alias: &str) -> BTreeMap<MacAddr, Vec<(PathBuf, String)>> {
    let entries = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    let named = entries(NAMED).map(|entry| entry.path());
    let (mut seen, mut found) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    for path in named.chain(of_processes) {
        let Ok(netns) = Netns::open(&path) else {
            continue;
        };
        if !seen.insert(netns.identity()) {
            continue;
        }
        for link in links(&netns) {
            if link.alias.as_deref() == Some(alias)
                && let Some(mac) = link.mac
            {
                let place = (path.clone(), link.name);
                found.entry(mac).or_default().push(place);
            }
        }
    }
    found
}

/// The interfaces of one namespace; none if they cannot be listed.
pub fn links(netns: &Netns) -> Vec<Link> {
    let links = run_in(netns, || Netlink::open().and_then(|mut n| n.links()));
    links.into_iter().flatten().flatten().collect()
}

/// Removes what an agent left that was killed while it made `ifname`, so that no record says how to reopen
/// it. False if there is no TAP of that name. One that somebody reads is left alone.
pub fn sweep(netns: &Netns, ifname: &str) -> Result<bool, InterfaceError> {
    run_in(netns, || match tap::delete(ifname) {
        Ok(()) => Ok(true),
        Err(TapError::NotFound { .. } | TapError::NotTap { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    })?
}

/// Whether the namespace has an interface of that name.
pub fn exists(netns: &Netns, ifname: &str) -> Result<bool, InterfaceError> {
    Ok(run_in(netns, || index(ifname))??.is_some())
}

/// Index of an interface of the current namespace. `SIOCGIFINDEX` takes no lock, where rtnetlink waits for
/// whoever changes any interface of the machine.
pub fn index(ifname: &str) -> Result<Option<u32>, NetlinkError> {
    match if_nametoindex(ifname) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::ENODEV) => Ok(None),
        Err(e) => Err(NetlinkError::Io {
            what: format!("looking up interface {ifname}"),
            source: e.into(),
        }),
    }
}

/// Makes the interface vanish when its last descriptor is closed, whatever it
/// is called and wherever it is by now. False when it is gone already.
pub fn remove(queues: &Queues) -> bool {
    let Some(first) = queues.fds.first() else {
        return false;
    };
    match tap::unpersist(first.as_fd()) {
        Ok(()) => true,
        Err(e) => {
            // EBADFD: the namespace went, and the interface with it.
            tracing::debug!("the interface is gone already: {e}");
            false
        }
    }
}

#[cfg(test)]
mod tests;
