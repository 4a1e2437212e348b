//! The underlay as this machine has it: the interface, its addresses and MTU,
//! and which outer addresses carry which pods to which peer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_kernel::netlink::{Address, Netlink, NetlinkError};
use ringway_kernel::next_hop::Endpoints;

use ringway_cluster::{Peer, Plan, Route, State, Step, Via};
use ringway_config::{Config, ConfigError, EncapKind, Family, Problem};
use ringway_config::{common_family, family_name};
use ringway_encap::mtu;
use ringway_packet::addr::from_ip;

mod interface;
mod source;

pub use interface::interface;
pub use ringway_view::{Choice, PassedOver};

/// How long duplicate address detection may take: one probe a second apart by default (RFC 4862).
const TENTATIVE: Duration = Duration::from_secs(4);

/// The underlay interface, examined.
#[derive(Clone, Debug, PartialEq)]
pub struct Underlay {
    /// Name.
    pub interface: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Outer IPv4 address.
    pub v4: Option<IpAddr>,
    /// Outer IPv6 address.
    pub v6: Option<IpAddr>,
    /// Why the addresses are these, and which they are not.
    pub choices: Vec<Choice>,
    /// A veth: what comes by it may have checksums that nobody has finished.
    pub veth: bool,
}

impl Underlay {
    /// Examines the interface for the peers of `state`; a [`ConfigError`] names the key to change.
    pub fn examine(
        config: &Config,
        state: &State,
        netlink: &mut Netlink,
    ) -> Result<Self, ConfigError> {
        let name = &interface(config, netlink)?;
        let mistake = |key: &str, problem| ConfigError::at(&config.file, key, problem);
        let failed = |e: NetlinkError| {
            let (interface, why) = (name.clone(), e.to_string());
            mistake("underlay.interface", Problem::Examine { interface, why })
        };
        let link = match netlink.link(name) {
            Ok(link) => link,
            Err(NetlinkError::NoLink { .. }) => {
                let all = netlink.links().map_err(failed)?;
                let found: Vec<String> = all.into_iter().map(|l| l.name).collect();
                let (value, found) = (name.clone(), found.join(", "));
                return Err(mistake(
                    "underlay.interface",
                    Problem::InterfaceMissing { value, found },
                ));
            }
            Err(e) => return Err(failed(e)),
        };
        if !link.up {
            let value = name.clone();
            return Err(mistake(
                "underlay.interface",
                Problem::InterfaceDown { value },
            ));
        }
        let all = netlink.addresses(link.index).map_err(failed)?;
        let present: Vec<IpAddr> = all.iter().filter(|a| a.global).map(|a| a.ip).collect();
        for (i, wanted) in config.underlay.addresses.iter().enumerate() {
            if !present.contains(wanted) {
                let problem = Problem::AddressNotThere {
                    value: *wanted,
                    interface: name.clone(),
                    found: list(&present),
                };
                return Err(mistake(&format!("underlay.addresses[{i}]"), problem));
            }
        }
        let given = &config.underlay.addresses;
        let kernel = match given.as_slice() {
            [] => source::Kernel::ask(state, &all, netlink),
            _ => source::Kernel::default(),
        };
        let of = |v6: bool| {
            let usable = match config.underlay.family {
                Family::Match => true,
                Family::Ipv4 => !v6,
                Family::Ipv6 => v6,
            };
            if !usable {
                return None;
            }
            let first = given.iter().find(|a| a.is_ipv6() == v6);
            match (first, given.is_empty()) {
                (Some(first), _) => Some(source::configured(&all, *first)),
                (None, true) => source::choose(&all, v6, &kernel),
                (None, false) => None,
            }
        };
        let choices: Vec<Choice> = [false, true].into_iter().filter_map(of).collect();
        let chosen = |v6: bool| {
            choices
                .iter()
                .map(|c| c.address)
                .find(|a| a.is_ipv6() == v6)
        };
        let underlay = Underlay {
            interface: name.clone(),
            mtu: link.mtu,
            v4: chosen(false),
            v6: chosen(true),
            choices,
            veth: link.veth,
        };
        underlay.check(config, state).map_err(|e| e.of(config))?;
        Ok(underlay)
    }

