use std::net::IpAddr;

use ringway_packet::mac::MacAddr;
use ringway_ports::tap::{self, TapOptions};

use super::*;
use crate::testing::{Wire, in_netns, set_up};

mod route_to;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A link to work on, as long as the descriptor is kept.
fn link(netlink: &mut Netlink, name: &str) -> (Link, tap::Opened) {
    let opened = tap::create_persistent(name, &TapOptions::default()).unwrap();
    (netlink.link(name).unwrap(), opened)
}

#[test]
fn taps_are_listed_with_owner_alias_and_use() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        assert_eq!(nl.taps().unwrap(), [], "lo is none");
        let (plain, _fd) = link(&mut nl, "t0");
        let options = TapOptions {
            multi_queue: true,
            owner_uid: Some(4_294_967_290),
        };
        let owned = tap::create_persistent("t1", &options).unwrap();
        let index = nl.link("t1").unwrap().index;
        let change = LinkChange {
            alias: Some("whose"),
            ..LinkChange::default()
        };
        nl.change_link(index, &change).unwrap();
        let mut expected = [
            Tap {
                index: plain.index,
                name: "t0".into(),
                owner: None,
                alias: None,
                in_use: true,
            },
            Tap {
                index,
                name: "t1".into(),
                owner: Some(4_294_967_290),
                alias: Some("whose".into()),
                in_use: true,
            },
        ];
        assert_eq!(nl.taps().unwrap(), expected);
        drop(owned);
        expected[1].in_use = false;
        assert_eq!(nl.taps().unwrap(), expected);
    });
}

#[test]
fn links_are_found_changed_and_deleted() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        assert!(matches!(nl.link("t0"), Err(NetlinkError::NoLink { .. })));
        let (link, _fd) = link(&mut nl, "t0");
        assert!(!link.up);
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        nl.change_link(
            link.index,
            &LinkChange {
                name: Some("t1"),
                mac: Some(mac),
                mtu: Some(1400),
                arp: None,
                master: None,
                carrier: None,
                up: Some(true),
                gso_max_size: Some(40_000),
                gso_max_segs: Some(30),
                tx_queue_len: Some(77),
                alias: Some("mine"),
            },
        )
        .unwrap();
        let changed = nl.link("t1").unwrap();
        assert_eq!(
            changed,
            Link {
                index: link.index,
                name: "t1".into(),
                mac: Some(mac),
                mtu: 1400,
                no_arp: false,
                alias: Some("mine".into()),
                master: None,
                up: true,
                gso_max_size: Some(40_000),
                gso_max_segs: Some(30),
                tx_queue_len: Some(77),
                veth: false,
                // A TAP has one while somebody has it open.
                carrier: true,
                oper_state: changed.oper_state,
                rx_queues: Some(1),
                tx_queues: Some(1),
                xdp_program: None,
            }
        );
        assert!(changed.usable());
        assert_eq!(nl.link_at(link.index).unwrap(), Some(changed));
        assert_eq!(nl.link_at(9999).unwrap(), None);
        let names: Vec<String> = nl.links().unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(names, ["lo", "t1"]);
        assert!(nl.delete_link("t1").unwrap());
        assert!(!nl.delete_link("t1").unwrap());
    });
}

#[test]
fn a_refusal_says_what_was_asked() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        let (link, _fd) = link(&mut nl, "t0");
        let change = LinkChange {
            mtu: Some(10),
            ..LinkChange::default()
        };
        let refused = nl.change_link(link.index, &change).unwrap_err();
        assert_eq!(refused.errno(), Some(libc::EINVAL));
        assert!(refused.to_string().contains("mtu: Some(10)"), "{refused}");
        // The socket is in step afterwards.
        assert_eq!(nl.link("t0").unwrap().index, link.index);
    });
}

