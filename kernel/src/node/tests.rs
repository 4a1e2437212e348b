use crate::testing::{in_netns, ip};
use crate::{mac, sysctl};

use super::*;
use crate::before::Before;
use crate::netlink::LinkChange;
use crate::reconcile::Ledger;

fn spec(peers: &[&str], own: &[&str]) -> Spec {
    let network = |cidr: &&str| {
        let cidr: Cidr = cidr.parse().unwrap();
        let gateway = Some(gateway_of(&cidr.network()));
        Network { cidr, gateway }
    };
    Spec {
        name: "ringway0".into(),
        alias: "ringway test".into(),
        underlay: "under0".into(),
        mtu: 1430,
        own: own.iter().map(network).collect(),
        peers: peers.iter().map(|cidr| cidr.parse().unwrap()).collect(),
    }
}

fn setup(spec: &Spec, queues: usize) -> Result<Queues, NodeError> {
    let (mut before, mut ledger) = (Before::default(), Ledger::default());
    let opened = NodePort::open(spec.clone(), queues, &mut before, &mut ledger);
    opened.map(|(_, queues)| queues)
}

const BOTH: &[&str] = &["10.77.1.0/24", "fd77:1::/64"];
const PEER: &[&str] = &["10.77.2.0/24", "fd77:2::/64"];

/// With an underlay interface, whose settings are looked at.
fn underlay() -> tap::Opened {
    tap::create_persistent("under0", &TapOptions::default()).unwrap()
}

fn found(netlink: &mut Netlink) -> (Vec<String>, Vec<String>) {
    let index = netlink.link("ringway0").unwrap().index;
    let addresses = netlink.addresses(index).unwrap();
    let mut addresses: Vec<String> = addresses
        .iter()
        .map(|a| format!("{}/{}", a.ip, a.prefix_len))
        .collect();
    addresses.sort();
    let routes = netlink.routes(index).unwrap();
    let via = routes.iter().filter_map(|r| {
        let (gateway, source) = (r.gateway?, r.source?);
        Some(format!(
            "{}/{} via {gateway} src {source}",
            r.destination, r.prefix_len
        ))
    });
    let mut via: Vec<String> = via.collect();
    via.sort();
    (addresses, via)
}

#[test]
fn it_holds_the_gateways_and_leads_to_the_peers() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let spec = spec(PEER, BOTH);
        let queues = setup(&spec, 1).unwrap();
        let link = nl.link("ringway0").unwrap();
        assert_eq!(link.mac, Some(mac::GATEWAY));
        assert_eq!((link.mtu, link.up), (1430, true));
        let expected = (
            vec![
                "10.77.1.0/32".to_owned(),
                "10.77.1.1/24".to_owned(),
                "fd77:1::1/64".to_owned(),
            ],
            vec![
                "10.77.2.0/24 via 169.254.82.87 src 10.77.1.1".to_owned(),
                "fd77:2::/64 via fe80::52:57ff:fe00:1 src fd77:1::1".to_owned(),
            ],
        );
        assert_eq!(found(&mut nl), expected);
        // Again, as after a restart: the same interface, the same state.
        drop(queues);
        setup(&spec, 1).unwrap();
        assert_eq!(nl.link("ringway0").unwrap().index, link.index);
        assert_eq!(found(&mut nl), expected);
    });
}

#[test]
fn what_an_earlier_configuration_left_is_taken_away() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        drop(setup(&spec(PEER, BOTH), 1).unwrap());
        let next = Spec {
            mtu: 1400,
            ..spec(&["10.77.3.0/24"], &["10.77.1.0/25"])
        };
        setup(&next, 1).unwrap();
        let (addresses, via) = found(&mut nl);
        assert_eq!(addresses, ["10.77.1.0/32", "10.77.1.1/25"]);
        assert_eq!(via, ["10.77.3.0/24 via 169.254.82.87 src 10.77.1.1"]);
        assert_eq!(nl.link("ringway0").unwrap().mtu, 1400);
    });
}

