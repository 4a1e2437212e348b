//! From raw values to meanings: parses, checks one value, then checks values
//! against each other. The first mistake is reported, in the file's order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ringway_cluster::{gateway, has_gateway};
use ringway_kernel::mac;
use ringway_packet::mac::MacAddr;
use ringway_ports::socket::{MAX_TX_PORTS, least_mtu};
use ringway_tables::Cidr;

use super::agents::agents;
use super::metrics::metrics;
use super::networks::{Networks, in_cluster, overlaps};
use super::number::Number;
use super::pods::{egress, ipam};
use super::raw::{self, Raw};
use super::{
    Checksum, Cni, Config, Decider, Family, Format, Log, NetworkDefaults, Node, Peer, Problem,
    UnderlayConfig, Workers, sources,
};
use crate::names::{interface_name, node_name};

/// A problem and the key it belongs to.
pub(super) type Located<T> = Result<T, (String, Problem)>;

/// `sun_path` holds 108 bytes with its terminating zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The kernel's name of the loopback interface.
const LOOPBACK: &str = "lo";

pub(super) fn validate(file: &Path, raw: Raw, defaults: &NetworkDefaults) -> Located<Config> {
    if raw.kubernetes.is_some() && raw.etcd.is_some() {
        return Err(("etcd".into(), Problem::TwoDeciders));
    }
    let decider = match (&raw.kubernetes, &raw.etcd) {
        (Some(_), _) => Decider::Kubernetes,
        (None, Some(_)) => Decider::Etcd,
        (None, None) => Decider::File,
    };
    let usual_name = sources::usual_name(raw.kubernetes.as_ref());
    let node = node(raw.node, decider, usual_name)?;
    // Its source ports are divided among the workers.
    let count = raw.workers.count.read("workers.count").unwrap_or(1);
    let underlay = underlay(raw.underlay, &node, count, defaults)?;
    let workers = workers(raw.workers)?;
    let ipam = ipam(&raw.ipam, &node, decider)?;
    let cni = cni(&raw.cni)?;
    let egress = egress(&raw.egress)?;
    let metrics = metrics(raw.metrics)?;
    let agents = agents(raw.agents)?;
    let log = log(raw.log)?;
    let mut peers = Vec::with_capacity(raw.peers.len());
    for (i, one) in raw.peers.into_iter().enumerate() {
        peers.push(peer(i, one, &node, &underlay)?);
    }
    let kubernetes = raw
        .kubernetes
        .map(|raw| sources::kubernetes(raw, &node.name));
    let etcd = raw.etcd.map(sources::etcd);
    let mut config = Config {
        file: file.to_owned(),
        node,
        underlay,
        workers,
        ipam,
        cni,
        egress,
        metrics,
        agents,
        log,
        peers,
        kubernetes: kubernetes.transpose()?,
        etcd: etcd.transpose()?,
    };
    against_each_other(&config)?;
    // What the file says is not held against what the cluster happens to say now.
    if config.node.cluster_cidrs.is_empty() {
        config
            .node
            .cluster_cidrs
            .clone_from(&defaults.cluster_cidrs);
    }
    Ok(config)
}

