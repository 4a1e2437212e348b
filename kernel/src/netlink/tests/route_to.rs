//! Routes, neighbours and what a link says of itself, on a wire to another node.

use std::time::{Duration, Instant};

use super::*;

/// Waits for the entry to come into one of these states.
fn wait_for(w: &mut Wire, address: &str, states: &[NeighbourState]) -> Neighbour {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let entry = w.netlink.neighbour(w.here.index, ip(address)).unwrap();
        match entry {
            Some(entry) if states.contains(&entry.state) => return entry,
            _ if Instant::now() > end => panic!("{address}: {entry:?}"),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

const GOOD: [NeighbourState; 3] = [
    NeighbourState::Reachable,
    NeighbourState::Stale,
    NeighbourState::Delay,
];

#[test]
fn a_probe_resolves_and_leaves_an_ordinary_entry() {
    in_netns(|| {
        let mut w = Wire::new();
        let index = w.here.index;
        for address in ["192.0.2.2", "2001:db8::2"] {
            assert_eq!(w.netlink.neighbour(index, ip(address)).unwrap(), None);
            w.netlink.probe_neighbour(index, ip(address)).unwrap();
            let entry = wait_for(&mut w, address, &GOOD);
            assert_eq!((entry.ip, entry.mac), (ip(address), w.there.mac));
            // Neither permanent nor managed: a probe of what is known changes nothing.
            w.netlink.probe_neighbour(index, ip(address)).unwrap();
            wait_for(&mut w, address, &GOOD);
        }
        for address in ["192.0.2.99", "2001:db8::99"] {
            w.netlink.probe_neighbour(index, ip(address)).unwrap();
            let entry = wait_for(&mut w, address, &[NeighbourState::Failed]);
            assert_eq!(entry.mac, None);
        }
        let all = w.netlink.neighbours(index).unwrap();
        let find = |address| all.iter().find(|n| n.ip == ip(address)).unwrap();
        assert_eq!(find("192.0.2.2").mac, w.there.mac);
        assert_eq!(find("2001:db8::2").mac, w.there.mac);
        w.netlink.remove_neighbour(index, ip("192.0.2.2")).unwrap();
        w.netlink.remove_neighbour(index, ip("192.0.2.77")).unwrap();
        assert_eq!(w.netlink.neighbours(9999).unwrap(), []);
        assert_eq!(w.netlink.neighbour(9999, ip("192.0.2.2")).unwrap(), None);
    });
}

#[test]
fn the_way_of_a_packet_is_the_kernels() {
    in_netns(|| {
        let mut w = Wire::new();
        let index = w.here.index;
        let nl = &mut w.netlink;
        let link = |gateway: Option<&str>, source, mtu| RouteTo::Link {
            interface: index,
            gateway: gateway.map(ip),
            source: Some(ip(source)),
            mtu,
        };
        let to =
            |nl: &mut Netlink, dst, src: Option<&str>| nl.route_to(ip(dst), src.map(ip)).unwrap();
        assert_eq!(to(nl, "192.0.2.2", None), link(None, "192.0.2.1", None));
        assert_eq!(to(nl, "2001:db8::2", None), link(None, "2001:db8::1", None));
        let none = RouteTo::Nowhere(Unroutable::NoRoute);
        assert_eq!(to(nl, "198.51.100.2", None), none);
        assert_eq!(to(nl, "2001:db8:2::2", None), none);
        for (destination, prefix_len, gateway) in [
            ("198.51.100.0", 24, "192.0.2.254"),
            ("2001:db8:2::", 48, "fe80::1"),
        ] {
            let route = Route {
                protocol: crate::netlink::STATIC,
                destination: ip(destination),
                prefix_len,
                gateway: Some(ip(gateway)),
                onlink: false,
                source: None,
                interface: index,
            };
            nl.set_route(&route).unwrap();
        }
        let behind = link(Some("192.0.2.254"), "192.0.2.1", None);
        assert_eq!(to(nl, "198.51.100.2", None), behind);
        assert!(matches!(
            to(nl, "198.51.100.2", Some("192.0.2.1")),
            RouteTo::Link { gateway, .. } if gateway == Some(ip("192.0.2.254"))
        ));
        let behind = link(Some("fe80::1"), "2001:db8::1", None);
        assert_eq!(to(nl, "2001:db8:2::2", None), behind);
        let nowhere = RouteTo::Nowhere;
        // The kernel makes the local route of a new IPv6 address a moment later, from a work queue.
        let end = Instant::now() + Duration::from_secs(5);
        while to(nl, "2001:db8::1", None) != nowhere(Unroutable::Local) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        for own in ["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"] {
            assert_eq!(to(nl, own, None), nowhere(Unroutable::Local), "{own}");
        }
        assert_eq!(to(nl, "192.0.2.255", None), nowhere(Unroutable::NotUnicast));
        let stolen = to(nl, "192.0.2.2", Some("192.0.2.77"));
        assert!(matches!(stolen, RouteTo::Nowhere(_)), "{stolen:?}");
    });
}

#[test]
fn a_refusing_route_says_how() {
    in_netns(|| {
        let mut w = Wire::new();
        for (kind, why) in [
            ("unreachable", Unroutable::Unreachable),
            ("prohibit", Unroutable::Prohibited),
            ("blackhole", Unroutable::Blackhole),
            ("throw", Unroutable::NoRoute),
        ] {
            for (net, dst) in [
                ("198.51.100.0/24", "198.51.100.2"),
                ("2001:db8:2::/48", "2001:db8:2::2"),
            ] {
                w.netlink.set_refusing_route(kind, net);
                let found = w.netlink.route_to(ip(dst), None).unwrap();
                assert_eq!(found, RouteTo::Nowhere(why), "{kind} {net}");
            }
        }
    });
}

#[test]
fn a_link_says_its_carrier_its_queues_and_its_driver() {
    in_netns(|| {
        use ringway_ports::ethtool;
        let mut w = Wire::new();
        let here = w.netlink.link("under0").unwrap();
        assert!(here.veth && here.usable());
        assert_eq!(here.oper_state, Some(OperState::Up));
        assert_eq!(here.xdp_program, None);
        assert!(here.rx_queues >= Some(1) && here.tx_queues >= Some(1));
        let channels = ethtool::channels("under0").unwrap().unwrap();
        assert_eq!((channels.rx_queues(), channels.tx_queues()), (1, 1));
        assert!(channels.max_rx.max(channels.max_combined) >= 1);
        assert_eq!(ethtool::driver("under0").unwrap().as_deref(), Some("veth"));
        set_up(&mut w.node_netlink, w.there.index, false);
        let here = w.netlink.link("under0").unwrap();
        assert!(here.up && !here.carrier && !here.usable());
        assert_ne!(here.oper_state, Some(OperState::Up));
    });
}

#[test]
fn the_xdp_features_of_a_veth() {
    in_netns(|| {
        let w = Wire::new();
        let Some(features) = XdpFeatures::of(w.here.index).unwrap() else {
            println!("SKIPPED: no netdev family in this kernel's generic netlink (before 6.3)");
            return;
        };
        assert!(features.basic() && features.redirect() && features.rx_sg());
        assert!(!features.zero_copy() && !features.tx_checksum());
        assert_eq!(features.zero_copy_segments, None);
        let gone = XdpFeatures::of(9999).unwrap_err();
        assert_eq!(gone.errno(), Some(libc::ENODEV));
        assert!(gone.to_string().contains("9999"), "{gone}");
    });
}