#[test]
fn settings_hold_whatever_all_says() {
    in_netns(|| {
        let _under = underlay();
        // The strictest surroundings.
        sysctl::set("ipv4/conf/all/rp_filter", "1").unwrap();
        sysctl::set("ipv4/conf/all/send_redirects", "1").unwrap();
        sysctl::set("ipv6/conf/under0/accept_ra", "1").unwrap();
        setup(&spec(PEER, BOTH), 1).unwrap();
        let get = |key: &str| sysctl::get(key).unwrap();
        assert_eq!(get("ipv4/ip_forward"), "1");
        assert_eq!(get("ipv6/conf/all/forwarding"), "1");
        // Kept; the larger counts, which is ringway0's.
        assert_eq!(get("ipv4/conf/all/rp_filter"), "1");
        assert_eq!(get("ipv4/conf/ringway0/rp_filter"), "2");
        // Either counts, so both are off.
        assert_eq!(get("ipv4/conf/all/send_redirects"), "0");
        assert_eq!(get("ipv4/conf/ringway0/send_redirects"), "0");
        assert_eq!(get("ipv4/conf/ringway0/accept_local"), "1");
        assert_eq!(get("ipv6/conf/ringway0/accept_ra"), "0");
        // Forwarding would have ended router advertisements there.
        assert_eq!(get("ipv6/conf/under0/accept_ra"), "2");
    });
}

#[test]
fn the_number_of_workers_may_change_in_both_directions() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let spec = spec(PEER, BOTH);
        let lanes = |queues: &Queues| queues.lanes.as_ref().map(|lanes| lanes.fds.len());
        for workers in [1, 2, 1] {
            let queues = setup(&spec, workers).unwrap();
            assert_eq!((queues.fds.len(), lanes(&queues)), (workers, Some(workers)));
            // Nobody else gets one.
            let busy = setup(&spec, workers).unwrap_err();
            assert!(matches!(busy, NodeError::Busy { .. }), "{busy}");
        }
        // Made before there were lanes, for one worker: two share its queue.
        nl.delete_link("ringway0").unwrap();
        drop(tap::create_persistent("ringway0", &TapOptions::default()).unwrap());
        let queues = setup(&spec, 2).unwrap();
        assert_eq!((queues.fds.len(), lanes(&queues)), (1, None));
    });
}

#[test]
fn a_foreign_interface_is_not_touched() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        // The only other kind of link a namespace has by itself.
        let lo = nl.link("lo").unwrap().index;
        let rename = LinkChange {
            up: Some(false),
            ..LinkChange::default()
        };
        nl.change_link(lo, &rename).unwrap();
        let rename = LinkChange {
            name: Some("ringway0"),
            ..LinkChange::default()
        };
        nl.change_link(lo, &rename).unwrap();
        let refused = setup(&spec(PEER, BOTH), 1).unwrap_err();
        assert!(matches!(refused, NodeError::NotTap { .. }), "{refused}");
        assert!(refused.to_string().contains("node.interface"));
    });
}

#[test]
fn a_second_agent_is_noticed() {
    in_netns(|| {
        let _under = underlay();
        let _held = setup(&spec(PEER, BOTH), 1).unwrap();
        let refused = setup(&spec(PEER, BOTH), 1).unwrap_err();
        assert!(matches!(refused, NodeError::Busy { .. }), "{refused}");
    });
}

