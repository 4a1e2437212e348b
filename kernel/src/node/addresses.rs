//! Addresses of the node port: the gateways, and the network address that Flannel nodes take as their source.

use std::fmt;
use std::net::IpAddr;

use super::is_next_hop;
use crate::netlink::{Address, Lifetime, Netlink};
use crate::reconcile::{Actual, Kernel, Kind, OWNER, Refused, Wanted};

/// `IFAPROT_KERNEL_LL`, linux/if_addr.h: made by the kernel from the MAC address.
const KERNEL_LL: u8 = 3;

/// Prefix length of a single IPv4 address.
const HOST: u8 = 32;

/// What an address has beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Prefix length in bits.
    pub(super) len: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sound,
    Tentative,
    Duplicate,
    Deprecated,
    Dynamic,
}

impl Prefix {
    /// A sound one.
    pub(super) fn of(len: u8) -> Self {
        Self {
            len,
            state: State::Sound,
        }
    }

    fn found(a: &Address) -> Self {
        let state = match a {
            Address {
                duplicate: true, ..
            } => State::Duplicate,
            Address {
                tentative: true, ..
            } => State::Tentative,
            Address {
                deprecated: true, ..
            } => State::Deprecated,
            a if a.lifetime == Lifetime::Dynamic => State::Dynamic,
            _ => State::Sound,
        };
        Self {
            len: a.prefix_len,
            state,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Sound => "",
            State::Tentative => " tentative",
            State::Duplicate => " a duplicate",
            State::Deprecated => " deprecated",
            State::Dynamic => " for a while only",
        };
        write!(f, "/{}{state}", self.len)
    }
}

/// An address, in the order in which they are set: the kernel takes the first of a network, and of an interface
/// where it masquerades, as its own (`inet_select_addr`, net/ipv4/devinet.c), which is to be the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked {
    /// Not a gateway.
    last: bool,
    ip: IpAddr,
}

impl Ranked {
    /// A gateway, before all that is none.
    pub(super) fn gateway(ip: IpAddr) -> Self {
        Self { last: false, ip }
    }

    /// Any other address.
    pub(super) fn other(ip: IpAddr) -> Self {
        Self { last: true, ip }
    }
}

/// Addresses of one interface.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) interface: String,
}

/// Puts the network address of a gateway behind it, where it was before.
fn behind(netlink: &mut Netlink, index: u32, gateway: IpAddr, len: u8) -> Result<(), Refused> {
    let IpAddr::V4(gateway) = gateway else {
        return Ok(());
    };
    let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
    let network: IpAddr = std::net::Ipv4Addr::from(u32::from(gateway) & mask).into();
    let is_network = |a: &Address| (a.ip, a.prefix_len) == (network, HOST);
    if len < HOST && netlink.addresses(index)?.iter().any(is_network) {
        netlink.remove_address(index, network, HOST)?;
        netlink.add_address(index, network, HOST)?;
    }
    Ok(())
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Older kernels do not say so.
fn is_kernels(protocol: Option<u8>) -> bool {
    matches!(protocol, None | Some(KERNEL_LL))
}

impl Kind for Addresses {
    const NAME: &'static str = "addresses";
    type Key = Ranked;
    type Value = Prefix;

    fn thing(&self, Ranked { ip, .. }: &Ranked) -> String {
        format!("address {ip} of {}", self.interface)
    }

    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        wanted: &Wanted<Ranked, Prefix>,
        sweep: bool,
        each: &mut dyn FnMut(Ranked, Actual<Prefix>),
    ) -> Result<(), Refused> {
        for a in kernel.netlink.addresses(kernel.index)? {
            let known = wanted.iter().find(|(key, _)| key.ip == a.ip);
            let known = known.map(|(key, _)| *key);
            // The kernel makes one from the MAC address where `addr_gen_mode` was lost. It may be a next hop's,
            // which is the node's own then.
            let made = is_next_hop(a.ip) || (is_link_local(a.ip) && is_kernels(a.protocol));
            let ours = a.protocol == Some(OWNER) || made || (sweep && a.global);
            if known.is_some() || ours {
                let actual = Actual {
                    value: Prefix::found(&a),
                    protocol: a.protocol,
                };
                each(known.unwrap_or(Ranked::other(a.ip)), actual);
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        Ranked { ip, .. }: &Ranked,
        value: &Prefix,
        actual: Option<&Prefix>,
    ) -> Result<(), Refused> {
        let (netlink, index) = (&mut *kernel.netlink, kernel.index);
        let other_len = actual.filter(|old| old.len != value.len);
        // One that a duplicate check has condemned stays so until it goes; and IPv6 has an address once, with
        // one prefix length (net/ipv6/addrconf.c).
        let first = actual.filter(|old| old.state == State::Duplicate);
        let first = first.or(other_len.filter(|_| ip.is_ipv6()));
        if let Some(old) = first {
            netlink.remove_address(index, *ip, old.len)?;
        }
        netlink.add_address(index, *ip, value.len)?;
        // IPv4 keeps both meanwhile, and with them the routes that have it as their source.
        if let Some(old) = other_len.filter(|_| ip.is_ipv4()) {
            netlink.remove_address(index, *ip, old.len)?;
        }
        behind(netlink, index, *ip, value.len)
    }

    fn remove(
        &mut self,
        kernel: &mut Kernel<'_>,
        Ranked { ip, .. }: &Ranked,
        actual: &Prefix,
    ) -> Result<(), Refused> {
        Ok(kernel
            .netlink
            .remove_address(kernel.index, *ip, actual.len)?)
    }
}
