//! Each trap on a real interface, in both families, and the whole order on addresses made up.

use std::path::Path;
use std::time::{Duration, Instant};

use ringway_kernel::testing::{in_netns, ip};

use super::*;
use crate::underlay::Underlay;
use ringway_config::Config;
use ringway_ports::tap::{self, Opened, TapOptions};

/// The underlay interface, up, without an address; its link-local one needs no detection of duplicates.
fn eth0() -> Opened {
    let opened = tap::create_persistent("eth0", &TapOptions::default()).unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").unwrap();
    ip("link set eth0 up");
    opened
}

fn config(extra: &str) -> Config {
    let text = include_str!("../../../../config/ringway.toml");
    let text = text.replace("vni = 1", &format!("vni = 1\n{extra}"));
    Config::parse(Path::new("t"), &text).unwrap()
}

fn examine() -> Underlay {
    let mut netlink = Netlink::open().unwrap();
    let config = config("");
    let (cluster, _) = config.cluster().unwrap();
    Underlay::examine(&config, cluster.state(), &mut netlink).unwrap_or_else(|e| panic!("{e}"))
}

/// Chosen and passed over, of each family.
fn chosen(underlay: &Underlay) -> Vec<(String, Vec<(String, String)>)> {
    let passed = |p: &PassedOver| (p.address.to_string(), p.why.clone());
    let all = underlay.choices.iter();
    all.map(|c| {
        (
            c.address.to_string(),
            c.passed_over.iter().map(passed).collect(),
        )
    })
    .collect()
}

/// Adds `lines` in their order and returns what was chosen.
#[track_caller]
fn after(lines: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
    let lines: Vec<String> = lines.iter().map(|l| format!("{l} dev eth0")).collect();
    in_netns(move || {
        let _eth0 = eth0();
        for line in &lines {
            ip(&format!("addr add {line}"));
        }
        chosen(&examine())
    })
}

fn expected(
    v4: (&str, &str, &str),
    v6: (&str, &str, &str),
) -> Vec<(String, Vec<(String, String)>)> {
    [v4, v6]
        .map(|(ip, other, why)| (ip.to_owned(), vec![(other.to_owned(), why.to_owned())]))
        .to_vec()
}

#[test]
fn a_deprecated_address_is_passed_over() {
    let found = after(&[
        "192.168.77.100/32 preferred_lft 0 valid_lft forever",
        "fd00:77::100/128 preferred_lft 0 valid_lft forever nodad",
        "192.168.77.1/24",
        "fd00:77::1/64 nodad",
    ]);
    let v4 = ("192.168.77.1", "192.168.77.100", "deprecated, /32");
    let v6 = ("fd00:77::1", "fd00:77::100", "deprecated, /128");
    assert_eq!(found, expected(v4, v6));
}

#[test]
fn a_virtual_address_is_passed_over() {
    let found = after(&[
        "192.168.77.100/32",
        "fd00:99::100/128 nodad",
        "192.168.77.1/24",
        "fd00:77::1/64 nodad",
    ]);
    let v4 = ("192.168.77.1", "192.168.77.100", "/32");
    let v6 = ("fd00:77::1", "fd00:99::100", "/128");
    assert_eq!(found, expected(v4, v6));
}

#[test]
fn the_source_the_kernel_picks_goes_before_all_else() {
    in_netns(|| {
        let _eth0 = eth0();
        ip("addr add 192.168.77.1/24 dev eth0");
        ip("addr add fd00:77::1/64 dev eth0 nodad");
        ip("addr add 192.168.77.100/32 dev eth0");
        ip("addr add fd00:77::100/128 dev eth0 nodad");
        ip("route add 192.168.77.2/32 dev eth0 src 192.168.77.100");
        ip("route add fd00:77::2/128 dev eth0 src fd00:77::100");
        let underlay = examine();
        let addresses: Vec<String> = underlay
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["192.168.77.100", "fd00:77::100"]);
        for choice in &underlay.choices {
            assert_eq!(choice.why, "the kernel sends from it to node2");
        }
    });
}

#[test]
fn without_a_route_to_a_peer_the_default_route_tells() {
    in_netns(|| {
        let _eth0 = eth0();
        ip("addr add 10.9.0.5/24 dev eth0");
        ip("addr add 10.8.0.5/24 dev eth0");
        ip("addr add fd09::5/64 dev eth0 nodad");
        ip("addr add fd08::5/64 dev eth0 nodad");
        // To the peers there is none.
        ip("route add unreachable 192.168.77.0/24");
        ip("route add unreachable fd00:77::/64");
        ip("route add default via 10.8.0.1 src 10.8.0.5");
        ip("route add default via fd08::1 src fd08::5");
        let underlay = examine();
        for choice in &underlay.choices {
            assert_eq!(choice.why, "the kernel sends from it by its default route");
        }
        let addresses: Vec<String> = underlay
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["10.8.0.5", "fd08::5"]);
    });
}