/// The switch sends errors from the gateway's address, which is the node's own: the node must believe
/// them, or its own large packets vanish on a path narrower than the interface.
#[test]
fn errors_of_the_switch_are_believed() {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use nix::sys::socket::{getsockopt, sockopt};
    use ringway_packet::{ethertype, icmpv4};

    in_netns(|| {
        let _under = underlay();
        let queues = setup(&spec(PEER, BOTH), 1).unwrap();
        let socket = UdpSocket::bind("10.77.1.1:0").unwrap();
        socket.connect("10.77.2.2:9").unwrap();
        let mtu = || getsockopt(&socket, sockopt::IpMtu).unwrap();
        assert_eq!(mtu(), 1430);
        socket.send(&[7; 1300]).unwrap();
        // The datagram as the switch reads it, and the error it answers with.
        let fd = &queues.fds[0];
        let mut bytes = [0; 2048];
        let deadline = Instant::now() + Duration::from_secs(2);
        let sent = loop {
            assert!(Instant::now() < deadline, "the datagram did not come");
            match nix::unistd::read(fd, &mut bytes) {
                Ok(n) if n > 1300 => break &bytes[tap_header() + 14..n],
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let mut error = [0; 640];
        let front = tap_header() + 14;
        error[tap_header()..front].copy_from_slice(
            &[
                &mac::GATEWAY.0[..],
                &mac::GATEWAY.0,
                &ethertype::IPV4.to_be_bytes(),
            ]
            .concat(),
        );
        let kind = icmpv4::Error::FragmentationNeeded(1200);
        let (gateway, node) = (0x0a4d_0101, 0x0a4d_0101);
        let len = icmpv4::write_error(&mut error[front..], kind, gateway, node, sent).unwrap();
        nix::unistd::write(fd, &error[..front + len]).unwrap();
        while mtu() != 1200 {
            assert!(Instant::now() < deadline, "the MTU is still {}", mtu());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

fn tap_header() -> usize {
    ringway_packet::offload::VNET_HDR_LEN
}

#[test]
fn a_port_under_another_name_makes_way() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let first = spec(PEER, BOTH);
        let held = setup(&first, 1).unwrap();
        let second = Spec {
            name: "pods0".into(),
            ..first.clone()
        };
        // One that a living agent has open stays.
        drop(setup(&second, 1).unwrap());
        nl.link("ringway0").unwrap();
        drop(held);
        setup(&second, 1).unwrap();
        let gone = nl.link("ringway0");
        assert!(matches!(gone, Err(NetlinkError::NoLink { .. })), "{gone:?}");
        let index = nl.link("pods0").unwrap().index;
        let found = nl.addresses(index).unwrap();
        let gateways = found.iter().filter(|a| a.ip == gateway_of(&a.ip));
        assert_eq!(gateways.count(), 2, "{found:?}");
        let via = nl.routes(index).unwrap();
        assert_eq!(
            via.iter().filter(|r| r.gateway.is_some()).count(),
            2,
            "{via:?}"
        );
    });
}

fn gateway_of(like: &IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => "10.77.1.1".parse().unwrap(),
        IpAddr::V6(_) => "fd77:1::1".parse().unwrap(),
    }
}

#[test]
fn the_underlay_goes_on_hearing_router_advertisements() {
    const ACCEPT: &str = "ipv6/conf/under0/accept_ra";
    // Forwarding turned on by us, and by somebody before, who knew what he did.
    for (forwarding, at_first, mended) in [("0", "2", "2"), ("1", "1", "1")] {
        in_netns(move || {
            let _under = underlay();
            sysctl::set("ipv6/conf/all/forwarding", forwarding).unwrap();
            sysctl::set(ACCEPT, "1").unwrap();
            let (mut before, mut ledger) = (Before::default(), Ledger::default());
            let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
            let (mut port, _queues) = opened.unwrap();
            assert_eq!(sysctl::get(ACCEPT).unwrap(), at_first);
            assert_eq!(ledger.restored_count(), 0);
            sysctl::set(ACCEPT, "1").unwrap();
            port.look(&mut before, &mut ledger, std::time::Instant::now());
            assert_eq!(sysctl::get(ACCEPT).unwrap(), mended);
            assert_eq!(ledger.first_failure(), None);
            assert_eq!(ledger.restored_count(), u64::from(mended == "2"));
        });
    }
}

/// Messages that find no room in the socket's buffer are lost, and the kernel says so once: that is no change
/// missed.
#[test]
fn what_changed_while_notifications_were_lost_is_set_again() {
    use crate::netlink::{Change, Watch};
    use std::time::{Duration, Instant};

    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let peers: Vec<String> = (2..200).map(|n| format!("10.77.{n}.0/24")).collect();
        let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(&peers, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        // The least there is: a handful of messages.
        let watch = Watch::with_buffer(Some(1)).unwrap();
        let routes = nl.routes(port.index()).unwrap();
        let remote = routes.iter().filter(|r| r.gateway.is_some());
        let gone: Vec<_> = remote.copied().collect();
        assert_eq!(gone.len(), peers.len());
        for route in &gone {
            nl.remove_route(route).unwrap();
        }
        nl.remove_neighbour(port.index(), NEXT_HOP.into()).unwrap();
        let mut heard = Vec::new();
        while let Ok(change) = watch.changes().recv_timeout(Duration::from_millis(300)) {
            heard.push(change);
        }
        assert!(heard.contains(&Change::Overrun), "{heard:?}");
        // Nothing but that.
        port.notify(&[Change::Overrun]);
        port.look(&mut before, &mut ledger, Instant::now());
        let mut back = nl.routes(port.index()).unwrap();
        back.retain(|r| r.gateway.is_some());
        assert_eq!(back, gone);
        assert_eq!(ledger.restored_count(), gone.len() as u64 + 1);
        let hop = nl
            .neighbour(port.index(), NEXT_HOP.into())
            .unwrap()
            .unwrap();
        assert_eq!(hop.mac, Some(mac::GATEWAY));
    });
}

/// What somebody does to one thing counts for that thing only, though the kernel changes another with it.
#[test]
fn forwarding_of_all_that_is_turned_off_is_one_change() {
    use std::time::Instant;

    in_netns(|| {
        let _under = underlay();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        sysctl::set("ipv4/ip_forward", "0").unwrap();
        assert_eq!(sysctl::get("ipv4/conf/ringway0/forwarding").unwrap(), "0");
        port.look(&mut before, &mut ledger, Instant::now());
        assert_eq!(
            ledger.last_restored(),
            Some("setting ipv4/ip_forward is 1 again, was 0")
        );
        assert_eq!(ledger.restored_count(), 1);
        assert_eq!(sysctl::get("ipv4/conf/ringway0/forwarding").unwrap(), "1");
    });
}

#[test]
fn a_route_of_somebody_else_that_goes_before_ours_is_named() {
    use crate::netlink::Change;
    use std::time::{Duration, Instant};

    in_netns(|| {
        let _under = underlay();
        ip("link set under0 up");
        ip("link set lo up");
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        let mut now = Instant::now();
        let mut named = |told: Change| {
            port.notify(&[told]);
            now += Duration::from_secs(20);
            port.look(&mut before, &mut ledger, now);
            assert_eq!(ledger.restored_count(), 0);
            assert_eq!(ledger.conditions(now), [], "CNI's STATUS asks for these");
            port.overrides().collect::<Vec<_>>()
        };
        assert_eq!(named(Change::Routes), []);
        for (route, found) in [
            ("10.77.2.128/25 dev under0", "by under0, protocol number 3"),
            ("fd77:2::/80 dev under0", "by under0, protocol number 3"),
            (
                "10.77.1.7/32 dev under0 proto static metric 50",
                "by under0, protocol number 4 (static)",
            ),
            ("blackhole 10.77.2.7/32", "blackhole"),
            ("unreachable 10.77.2.8/32", "unreachable"),
            ("throw 10.77.2.9/32", "throw"),
            ("prohibit fd77:2::9/128 dev lo metric 7", "prohibit"),
            // The same network, and before ours.
            ("fd77:2::/64 dev under0 metric 512", "by under0"),
            ("blackhole fd77:2::/64 metric 512", "blackhole"),
            ("10.77.2.0/24 dev under0 tos 0x10", "by under0"),
        ] {
            ip(&format!("route add {route}"));
            let all = named(Change::Routes);
            let [one] = all.as_slice() else {
                panic!("{route}: {all:?}");
            };
            let cidr = route.split(' ').find(|word| word.contains('/')).unwrap();
            assert_eq!(one.what, format!("route {cidr}"));
            assert!(one.found.starts_with(found), "{one}");
            assert_eq!(one.wanted, "by ringway0");
            // What is said removes it.
            let (_, command) = one.why.split_once("`ip ").unwrap();
            ip(command.split('`').next().unwrap());
            assert_eq!(named(Change::Routes), [], "{route}");
        }
        // Of two equals the kernel takes the first.
        ip("route prepend 10.77.2.0/24 dev under0");
        assert_eq!(named(Change::Routes).len(), 1);
        ip("route del 10.77.2.0/24 dev under0");
        // An address of another interface in a pod network brings its route along.
        ip("addr add 10.77.1.77/25 dev under0");
        let all = named(Change::Addresses);
        assert!(
            all[0].found.contains("the kernel") && all.len() == 1,
            "{all:?}"
        );
        ip("addr del 10.77.1.77/25 dev under0");
        assert_eq!(named(Change::Addresses), []);
        // One without others beside it is the node's own, and local before anything: a bridge that was narrowed.
        ip("addr add fd77:1::77/128 dev under0 nodad");
        ip("addr add 10.77.1.77/32 dev under0");
        assert_eq!(named(Change::Addresses), []);
        ip("addr del fd77:1::77/128 dev under0");
        ip("addr del 10.77.1.77/32 dev under0");
        // What is wider, elsewhere, or behind ours takes nothing.
        for route in [
            "default dev under0",
            "10.77.0.0/16 dev under0",
            "10.78.0.0/24 dev under0",
            "blackhole fd77::/16",
            "10.77.2.0/24 dev under0 metric 50",
            "fd77:2::/64 dev under0 metric 2000",
        ] {
            ip(&format!("route add {route}"));
        }
        assert_eq!(named(Change::Routes), []);
        // Many are counted.
        for n in 2..42 {
            ip(&format!("route add blackhole 10.77.2.{n}/32"));
        }
        let all = named(Change::Routes);
        assert_eq!(all.len(), 17);
        assert_eq!(all[16].what, "24 more routes");
    });
}

#[test]
fn routes_that_change_one_by_one_are_those_of_a_whole_spec() {
    use std::time::Instant;

    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let many: Vec<String> = (0..20_000u32)
            .map(|n| format!("{}/32", Ipv4Addr::from_bits(0x0a80_0000 + 2 * n)))
            .collect();
        let mut peers: Vec<&str> = many.iter().map(String::as_str).collect();
        peers.extend(PEER);
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(&peers, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        let (_, first) = found(&mut nl);
        let cidrs =
            |all: &[&str]| -> Vec<Cidr> { all.iter().map(|c| c.parse().unwrap()).collect() };
        let added = ["10.77.2.128/25", "fd77:3::/64", "10.77.2.0/24"];
        let removed = ["fd77:2::/64", "10.77.9.0/24", "10.77.1.0/24"];
        let begin = Instant::now();
        port.change_routes(&cidrs(&added), &cidrs(&removed), &mut before, &mut ledger);
        let took = begin.elapsed();
        println!("five prefixes among 20,000: {took:?}");
        let (_, second) = found(&mut nl);
        let is_in =
            |all: &[String], prefix: &str| all.iter().any(|r| r.starts_with(&format!("{prefix} ")));
        assert!(is_in(&second, "10.77.2.128/25") && is_in(&second, "fd77:3::/64"));
        assert!(is_in(&second, "10.77.2.0/24") && !is_in(&second, "fd77:2::/64"));
        // One of our own is no peer's: it stays.
        let index = port.index();
        let own = nl.routes(index).unwrap();
        assert!(
            own.iter()
                .any(|r| r.destination.to_string() == "10.77.1.0" && r.prefix_len == 24)
        );
        assert_eq!(second.len(), first.len() + 1);
        // The same as a whole: nothing to do.
        let mut all: Vec<&str> = peers
            .iter()
            .copied()
            .filter(|p| !removed.contains(p))
            .collect();
        all.extend(added);
        let whole = spec(&all, BOTH);
        assert_eq!(*port.spec(), whole);
        port.want(whole, &mut before, &mut ledger);
        port.notify(&[crate::netlink::Change::Overrun]);
        port.look(&mut before, &mut ledger, Instant::now());
        assert_eq!(found(&mut nl).1, second);
        assert_eq!(ledger.restored_count(), 0);
        // And back.
        port.change_routes(
            &cidrs(&["fd77:2::/64"]),
            &cidrs(&added[..2]),
            &mut before,
            &mut ledger,
        );
        assert_eq!(found(&mut nl).1, first);
        // It takes milliseconds less; a machine that does other things is allowed its time.
        assert!(took.as_millis() < 100, "{took:?}");
    });
}