#[test]
fn addresses_are_added_once_and_usable_at_once() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        let (link, _fd) = link(&mut nl, "t0");
        let all = [("10.77.1.2", 24), ("10.77.1.0", 32), ("fd77:1::2", 64)];
        for _ in 0..2 {
            for (text, len) in all {
                nl.add_address(link.index, ip(text), len).unwrap();
            }
        }
        let found = nl.addresses(link.index).unwrap();
        let expected = all.map(|(text, prefix_len)| Address {
            ip: ip(text),
            prefix_len,
            global: true,
            tentative: false,
            duplicate: false,
            deprecated: false,
            protocol: Some(crate::reconcile::OWNER),
            lifetime: Lifetime::Permanent,
        });
        assert_eq!(found, expected);
        nl.remove_address(link.index, ip("10.77.1.0"), 32).unwrap();
        nl.remove_address(link.index, ip("10.77.1.0"), 32).unwrap();
        assert_eq!(nl.addresses(link.index).unwrap().len(), 2);
        // No duplicate address detection: binding works at once.
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        nl.change_link(link.index, &up).unwrap();
        std::net::UdpSocket::bind("[fd77:1::2]:0").unwrap();
    });
}

#[test]
fn routes_are_set_listed_kept_and_removed() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        let (link, _fd) = link(&mut nl, "t0");
        nl.add_address(link.index, ip("10.77.1.1"), 24).unwrap();
        nl.add_address(link.index, ip("fd77:1::1"), 64).unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        nl.change_link(link.index, &up).unwrap();
        let route = |destination, prefix_len, gateway, source| Route {
            protocol: STATIC,
            destination: ip(destination),
            prefix_len,
            gateway: Some(ip(gateway)),
            onlink: true,
            source: Some(ip(source)),
            interface: link.index,
        };
        let v4 = route("10.77.2.0", 24, "169.254.82.87", "10.77.1.1");
        let v6 = route("fd77:2::", 64, "fe80::1", "fd77:1::1");
        for r in [v4, v6, v4, v6] {
            nl.set_route(&r).unwrap();
        }
        let listed = nl.routes(link.index).unwrap();
        assert!(listed.contains(&v4) && listed.contains(&v6), "{listed:?}");
        let default = route("0.0.0.0", 0, "10.77.1.9", "10.77.1.1");
        assert!(nl.add_route(&default).unwrap());
        assert!(!nl.add_route(&default).unwrap());
        nl.remove_route(&v4).unwrap();
        nl.remove_route(&v4).unwrap();
        assert!(!nl.routes(link.index).unwrap().contains(&v4));
        nl.set_neighbour(link.index, ip("169.254.82.87"), MacAddr([2; 6]))
            .unwrap();
        let arp = std::fs::read_to_string("/proc/thread-self/net/arp").unwrap();
        // 0x6: ATF_COM | ATF_PERM.
        let entry = arp.lines().find(|l| l.starts_with("169.254.82.87"));
        assert!(entry.unwrap().contains("0x6"), "{arp}");
    });
}

#[test]
fn a_dump_of_many_parts_is_read_whole() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        let (link, _fd) = link(&mut nl, "t0");
        for i in 0..1500u32 {
            let address = std::net::Ipv4Addr::from(0x0a40_0000 + i);
            nl.add_address(link.index, address.into(), 32).unwrap();
        }
        assert_eq!(nl.addresses(link.index).unwrap().len(), 1500);
    });
}

#[test]
fn a_queueing_discipline_is_the_kernels_or_chosen() {
    in_netns(|| {
        let mut nl = Netlink::open().unwrap();
        let (link, _fd) = link(&mut nl, "t0");
        assert!(nl.has_default_qdisc(link.index).unwrap(), "none yet");
        set_up(&mut nl, link.index, true);
        assert!(nl.has_default_qdisc(link.index).unwrap());
        nl.set_qdisc(link.index, "pfifo").unwrap();
        assert!(!nl.has_default_qdisc(link.index).unwrap());
        nl.set_noqueue(link.index).unwrap();
        assert!(!nl.has_default_qdisc(link.index).unwrap());
        let refused = nl.set_qdisc(link.index, "no-such").unwrap_err();
        let words = "setting the queueing discipline no-such on interface";
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(
            nl.has_default_qdisc(9999).unwrap_err().errno(),
            Some(libc::ENODEV)
        );
    });
}