fn node(raw: raw::Node, decider: Decider, usual_name: Option<String>) -> Located<Node> {
    let name = match raw.name.clone().or(usual_name) {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    check_name("node.name", &name)?;
    let pod_cidrs = own_cidrs(&raw, decider)?;
    for v6 in [false, true] {
        let mut of_family = pod_cidrs
            .iter()
            .enumerate()
            .filter(|(_, c)| c.is_ipv6() == v6);
        if let Some((i, main)) = of_family.next() {
            roomy(&format!("node.pod_cidrs[{i}]"), *main)?;
        }
    }
    let mut cluster_cidrs = Vec::new();
    for (i, text) in raw.cluster_cidrs.iter().enumerate() {
        cluster_cidrs.push(cidr(&format!("node.cluster_cidrs[{i}]"), text)?);
    }
    interface("node.interface", &raw.interface)?;
    let socket = absolute("node.socket", &raw.socket)?;
    if raw.socket.len() > SOCKET_PATH_MAX {
        let (len, max) = (raw.socket.len(), SOCKET_PATH_MAX);
        return Err(("node.socket".into(), Problem::SocketPath { len, max }));
    }
    let vtep_mac = vtep_mac("node.vtep_mac", raw.vtep_mac.as_deref(), &pod_cidrs)?;
    let vtep_mac_v6 = match &raw.vtep_mac_v6 {
        None => vtep_mac,
        Some(text) => mac_address("node.vtep_mac_v6", text)?,
    };
    let subnet_env = raw.subnet_env.filter(|path| !path.is_empty());
    // Who decides may know them later.
    if subnet_env.is_some() && cluster_cidrs.is_empty() && decider == Decider::File {
        return Err(("node.subnet_env".into(), Problem::SubnetEnv));
    }
    let subnet_env = subnet_env.map(|path| absolute("node.subnet_env", &path));
    Ok(Node {
        name,
        pod_cidrs,
        cluster_cidrs,
        interface: raw.interface,
        state_dir: absolute("node.state_dir", &raw.state_dir)?,
        socket,
        sysctl_root: absolute("node.sysctl_root", &raw.sysctl_root)?,
        subnet_env: subnet_env.transpose()?,
        vtep_mac,
        vtep_mac_v6,
        takeover: raw.takeover,
    })
}

fn log(raw: raw::Log) -> Located<Log> {
    if let Err(wrong) = ringway_log::check_level(&raw.level) {
        let why = wrong.to_string();
        return Err(("log.level".into(), Problem::BadLevel { why }));
    }
    let value = raw.format;
    let format = Format::named(&value)
        .ok_or_else(|| ("log.format".to_owned(), Problem::BadFormat { value }))?;
    let level = raw.level;
    Ok(Log { level, format })
}

fn cni(raw: &raw::Cni) -> Located<Cni> {
    Ok(Cni {
        install: raw.install,
        bin_dir: absolute("cni.bin_dir", &raw.bin_dir)?,
        conf_dir: absolute("cni.conf_dir", &raw.conf_dir)?,
        books: absolute("cni.books", &raw.books)?,
    })
}

/// The pod networks, which the file says unless another source decides.
fn own_cidrs(raw: &raw::Node, decider: Decider) -> Located<Vec<Cidr>> {
    if decider == Decider::File {
        return match &raw.pod_cidrs {
            Some(texts) => cidrs("node.pod_cidrs", texts),
            None => Err(("node.pod_cidrs".into(), Problem::NoCidr)),
        };
    }
    let said = [
        ("node.pod_cidrs", raw.pod_cidrs.is_some()),
        ("node.vtep_mac", raw.vtep_mac.is_some()),
        ("node.vtep_mac_v6", raw.vtep_mac_v6.is_some()),
    ];
    match said.iter().find(|(_, said)| *said) {
        None => Ok(Vec::new()),
        Some((key, _)) => {
            let (key, by) = ((*key).to_owned(), decider.name());
            Err((key.clone(), Problem::Decided { key, by }))
        }
    }
}

fn underlay(
    raw: raw::Underlay,
    node: &Node,
    workers: usize,
    defaults: &NetworkDefaults,
) -> Located<UnderlayConfig> {
    interface("underlay.interface", &raw.interface)?;
    if raw.interface == node.interface {
        let value = raw.interface;
        return Err((
            "underlay.interface".into(),
            Problem::SameInterface { value },
        ));
    }
    if raw.interface == LOOPBACK {
        return Err(("underlay.interface".into(), Problem::Loopback));
    }
    let addresses = addresses("underlay.addresses", &raw.addresses)?;
    for v6 in [false, true] {
        let found = addresses.iter().filter(|a| a.is_ipv6() == v6).count();
        if found > 1 {
            return Err(("underlay.addresses".into(), Problem::TwoOfFamily { found }));
        }
    }
    let vni = or(raw.vni, "underlay.vni", defaults.vni)?;
    let vxlan_port = or(raw.vxlan_port, "underlay.vxlan_port", defaults.vxlan_port)?;
    let udp_port = or(raw.udp_port, "underlay.udp_port", defaults.udp_port)?;
    if vxlan_port == udp_port {
        let problem = Problem::SamePort { port: udp_port };
        return Err(("underlay.udp_port".into(), problem));
    }
    let xdp_busy_poll_us = raw.xdp_busy_poll_us.read("underlay.xdp_busy_poll_us")?;
    let most = (MAX_TX_PORTS * workers) as i128;
    let probes = raw.probes.read("underlay.probes")?;
    let source_ports = raw
        .source_ports
        .read_within("underlay.source_ports", 1, most)?;
    if raw.udp_checksum == Checksum::Off && raw.family == Family::Ipv6 {
        return Err(("underlay.udp_checksum".into(), Problem::ChecksumOff));
    }
    if raw.udp_checksum == Checksum::Off && !raw.dont_fragment {
        return Err(("underlay.udp_checksum".into(), Problem::ChecksumFragments));
    }
    Ok(UnderlayConfig {
        interface: raw.interface,
        addresses,
        encap: raw.encap.unwrap_or(defaults.encap),
        vni,
        vxlan_port,
        udp_port,
        io: raw.io,
        family: raw.family,
        gro: raw.gro,
        udp_checksum: raw.udp_checksum,
        unfinished_checksums: raw.unfinished_checksums,
        xdp_busy_poll_us,
        source_ports,
        dont_fragment: raw.dont_fragment,
        lower_mtu: raw.lower_mtu,
        probes,
    })
}

/// A number that may be left out.
fn or<T: TryFrom<i128>>(given: Option<Number>, key: &str, default: T) -> Located<T> {
    given.map_or(Ok(default), |number| number.read(key))
}

fn workers(raw: raw::Workers) -> Located<Workers> {
    let count: usize = raw.count.read("workers.count")?;
    if !raw.cpus.is_empty() && raw.cpus.len() != count {
        let found = raw.cpus.len();
        return Err(("workers.cpus".into(), Problem::CpuCount { found, count }));
    }
    let mut cpus = Vec::new();
    for (i, cpu) in raw.cpus.iter().enumerate() {
        let key = format!("workers.cpus[{i}]");
        let cpu: usize = cpu.read(&key)?;
        if cpus.contains(&cpu) {
            return Err((key, Problem::DuplicateCpu { cpu }));
        }
        cpus.push(cpu);
    }
    Ok(Workers {
        count,
        cpus,
        polling: raw.polling,
        idle_spin_us: raw.idle_spin_us.read("workers.idle_spin_us")?,
    })
}

fn peer(i: usize, raw: raw::Peer, node: &Node, underlay: &UnderlayConfig) -> Located<Peer> {
    let key = |field: &str| format!("peers[{i}].{field}");
    check_name(&key("name"), &raw.name)?;
    if raw.addresses.is_empty() {
        return Err((key("addresses"), Problem::NoAddress));
    }
    let pod_cidrs = cidrs(&key("pod_cidrs"), &raw.pod_cidrs)?;
    for (j, c) in pod_cidrs.iter().enumerate() {
        let own = &node.pod_cidrs;
        // Without any, another source says them later.
        if !own.is_empty() && !own.iter().any(|own| own.is_ipv6() == c.is_ipv6()) {
            let problem = Problem::PodFamily {
                peer: raw.name,
                family: family_name(c.is_ipv6()),
                cidr: c.to_string(),
            };
            return Err((key(&format!("pod_cidrs[{j}]")), problem));
        }
    }
    let vtep_mac = vtep_mac(&key("vtep_mac"), raw.vtep_mac.as_deref(), &pod_cidrs)?;
    let vtep_mac_v6 = match &raw.vtep_mac_v6 {
        None => vtep_mac,
        Some(text) => mac_address(&key("vtep_mac_v6"), text)?,
    };
    let addresses = addresses(&key("addresses"), &raw.addresses)?;
    if !underlay.addresses.is_empty() {
        common_family(&underlay.addresses, &addresses, underlay.family).map_err(|detail| {
            let peer = raw.name.clone();
            (key("addresses"), Problem::UnderlayFamily { peer, detail })
        })?;
    }
    let least = addresses.iter().map(|a| least_mtu(*a)).min().unwrap_or(0);
    let mtu = raw
        .mtu
        .map(|mtu| mtu.read_within(&key("mtu"), least.into(), 65_535));
    let mtu = mtu.transpose()?;
    Ok(Peer {
        name: raw.name,
        mtu,
        addresses,
        pod_cidrs,
        encap: raw.encap.unwrap_or(underlay.encap),
        vtep_mac,
        vtep_mac_v6,
    })
}

/// Checks that a tunnel between the two address sets is possible; the error
/// says who has what.
pub fn common_family(own: &[IpAddr], peer: &[IpAddr], family: Family) -> Result<(), String> {
    let usable = |v6: bool| match family {
        Family::Match => true,
        Family::Ipv4 => !v6,
        Family::Ipv6 => v6,
    };
    let has = |set: &[IpAddr], v6| set.iter().any(|a| a.is_ipv6() == v6);
    if [false, true]
        .into_iter()
        .any(|v6| usable(v6) && has(own, v6) && has(peer, v6))
    {
        return Ok(());
    }
    let family = format!("{family:?}").to_lowercase();
    Err(format!(
        "own {}, peer's {}, underlay.family = {family:?}",
        list(own),
        list(peer)
    ))
}

fn list(addresses: &[IpAddr]) -> String {
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    all.join(" and ")
}

/// Names, addresses and networks must be one node's only.
fn against_each_other(config: &Config) -> Located<()> {
    let mut names = HashMap::from([(config.node.name.as_str(), "this node")]);
    let mut addresses: HashMap<IpAddr, &str> = HashMap::new();
    let networks = Networks::of(config);
    for (i, c) in config.node.pod_cidrs.iter().enumerate() {
        in_cluster(&format!("node.pod_cidrs[{i}]"), *c, config)?;
    }
    for address in &config.underlay.addresses {
        addresses.insert(*address, "this node");
    }
    for (i, peer) in config.peers.iter().enumerate() {
        let key = |field: &str| format!("peers[{i}].{field}");
        if let Some(owner) = names.insert(&peer.name, "another peer") {
            let (value, owner) = (peer.name.clone(), owner.to_owned());
            return Err((key("name"), Problem::DuplicateName { value, owner }));
        }
        for (j, address) in peer.addresses.iter().enumerate() {
            if let Some(owner) = addresses.insert(*address, &peer.name) {
                let (value, owner) = (*address, owner.to_owned());
                let key = key(&format!("addresses[{j}]"));
                return Err((key, Problem::DuplicateAddress { value, owner }));
            }
        }
        for (j, c) in peer.pod_cidrs.iter().enumerate() {
            let key = key(&format!("pod_cidrs[{j}]"));
            in_cluster(&key, *c, config)?;
        }
    }
    overlaps(config)?;
    // An outer address inside a pod network would route the tunnel into itself.
    let all = config
        .underlay
        .addresses
        .iter()
        .enumerate()
        .map(|(i, a)| (format!("underlay.addresses[{i}]"), a))
        .chain(config.peers.iter().enumerate().flat_map(|(i, p)| {
            p.addresses
                .iter()
                .enumerate()
                .map(move |(j, a)| (format!("peers[{i}].addresses[{j}]"), a))
        }));
    for (key, address) in all {
        if let Some((c, owner)) = networks.around(*address) {
            let problem = Problem::AddressInCidr {
                value: *address,
                cidr: c.to_string(),
                owner: owner.to_owned(),
            };
            return Err((key, problem));
        }
    }
    Ok(())
}

pub(super) fn cidr(key: &str, text: &str) -> Located<Cidr> {
    text.parse::<Cidr>().map_err(|e| {
        let why = e.to_string();
        (key.to_owned(), Problem::BadCidr { why })
    })
}

/// Pod networks: unicast, and no more than a node's.
fn cidrs(key: &str, texts: &[String]) -> Located<Vec<Cidr>> {
    if texts.is_empty() {
        return Err((key.to_owned(), Problem::NoCidr));
    }
    let mut all = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let key = format!("{key}[{i}]");
        let c = cidr(&key, text)?;
        let (min, max) = if c.is_ipv6() { (16, 128) } else { (8, 32) };
        if !(min..=max).contains(&c.prefix_len()) {
            let value = c.to_string();
            return Err((key, Problem::CidrSize { value, min, max }));
        }
        let one = if has_gateway(c) {
            gateway(c)
        } else {
            c.network()
        };
        if !unicast(one) {
            let value = c.to_string();
            return Err((key, Problem::CidrKind { value }));
        }
        all.push(c);
    }
    Ok(all)
}