/// A network of a peer that becomes another's, or is cut into smaller ones, is never without a route.
#[test]
fn another_spec_is_set_in_place_and_more_specific_first() {
    use crate::netlink::STATIC;

    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        let mut marks: Vec<u8> = nl
            .routes(port.index())
            .unwrap()
            .iter()
            .map(|r| r.protocol)
            .collect();
        marks.sort();
        marks.dedup();
        // Ours, and the kernel's to the own pods.
        assert_eq!(marks, [2, crate::reconcile::OWNER]);
        // Somebody else's on our interface stays.
        let foreign = crate::netlink::Route {
            protocol: STATIC,
            destination: "198.51.100.0".parse().unwrap(),
            prefix_len: 24,
            gateway: None,
            onlink: false,
            source: None,
            interface: port.index(),
        };
        nl.set_route(&foreign).unwrap();
        let next = spec(
            &[
                "10.77.2.0/25",
                "10.77.2.128/25",
                "fd77:2::/64",
                "fd77:3::/64",
            ],
            BOTH,
        );
        port.want(next, &mut before, &mut ledger);
        let (_, via) = found(&mut nl);
        assert_eq!(
            via,
            [
                "10.77.2.0/25 via 169.254.82.87 src 10.77.1.1",
                "10.77.2.128/25 via 169.254.82.87 src 10.77.1.1",
                "fd77:2::/64 via fe80::52:57ff:fe00:1 src fd77:1::1",
                "fd77:3::/64 via fe80::52:57ff:fe00:1 src fd77:1::1",
            ]
        );
        assert!(nl.routes(port.index()).unwrap().contains(&foreign));
        // Another network of this node's, and another MTU.
        let next = Spec {
            mtu: 1400,
            ..spec(PEER, &["10.77.1.0/25", "fd77:1::/64"])
        };
        port.want(next, &mut before, &mut ledger);
        let (addresses, _) = found(&mut nl);
        assert_eq!(addresses, ["10.77.1.0/32", "10.77.1.1/25", "fd77:1::1/64"]);
        assert_eq!(nl.link("ringway0").unwrap().mtu, 1400);
        assert_eq!(ledger.first_failure(), None);
        assert_eq!(ledger.restored_count(), 0, "{:?}", ledger.last_restored());
    });
}

