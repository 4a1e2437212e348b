use super::*;
use crate::netlink::Address;
use crate::testing::{Pod, in_netns};

fn addresses() -> Vec<PodAddress> {
    [
        ("10.77.1.2", 24, "10.77.1.1"),
        ("fd77:1::2", 64, "fd77:1::1"),
    ]
    .map(|(ip, prefix_len, gateway)| PodAddress {
        ip: ip.parse().unwrap(),
        prefix_len,
        gateway: gateway.parse().unwrap(),
    })
    .to_vec()
}

fn spec(addresses: &[PodAddress], queues: usize) -> Spec<'_> {
    Spec {
        ifname: "eth0",
        alias: "ringway test",
        mac: MacAddr([0x0a, 0x58, 10, 77, 1, 2]),
        mtu: 1450,
        addresses,
        routes: &[],
        workers: queues,
        queue: Queue::of(1450, None),
    }
}

fn names(netlink: &mut Netlink) -> Vec<String> {
    let links = netlink.links().unwrap();
    links.into_iter().map(|l| l.name).collect()
}

/// Deleting an interface is asynchronous to closing its last descriptor only in
/// the part that frees memory; the name goes at once.
#[test]
fn everything_is_as_asked() {
    in_netns(|| {
        let (pod, mut node) = (Pod::new(), Netlink::open().unwrap());
        let addresses = addresses();
        let making = create(&pod.netns(), &spec(&addresses, 1)).unwrap();
        assert_eq!(names(&mut node), ["lo"], "nothing stays in the node");
        let mut inside = pod.netlink();
        let link = inside.link("eth0").unwrap();
        let queue = Queue::of(1450, None);
        assert_eq!(link.mac, Some(MacAddr([0x0a, 0x58, 10, 77, 1, 2])));
        assert_eq!((link.mtu, link.up), (1450, true));
        assert_eq!(link.gso_max_size, Some(queue.gso.size));
        assert_eq!(link.gso_max_segs, Some(queue.gso.segments));
        assert_eq!(link.tx_queue_len, Some(1000));
        assert!(!inside.has_default_qdisc(link.index).unwrap());
        let found = inside.addresses(link.index).unwrap();
        for a in &addresses {
            let expected = Address {
                ip: a.ip,
                prefix_len: a.prefix_len,
                global: true,
                tentative: false,
                duplicate: false,
                deprecated: false,
                protocol: Some(crate::reconcile::OWNER),
                lifetime: crate::netlink::Lifetime::Permanent,
            };
            assert!(found.contains(&expected), "{found:?}");
        }
        let routes = inside.routes(link.index).unwrap();
        for a in &addresses {
            let default = |r: &&Route| r.prefix_len == 0 && r.gateway == Some(a.gateway);
            assert_eq!(routes.iter().filter(default).count(), 1, "{routes:?}");
            let on_link = |r: &&Route| {
                r.prefix_len == a.prefix_len && r.destination.is_ipv4() == a.ip.is_ipv4()
            };
            assert!(routes.iter().any(|r| on_link(&r)), "{routes:?}");
        }
        let settings = run_in(&pod.netns(), || {
            ["accept_ra", "accept_dad"]
                .map(|k| sysctl::get(&format!("ipv6/conf/eth0/{k}")).unwrap())
        });
        assert_eq!(settings.unwrap(), ["0", "0"]);
        // Usable at once: no address is tentative.
        let bound = run_in(&pod.netns(), || std::net::UdpSocket::bind("[fd77:1::2]:0"));
        bound.unwrap().unwrap();
        making.keep();
        assert!(names(&mut inside).contains(&"eth0".to_owned()));
    });
}

#[test]
fn a_name_that_is_taken_is_refused_and_left_alone() {
    in_netns(|| {
        let (pod, mut node) = (Pod::new(), Netlink::open().unwrap());
        let addresses = addresses();
        let first = create(&pod.netns(), &spec(&addresses, 1)).unwrap();
        let before = pod.netlink().link("eth0").unwrap();
        let refused = create(&pod.netns(), &spec(&addresses, 1)).unwrap_err();
        assert!(
            matches!(refused, InterfaceError::NameTaken { .. }),
            "{refused}"
        );
        assert!(refused.to_string().starts_with("TAP name taken"));
        assert_eq!(pod.netlink().link("eth0").unwrap(), before);
        assert_eq!(names(&mut node), ["lo"]);
        first.keep();
    });
}

/// Every step may fail; whatever was made before it is gone afterwards.
#[test]
fn a_failure_leaves_nothing_behind() {
    in_netns(|| {
        let (pod, mut node) = (Pod::new(), Netlink::open().unwrap());
        let good = addresses();
        // The MTU is refused in the pod, after the move.
        let mut bad_mtu = spec(&good, 1);
        bad_mtu.mtu = 10;
        create(&pod.netns(), &bad_mtu).unwrap_err();
        // A MAC address the kernel refuses.
        let mut bad_mac = spec(&good, 1);
        bad_mac.mac = MacAddr([1, 0, 0, 0, 0, 1]);
        create(&pod.netns(), &bad_mac).unwrap_err();
        // A gateway that is not on-link: the very last step.
        let mut off_link = addresses();
        off_link[1].gateway = "fd99::1".parse().unwrap();
        create(&pod.netns(), &spec(&off_link, 1)).unwrap_err();
        off_link[0].gateway = "192.0.2.1".parse().unwrap();
        create(&pod.netns(), &spec(&off_link, 2)).unwrap_err();
        assert_eq!(names(&mut pod.netlink()), ["lo"]);
        assert_eq!(names(&mut node), ["lo"]);
        // And the way is free.
        let making = create(&pod.netns(), &spec(&good, 1)).unwrap();
        assert!(names(&mut pod.netlink()).contains(&"eth0".to_owned()));
        drop(making);
        assert_eq!(names(&mut pod.netlink()), ["lo"]);
    });
}