/// A node's main pod network has a gateway.
fn roomy(key: &str, c: Cidr) -> Located<()> {
    if has_gateway(c) {
        return Ok(());
    }
    let (min, max) = if c.is_ipv6() { (16, 126) } else { (8, 30) };
    let value = c.to_string();
    Err((key.to_owned(), Problem::CidrSize { value, min, max }))
}

fn addresses(key: &str, texts: &[String]) -> Located<Vec<IpAddr>> {
    let mut all = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let key = format!("{key}[{i}]");
        let Ok(value) = text.parse::<IpAddr>() else {
            let value = text.clone();
            return Err((key, Problem::BadAddress { value }));
        };
        if !unicast(value) {
            return Err((key, Problem::AddressKind { value }));
        }
        all.push(value);
    }
    Ok(all)
}

/// Neither unspecified, loopback, multicast, broadcast, link-local nor mapped.
fn unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => {
            a.octets()[0] != 0
                && a.octets()[0] < 240
                && !(a.is_loopback() || a.is_multicast() || a.is_link_local())
        }
        IpAddr::V6(a) => {
            !(a.is_loopback() || a.is_multicast() || a.is_unspecified())
                && a.to_ipv4_mapped().is_none()
                && a.segments()[0] & 0xffc0 != 0xfe80
        }
    }
}