/// Somebody's interface stands in its place for a while.
#[test]
fn it_is_made_again_when_its_place_is_free() {
    use std::time::Instant;

    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
        let (mut port, queues) = opened.unwrap();
        drop(queues);
        nl.delete_link("ringway0").unwrap();
        let lo = nl.link("lo").unwrap().index;
        for (name, up) in [(None, false), (Some("ringway0"), false)] {
            let change = LinkChange {
                up: Some(up).filter(|_| name.is_none()),
                name,
                ..LinkChange::default()
            };
            nl.change_link(lo, &change).unwrap();
        }
        let now = Instant::now();
        assert_eq!(port.look(&mut before, &mut ledger, now), Presence::Gone);
        let refused = port.make_again(1, &mut before, &mut ledger).unwrap_err();
        assert!(matches!(refused, NodeError::NotTap { .. }), "{refused}");
        ledger.failed(&port.gone(), refused.to_string(), true, now);
        let back = LinkChange {
            name: Some("lo"),
            ..LinkChange::default()
        };
        nl.change_link(lo, &back).unwrap();
        let queues = port.make_again(1, &mut before, &mut ledger).unwrap();
        assert_eq!(queues.fds.len(), 1);
        assert_eq!(port.look(&mut before, &mut ledger, now), Presence::Present);
        assert_eq!(ledger.conditions(now), []);
        let (addresses, via) = found(&mut nl);
        assert_eq!((addresses.len(), via.len()), (3, 2));
        assert_eq!(ledger.restored_count(), 0);
    });
}

