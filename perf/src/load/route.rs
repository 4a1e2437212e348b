//! Where packets to an address go first: interface, next hop's MAC, own address; asked from the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use ringway_packet::mac::MacAddr;
use serde_json::Value;

use super::LoadError;
use crate::lab;

/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextHop {
    /// By this interface.
    pub interface: String,
    /// From this address of it.
    pub from: IpAddr,
    /// Its MAC, and the next hop's.
    pub macs: (MacAddr, MacAddr),
}

/// Asks the kernel, in the calling thread's namespace, and if need be makes it ask the neighbour. `mac` is
/// taken for the next hop's if it is given.
///
/// # Errors
/// No route, no MAC, no answer.
pub fn next_hop(to: IpAddr, mac: Option<MacAddr>) -> Result<NextHop, LoadError> {
    let text = match lab::run("ip", &["-j", "route", "get", &to.to_string()]) {
        Err(lab::LabError::Command { output, .. }) => {
            return Err(LoadError::NoRoute { to, found: output });
        }
        other => other?,
    };
    let no_route = || LoadError::NoRoute {
        to,
        found: text.trim().to_owned(),
    };
    let json: Value = serde_json::from_str(&text).map_err(|_| no_route())?;
    let field = |name: &str| json[0][name].as_str().map(str::to_owned);
    if field("type").is_some_and(|kind| kind != "unicast") {
        return Err(no_route());
    }
    let interface = field("dev").ok_or_else(no_route)?;
    let address = |name: &str| field(name).and_then(|text| text.parse::<IpAddr>().ok());
    let from = address("prefsrc").ok_or_else(no_route)?;
    let hop = address("gateway").unwrap_or(to);
    let own = mac_of(&interface)?;
    let theirs = match mac {
        Some(mac) => mac,
        None => neighbour(to, hop, &interface)?,
    };
    Ok(NextHop {
        interface,
        from,
        macs: (own, theirs),
    })
}

fn neighbour(to: IpAddr, hop: IpAddr, interface: &str) -> Result<MacAddr, LoadError> {
    let begin = Instant::now();
    loop {
        let words = [
            "-j",
            "neigh",
            "show",
            "to",
            &hop.to_string(),
            "dev",
            interface,
        ];
        let text = lab::run("ip", &words)?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let mac = json[0]["lladdr"].as_str().and_then(|mac| mac.parse().ok());
        if let Some(mac) = mac {
            return Ok(mac);
        }
        if begin.elapsed() > PATIENCE {
            return Err(LoadError::NoNeighbour {
                to,
                hop,
                interface: interface.to_owned(),
            });
        }
        ask(to);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One datagram by the kernel's own means: before it can leave, the next hop must be known.
fn ask(to: IpAddr) {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Whether it worked shows in the neighbour table.
    if let Ok(socket) = UdpSocket::bind((any, 0)) {
        let _ = socket.send_to(b"", (to, super::PORT));
    }
}

/// The MAC of an interface of the calling thread's namespace.
///
/// # Errors
/// It has none.
pub(super) fn mac_of(interface: &str) -> Result<MacAddr, LoadError> {
    let entries = nix::ifaddrs::getifaddrs().map_err(LoadError::interface(interface))?;
    let mac = entries
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr()?.addr());
    mac.map(MacAddr).ok_or_else(|| LoadError::NoMac {
        interface: interface.to_owned(),
    })
}

/// The IP addresses of an interface of the calling thread's namespace.
pub(super) fn addresses(interface: &str) -> Vec<IpAddr> {
    nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}