    /// Waits for duplicate address detection on the underlay interface, which takes a second or two after it
    /// came up, as at boot: until then its addresses cannot be used, and the one that is best may be among them.
    pub fn await_addresses(config: &Config, netlink: &mut Netlink) {
        let deadline = Instant::now() + TENTATIVE;
        let mut told = false;
        let mut tentative = || {
            let name = interface(config, netlink).ok()?;
            let link = netlink.link(&name).ok()?;
            let all = netlink.addresses(link.index).ok()?;
            let waiting = |a: &Address| a.global && a.tentative && !a.duplicate;
            Some(link.up && all.iter().any(waiting))
        };
        while Instant::now() < deadline && tentative() == Some(true) {
            if !std::mem::replace(&mut told, true) {
                tracing::info!(
                    "waiting for duplicate address detection of the underlay's addresses"
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that there is an address and that it is nobody else's, that every
    /// peer can be reached, and that pods get a usable MTU.
    pub fn check(&self, config: &Config, state: &State) -> Result<(), Unsuited> {
        self.check_own(config, state)?;
        for route in state.routes.values() {
            self.check_route(state, route)?;
        }
        for peer in state.peers.values() {
            self.check_peer(config, peer)?;
        }
        Ok(())
    }

    /// The same of what a plan changes; `state` is what it leads to.
    pub fn check_plan(&self, config: &Config, state: &State, plan: &Plan) -> Result<(), Unsuited> {
        self.check_own(config, state)?;
        for step in plan.steps() {
            match step {
                Step::SetRoute(route) => self.check_route(state, route)?,
                // A peer may have more than it will have, on the way.
                Step::SetPeer(peer) => {
                    if let Some(peer) = state.peers.get(&peer.name) {
                        self.check_peer(config, peer)?;
                    }
                }
                Step::SetNode(_) | Step::RemoveRoute(_) | Step::RemovePeer(_) => {}
            }
        }
        Ok(())
    }

    fn check_own(&self, config: &Config, state: &State) -> Result<(), Unsuited> {
        if self.addresses().is_empty() {
            let family = match config.underlay.family {
                Family::Match => "usable",
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6",
            };
            let value = self.interface.clone();
            return Err(Unsuited::interface(Problem::InterfaceNoAddress {
                value,
                family,
            }));
        }
        let inner = self.pod_mtu(config, state);
        let v6 = state.node.main_cidr(true).is_some();
        let min = if v6 { mtu::MIN_IPV6 } else { mtu::MIN_IPV4 };
        if inner < min {
            return Err(Unsuited::interface(Problem::MtuTooSmall {
                interface: self.interface.clone(),
                mtu: self.mtu,
                inner: inner.into(),
                family: family_name(v6),
                min: min.into(),
            }));
        }
        Ok(())
    }

    /// Pods are not where our own outer addresses are.
    fn check_route(&self, state: &State, route: &Route) -> Result<(), Unsuited> {
        // Those of the configuration are checked with it; these were found just now.
        let inside = |a: &IpAddr| route.prefix.contains(from_ip(*a));
        let Some(value) = self.addresses().into_iter().find(inside) else {
            return Ok(());
        };
        let owner = match &route.via {
            Via::Node => &state.node.name,
            Via::Peer(name) => name,
        };
        Err(Unsuited::interface(Problem::AddressInCidr {
            value,
            cidr: route.prefix.to_string(),
            owner: owner.to_string(),
        }))
    }

    fn check_peer(&self, config: &Config, peer: &Peer) -> Result<(), Unsuited> {
        let at = |field: String, problem| Unsuited {
            peer: Some(peer.name.clone()),
            field,
            problem: Box::new(problem),
        };
        let own = self.addresses();
        if let Some(j) = peer.addresses.iter().position(|a| own.contains(a)) {
            let (value, owner) = (peer.addresses[j], "this node".to_owned());
            let problem = Problem::DuplicateAddress { value, owner };
            return Err(at(format!("addresses[{j}]"), problem));
        }
        common_family(&own, &peer.addresses, config.underlay.family).map_err(|detail| {
            let peer = peer.name.to_string();
            at("addresses".into(), Problem::UnderlayFamily { peer, detail })
        })?;
        for pods_v6 in [false, true] {
            self.check_mtu(config, peer, pods_v6)
                .map_err(|problem| at("mtu".into(), problem))?;
        }
        Ok(())
    }

    /// Checks that a path's own MTU leaves enough for the peer's pods.
    fn check_mtu(&self, config: &Config, peer: &Peer, pods_v6: bool) -> Result<(), Problem> {
        let Some(path) = peer.path(pods_v6) else {
            return Ok(());
        };
        let (Some(value), Some(way)) = (path.mtu, self.way_to(&peer.addresses, pods_v6)) else {
            return Ok(());
        };
        let min = if pods_v6 {
            mtu::MIN_IPV6
        } else {
            mtu::MIN_IPV4
        };
        let outer_v6 = way.dst.is_ipv6();
        let inner = Self::inner_mtu(config, value, path.encap, outer_v6);
        if inner < min {
            return Err(Problem::PeerMtu {
                value,
                peer: peer.name.to_string(),
                inner,
                family: family_name(pods_v6),
                min,
                least: min + mtu::overhead(config.encap(path.encap), outer_v6),
            });
        }
        Ok(())
    }

    /// Outer addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.v4.into_iter().chain(self.v6).collect()
    }

    /// Every global address of the interface, of the families in use.
    pub(super) fn present(&self) -> Vec<IpAddr> {
        let all = self.choices.iter().flat_map(|choice| {
            let others = choice.passed_over.iter().map(|other| other.address);
            std::iter::once(choice.address).chain(others)
        });
        all.collect()
    }

    fn address(&self, v6: bool) -> Option<IpAddr> {
        if v6 { self.v6 } else { self.v4 }
    }

    /// The outer addresses that carry pods of a family to a peer with these: the pods' own
    /// family where both nodes have it, else the other.
    pub fn way_to(&self, addresses: &[IpAddr], pods_v6: bool) -> Option<Endpoints> {
        [pods_v6, !pods_v6].into_iter().find_map(|v6| {
            let src = self.address(v6)?;
            let dst = *addresses.iter().find(|a| a.is_ipv6() == v6)?;
            Some(Endpoints { src, dst })
        })
    }

    /// What an encapsulation leaves of an outer MTU: bytes of the largest inner
    /// IP packet.
    pub fn inner_mtu(config: &Config, outer_mtu: u32, encap: EncapKind, outer_v6: bool) -> u16 {
        // A UDP datagram cannot be longer than 65,535 whatever the interface takes (lo: 65,536).
        let outer = u16::try_from(outer_mtu).unwrap_or(u16::MAX);
        outer.saturating_sub(mtu::overhead(config.encap(encap), outer_v6))
    }

    /// MTU of pods and of the node port: the least of all ways there are, and
    /// of those a peer added later would have by the defaults.
    pub fn pod_mtu(&self, config: &Config, state: &State) -> u16 {
        // Of a node whose networks are not known yet: what they will have at least.
        let unknown = state.node.cidrs.is_empty();
        let families = [false, true].into_iter();
        let families = families.filter(|v6| unknown || state.node.main_cidr(*v6).is_some());
        let defaults = families.filter_map(|pods_v6| {
            let v6 = if self.address(pods_v6).is_some() {
                pods_v6
            } else {
                !pods_v6
            };
            self.address(v6)?;
            Some(Self::inner_mtu(config, self.mtu, config.underlay.encap, v6))
        });
        let ways = state.peers.values().flat_map(|peer| {
            [false, true].into_iter().filter_map(|pods_v6| {
                let path = peer.path(pods_v6)?;
                let v6 = self.way_to(&peer.addresses, pods_v6)?.dst.is_ipv6();
                Some(Self::inner_mtu(config, self.mtu, path.encap, v6))
            })
        });
        defaults.chain(ways).min().unwrap_or(0)
    }
}

/// Why the underlay does not suit what is wanted.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Unsuited {
    /// Whose, if it is a peer's.
    peer: Option<Arc<str>>,
    /// What of it, or the configuration's key.
    field: String,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl Unsuited {
    fn interface(problem: Problem) -> Self {
        Self {
            peer: None,
            field: "underlay.interface".into(),
            problem: problem.into(),
        }
    }

    /// With the key of the configuration that says so, or the peer's name where another source does.
    pub fn of(self, config: &Config) -> ConfigError {
        let key = match &self.peer {
            None => self.field,
            Some(name) => match config.peers.iter().position(|peer| *peer.name == **name) {
                Some(i) => format!("peers[{i}].{}", self.field),
                None => format!("peers.{name}.{}", self.field),
            },
        };
        ConfigError::at(&config.file, &key, *self.problem)
    }
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "none".into();
    }
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(extra: &str) -> Config {
        let text = format!(
            r#"
[node]
name = "a"
pod_cidrs = ["10.77.1.0/24", "fd77:1::/64"]
[underlay]
interface = "eth0"
{extra}
[[peers]]
name = "b"
addresses = ["192.168.77.2", "fd00:77::2"]
pod_cidrs = ["10.77.2.0/24", "fd77:2::/64"]
[[peers]]
name = "c"
addresses = ["192.168.77.3"]
pod_cidrs = ["10.77.3.0/24", "fd77:3::/64"]
"#
        );
        Config::parse(Path::new("t"), &text).unwrap()
    }

    fn underlay(v4: bool, v6: bool) -> Underlay {
        Underlay {
            interface: "eth0".into(),
            mtu: 1500,
            v4: v4.then(|| "192.168.77.1".parse().unwrap()),
            v6: v6.then(|| "fd00:77::1".parse().unwrap()),
            choices: Vec::new(),
            veth: false,
        }
    }

    fn check(underlay: &Underlay, config: &Config) -> Result<(), ConfigError> {
        let checked = underlay.check(config, config.cluster().unwrap().0.state());
        checked.map_err(|e| e.of(config))
    }

    fn pod_mtu(underlay: &Underlay, config: &Config) -> u16 {
        underlay.pod_mtu(config, config.cluster().unwrap().0.state())
    }

    #[test]
    fn pods_ride_their_own_family_where_both_have_it() {
        let c = config("");
        let u = underlay(true, true);
        let dst = |peer: usize, v6| {
            let way = u.way_to(&c.peers[peer].addresses, v6);
            way.map(|w| w.dst.to_string())
        };
        assert_eq!(dst(0, false).unwrap(), "192.168.77.2");
        assert_eq!(dst(0, true).unwrap(), "fd00:77::2");
        // c has no IPv6 underlay: its IPv6 pods ride IPv4.
        assert_eq!(dst(1, true).unwrap(), "192.168.77.3");
        // We have no IPv4 underlay: c cannot be reached, b over IPv6.
        let u = underlay(false, true);
        assert_eq!(u.way_to(&c.peers[1].addresses, false), None);
        assert!(
            u.way_to(&c.peers[0].addresses, false)
                .unwrap()
                .src
                .is_ipv6()
        );
        let error = check(&u, &c).unwrap_err();
        assert_eq!(error.key, "peers[1].addresses");
        assert!(error.problem.to_string().contains('c'), "{error}");
    }

    #[test]
    fn the_pod_mtu_is_the_least_of_all_ways() {
        assert_eq!(pod_mtu(&underlay(true, true), &config("")), 1430);
        assert_eq!(pod_mtu(&underlay(true, false), &config("")), 1450);
        let udp = config("encap = \"udp\"");
        assert_eq!(pod_mtu(&underlay(true, false), &udp), 1472);
        assert_eq!(pod_mtu(&underlay(true, true), &udp), 1452);
    }

    #[test]
    fn a_small_mtu_is_refused_with_the_numbers() {
        let mut u = underlay(true, false);
        u.mtu = 1329;
        let error = check(&u, &config("")).unwrap_err();
        assert_eq!(
            *error.problem,
            Problem::MtuTooSmall {
                interface: "eth0".into(),
                mtu: 1329,
                inner: 1279,
                family: "IPv6",
                min: 1280
            }
        );
        u.mtu = 1330;
        check(&u, &config("")).unwrap();
        // A loopback underlay has 65,536, which no datagram can fill.
        u.mtu = 65_536;
        assert_eq!(pod_mtu(&u, &config("")), 65_485);
    }

    #[test]
    fn a_peers_mtu_must_leave_enough_for_its_pods() {
        let config = |mtu: u32| {
            let mut config = config("");
            config.peers[1].mtu = Some(mtu);
            config
        };
        // c has an IPv4 address only; its IPv6 pods need 1,280 bytes behind 50 of headers.
        let error = check(&underlay(true, true), &config(1329)).unwrap_err();
        assert_eq!(error.key, "peers[1].mtu");
        let problem = *error.problem;
        let expected = Problem::PeerMtu {
            value: 1329,
            peer: "c".into(),
            inner: 1279,
            family: "IPv6",
            min: 1280,
            least: 1330,
        };
        assert_eq!(problem, expected);
        assert!(problem.remedy().contains("1330"), "{}", problem.remedy());
        check(&underlay(true, true), &config(1330)).unwrap();
        // What pods get is the interface's business: others' packets need not be smaller.
        assert_eq!(pod_mtu(&underlay(true, true), &config(1330)), 1430);
    }

    #[test]
    fn an_unusable_interface_is_refused_and_named() {
        use ringway_kernel::netlink::LinkChange;
        use ringway_ports::tap::{self, TapOptions};

        ringway_kernel::testing::in_netns(|| {
            let mut nl = Netlink::open().unwrap();
            let c = config("");
            let refused = |nl: &mut Netlink, c: &Config, words: &[&str]| {
                let text = Underlay::examine(c, c.cluster().unwrap().0.state(), nl)
                    .unwrap_err()
                    .to_string();
                for word in words.iter().chain(&["to do:"]) {
                    assert!(text.contains(word), "{word:?} is not in {text}");
                }
            };
            refused(&mut nl, &c, &["underlay.interface", "eth0", "lo"]);
            let _eth0 = tap::create_persistent("eth0", &TapOptions::default()).unwrap();
            let index = nl.link("eth0").unwrap().index;
            refused(&mut nl, &c, &["underlay.interface", "eth0", "set eth0 up"]);
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            nl.change_link(index, &up).unwrap();
            // It has a link-local address, which leads to no other node.
            refused(&mut nl, &c, &["underlay.interface", "eth0", "an address"]);
            let mut add = |ip: &str, len| {
                let ip = ip.parse().unwrap();
                nl.add_address(index, ip, len).unwrap();
                let c = config("");
                let outcome = Underlay::examine(&c, c.cluster().unwrap().0.state(), &mut nl);
                nl.remove_address(index, ip, len).unwrap();
                outcome.map_err(|e| e.to_string())
            };
            assert!(add("192.168.77.1", 24).is_ok());
            let own_pods = add("10.77.1.9", 32).unwrap_err();
            assert!(own_pods.contains("10.77.1.0/24 of a"), "{own_pods}");
            let their_pods = add("10.77.3.9", 32).unwrap_err();
            assert!(their_pods.contains("10.77.3.0/24 of c"), "{their_pods}");
            let a_peers = add("192.168.77.2", 32).unwrap_err();
            assert!(a_peers.contains("peers[0].addresses[0]"), "{a_peers}");
            let wanted = config("addresses = [\"192.168.77.7\"]");
            nl.add_address(index, "192.168.77.1".parse().unwrap(), 24)
                .unwrap();
            let words = ["underlay.addresses[0]", "192.168.77.7", "192.168.77.1"];
            refused(&mut nl, &wanted, &words);
        });
    }
}