/// The kernel masquerades as the interface's first address, and peers take the gateway's only.
#[test]
fn the_gateway_is_the_first_address_also_when_it_comes_back() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let opened = NodePort::open(spec(PEER, BOTH), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        let mut in_order = |index| -> Vec<String> {
            let all = nl.addresses(index).unwrap();
            let v4 = all.iter().filter(|a| a.ip.is_ipv4());
            v4.map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect()
        };
        let expected = ["10.77.1.1/24", "10.77.1.0/32"];
        assert_eq!(in_order(port.index()), expected);
        let gateway = "10.77.1.1".parse().unwrap();
        let mut somebody = Netlink::open().unwrap();
        somebody.remove_address(port.index(), gateway, 24).unwrap();
        port.look(&mut before, &mut ledger, std::time::Instant::now());
        assert_eq!(in_order(port.index()), expected);
    });
}

/// Its place in the order is another then.
#[test]
fn an_address_stays_when_one_before_it_comes_and_goes() {
    in_netns(|| {
        let _under = underlay();
        let mut nl = Netlink::open().unwrap();
        let (mut before, mut ledger) = (Before::default(), Ledger::default());
        let one = spec(PEER, BOTH);
        let mut two = one.clone();
        two.own.push(Network {
            cidr: "10.78.1.0/24".parse().unwrap(),
            gateway: Some("10.78.1.1".parse().unwrap()),
        });
        let opened = NodePort::open(one.clone(), 1, &mut before, &mut ledger);
        let (mut port, _queues) = opened.unwrap();
        let mut has = |index, ip: &str| {
            let all = nl.addresses(index).unwrap();
            all.iter().any(|a| a.ip.to_string() == ip)
        };
        for (wanted, there) in [(&two, true), (&one, false)] {
            port.want(wanted.clone(), &mut before, &mut ledger);
            assert_eq!(has(port.index(), "10.78.1.1"), there);
            for ip in ["10.77.1.1", "10.77.1.0", "fd77:1::1"] {
                assert!(has(port.index(), ip), "{ip} is gone");
            }
        }
    });
}