#[test]
fn a_temporary_or_dynamic_address_is_passed_over() {
    in_netns(|| {
        let _eth0 = eth0();
        // The kernel makes a temporary address beside it, and itself prefers that.
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/use_tempaddr", "1").unwrap();
        ip("addr add fd00:77::1/64 dev eth0 nodad mngtmpaddr");
        ip("addr add 192.168.77.9/24 dev eth0 valid_lft 1000 preferred_lft 500");
        ip("addr add 192.168.78.1/24 dev eth0");
        ip("route del 192.168.77.0/24");
        let underlay = examine();
        assert_eq!(underlay.v6, Some("fd00:77::1".parse().unwrap()));
        assert_eq!(underlay.v4, Some("192.168.78.1".parse().unwrap()));
        let passed = chosen(&underlay);
        let why = |n: usize| &passed[n].1[0].1;
        assert_eq!(why(0), "dynamic");
        assert!(why(1).contains("temporary"), "{passed:?}");
    });
}

#[test]
fn a_tentative_address_is_never_taken_and_waited_for() {
    in_netns(|| {
        let _eth0 = eth0();
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "1").unwrap();
        ip("addr add 192.168.77.1/24 dev eth0");
        ip("addr add fd00:99::100/128 dev eth0 nodad");
        ip("addr add fd00:77::1/64 dev eth0");
        let before = chosen(&examine());
        assert_eq!(before[1].0, "fd00:99::100");
        assert!(before[1].1[0].1.contains("detection"), "{before:?}");
        let begin = Instant::now();
        Underlay::await_addresses(&config(""), &mut Netlink::open().unwrap());
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        let after = chosen(&examine());
        assert_eq!(after[1].0, "fd00:77::1");
        assert_eq!(after[1].1[0].1, "/128");
    });
}

#[test]
fn the_only_address_will_do_whatever_it_looks_like() {
    let found = after(&["192.168.77.1/32", "fd00:77::1/128 nodad"]);
    let alone = |ip: &str| (ip.to_owned(), Vec::new());
    assert_eq!(found, [alone("192.168.77.1"), alone("fd00:77::1")]);
    let found = after(&[
        "192.168.77.1/32 preferred_lft 0 valid_lft forever",
        "fd00:77::1/128 preferred_lft 0 valid_lft forever nodad",
    ]);
    assert_eq!(found, [alone("192.168.77.1"), alone("fd00:77::1")]);
}

/// Each criterion alone, against a later one that speaks the other way.
#[test]
fn the_order_of_the_criteria() {
    for v6 in [false, true] {
        let address = |n: u8| -> IpAddr {
            match v6 {
                false => format!("192.0.2.{n}").parse().unwrap(),
                true => format!("2001:db8::{n}").parse().unwrap(),
            }
        };
        let network = if v6 { 64 } else { 24 };
        let host = if v6 { 128 } else { 32 };
        let good = |n: u8| Address {
            ip: address(n),
            prefix_len: network,
            global: true,
            tentative: false,
            duplicate: false,
            deprecated: false,
            protocol: None,
            lifetime: Lifetime::Permanent,
        };
        let first =
            |all: &[Address], kernel: &Kernel| choose(all, v6, kernel).map(|choice| choice.address);
        let none = Kernel::default();
        let worst = Address {
            deprecated: true,
            lifetime: Lifetime::Temporary,
            prefix_len: host,
            ..good(9)
        };
        // Never.
        let unusable = [
            Address {
                tentative: true,
                ..good(1)
            },
            Address {
                duplicate: true,
                ..good(2)
            },
            Address {
                global: false,
                ..good(3)
            },
        ];
        assert_eq!(first(&unusable, &none), None);
        assert_eq!(
            first(&[&unusable[..], &[worst]].concat(), &none),
            Some(address(9))
        );
        // Peers before the default route, more peers before fewer.
        let kernel = Kernel {
            peers: vec![
                (address(2), "a".into()),
                (address(9), "b".into()),
                (address(9), "c".into()),
            ],
            outside: vec![address(3)],
        };
        let all = [good(3), good(2), worst];
        assert_eq!(first(&all, &kernel), Some(address(9)));
        assert_eq!(first(&all[..2], &kernel), Some(address(2)));
        assert_eq!(first(&[good(4), good(3)], &kernel), Some(address(3)));
        // Deprecated before temporary before the prefix before the kernel's order.
        let deprecated = Address {
            deprecated: true,
            ..good(1)
        };
        let temporary = Address {
            lifetime: Lifetime::Temporary,
            ..good(2)
        };
        let dynamic = Address {
            lifetime: Lifetime::Dynamic,
            prefix_len: host,
            ..good(3)
        };
        let alone = Address {
            prefix_len: host,
            ..good(4)
        };
        let order = [deprecated, temporary, dynamic, alone, good(5), good(6)];
        let ranking: Vec<IpAddr> = (0..order.len())
            .rev()
            .map(|n| {
                // Without the better ones.
                let left: Vec<Address> = order[..=n].to_vec();
                first(&left, &none).unwrap()
            })
            .collect();
        let expected = [5, 5, 4, 3, 2, 1].map(address);
        assert_eq!(ranking, expected);
    }
}