/// An agent may be killed at any moment, also while it makes an interface.
#[test]
fn what_a_killed_agent_left_is_swept_away() {
    in_netns(|| {
        let pod = Pod::new();
        let addresses = addresses();
        for queues in [1, 2] {
            let making = create(&pod.netns(), &spec(&addresses, queues)).unwrap();
            assert!(exists(&pod.netns(), "eth0").unwrap());
            // As long as somebody has it, it is his.
            let refused = sweep(&pod.netns(), "eth0").unwrap_err();
            let busy = matches!(refused, InterfaceError::Tap(TapError::Busy { .. }));
            assert!(busy, "{refused}");
            making.keep();
            assert!(sweep(&pod.netns(), "eth0").unwrap());
            assert!(!sweep(&pod.netns(), "eth0").unwrap());
            assert!(!exists(&pod.netns(), "eth0").unwrap());
        }
        assert!(!sweep(&pod.netns(), "lo").unwrap());
        assert!(exists(&pod.netns(), "lo").unwrap());
    });
}

#[test]
fn routes_that_were_asked_for_are_there() {
    in_netns(|| {
        let pod = Pod::new();
        let addresses = addresses();
        let routes = [("10.96.0.0", 12, "10.77.1.1"), ("fd96::", 16, "fd77:1::1")].map(
            |(destination, prefix_len, gateway)| PodRoute {
                destination: destination.parse().unwrap(),
                prefix_len,
                gateway: gateway.parse().unwrap(),
            },
        );
        let mut spec = spec(&addresses, 1);
        spec.routes = &routes;
        create(&pod.netns(), &spec).unwrap().keep();
        let mut inside = pod.netlink();
        let index = inside.link("eth0").unwrap().index;
        let found = inside.routes(index).unwrap();
        for route in &routes {
            let same = |r: &&Route| {
                (r.destination, r.prefix_len, r.gateway)
                    == (route.destination, route.prefix_len, Some(route.gateway))
            };
            assert_eq!(found.iter().filter(same).count(), 1, "{found:?}");
        }
    });
}

#[test]
fn a_second_interface_leaves_the_first_ones_default_route() {
    in_netns(|| {
        let pod = Pod::new();
        let first = addresses();
        create(&pod.netns(), &spec(&first, 1)).unwrap().keep();
        let mut second = addresses();
        second[0].ip = "10.77.1.3".parse().unwrap();
        second[1].ip = "fd77:1::3".parse().unwrap();
        let mut other = spec(&second, 1);
        other.ifname = "net1";
        other.mac = MacAddr([0x0a, 0x58, 10, 77, 1, 3]);
        create(&pod.netns(), &other).unwrap().keep();
        let mut inside = pod.netlink();
        let mut defaults = |name: &str| {
            let index = inside.link(name).unwrap().index;
            let routes = inside.routes(index).unwrap();
            routes.iter().filter(|r| r.prefix_len == 0).count()
        };
        assert_eq!((defaults("eth0"), defaults("net1")), (2, 0));
    });
}

#[test]
fn closed_and_opened_again_it_is_the_same() {
    in_netns(|| {
        for queues in [1, 2] {
            let pod = Pod::new();
            let addresses = addresses();
            let making = create(&pod.netns(), &spec(&addresses, queues)).unwrap();
            let lanes = |queues: &Queues| queues.lanes.as_ref().map(|lanes| lanes.fds.len());
            let made = making.queues();
            assert_eq!((made.fds.len(), lanes(&made)), (queues, Some(queues)));
            let refused = reopen(&pod.netns(), "eth0", true, queues).unwrap_err();
            assert!(
                matches!(refused, InterfaceError::Tap(TapError::Busy { .. })),
                "{refused}"
            );
            making.keep();
            drop(made);
            let wrong = reopen(&pod.netns(), "eth0", false, 1).unwrap_err();
            assert!(
                matches!(wrong, InterfaceError::Tap(TapError::QueueMode { .. })),
                "{wrong}"
            );
            let again = reopen(&pod.netns(), "eth0", true, queues).unwrap();
            assert_eq!((again.fds.len(), lanes(&again)), (queues, Some(queues)));
            // 2 addresses and the link-local one.
            let index = pod.netlink().link("eth0").unwrap().index;
            assert_eq!(pod.netlink().addresses(index).unwrap().len(), 3);
            // Renamed meanwhile: it is removed all the same.
            let down = LinkChange {
                up: Some(false),
                name: Some("mine"),
                ..LinkChange::default()
            };
            pod.netlink().change_link(index, &down).unwrap();
            assert!(remove(&again));
            drop(again);
            assert_eq!(names(&mut pod.netlink()), ["lo"]);
        }
    });
}

#[test]
fn nobody_else_can_take_it() {
    in_netns(|| {
        let pod = Pod::new();
        let addresses = addresses();
        create(&pod.netns(), &spec(&addresses, 1)).unwrap().keep();
        let owner = run_in(&pod.netns(), || {
            // sysfs shows the namespace it was mounted in, so ask by another way.
            tap::create_persistent("eth0", &TapOptions::default()).unwrap_err()
        });
        assert!(matches!(owner.unwrap(), TapError::Taken { .. }));
    });
}