fn vtep_mac(key: &str, text: Option<&str>, pod_cidrs: &[Cidr]) -> Located<MacAddr> {
    match text {
        Some(text) => mac_address(key, text),
        None => Ok(mac::vtep_default(pod_cidrs)),
    }
}

fn mac_address(key: &str, text: &str) -> Located<MacAddr> {
    let Ok(mac) = text.parse::<MacAddr>() else {
        let value = text.to_owned();
        return Err((key.to_owned(), Problem::BadMac { value }));
    };
    if mac::is_station(mac) {
        Ok(mac)
    } else {
        let value = mac.to_string();
        Err((key.to_owned(), Problem::MacKind { value }))
    }
}

fn interface(key: &str, name: &str) -> Located<()> {
    interface_name(name).map_err(|why| {
        let value = name.to_owned();
        (key.to_owned(), Problem::BadInterface { value, why })
    })
}

pub(super) fn check_name(key: &str, name: &str) -> Located<()> {
    node_name(name).map_err(|why| {
        let value = name.to_owned();
        (key.to_owned(), Problem::BadName { value, why })
    })
}

pub(super) fn absolute(key: &str, text: &str) -> Located<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        let value = text.to_owned();
        Err((key.to_owned(), Problem::NotAbsolute { value }))
    }
}

/// `IPv4` or `IPv6`.
pub fn family_name(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}
