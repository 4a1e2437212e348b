//! What others do to the node's kernel: by the thousand, again and again, while it is paused, and faster than
//! the kernel can tell.

use crate::harness::{eventually, network_test, number};
use nix::sys::signal::Signal;
use ringway_perf::lab::{Cni, Crowd, Family, Mode, Netns, RingwayOptions, Topology};
use ringway_perf::traffic::OutageProbe;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Within what time everything is as it was.
const WITHIN: Duration = Duration::from_secs(3);
/// More often within a minute is a fight, which is another test's.
const PATIENCE: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);

/// Kernel settings and what they shall be.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/ringway0/forwarding", "1"),
    ("ipv4/conf/ringway0/rp_filter", "2"),
    ("ipv4/conf/ringway0/send_redirects", "0"),
    ("ipv4/conf/ringway0/accept_local", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/ringway0/disable_ipv6", "0"),
    ("ipv6/conf/ringway0/addr_gen_mode", "1"),
    ("ipv6/conf/ringway0/accept_ra", "0"),
    ("ipv6/conf/ringway0/accept_dad", "0"),
    ("ipv6/conf/ringway0/forwarding", "1"),
];

/// A generator of numbers that gives the same ones for a seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn set(ns: &Netns, key: &str, value: &str) {
    // One that came with an interface that is gone for now.
    let _ = ns.sysctl(key, value);
}

/// All that is ours, as text in a fixed order; without what follows from who set it last.
fn everything(ns: &Netns) -> String {
    let mut out = String::new();
    let json = |args: &str| -> Value {
        let text = ns.ip(&format!("-j {args}")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let link = &json("-d link show dev ringway0")[0];
    for key in [
        "mtu",
        "address",
        "flags",
        "gso_max_size",
        "gso_max_segs",
        "ifalias",
        "master",
        "qdisc",
    ] {
        let _ = writeln!(out, "{key} {}", link[key]);
    }
    let mut lines = Vec::new();
    let address = json("address show dev ringway0");
    for one in address[0]["addr_info"].as_array().into_iter().flatten() {
        lines.push(format!("address {}/{}", one["local"], one["prefixlen"]));
    }
    for family in ["-4", "-6"] {
        let routes = json(&format!("{family} route show dev ringway0"));
        for one in routes.as_array().into_iter().flatten() {
            let (to, via) = (&one["dst"], &one["gateway"]);
            lines.push(format!("route {to} via {via} from {}", one["prefsrc"]));
        }
    }
    let neighbours = json("neigh show dev ringway0 nud permanent");
    for one in neighbours.as_array().into_iter().flatten() {
        lines.push(format!("neighbour {} at {}", one["dst"], one["lladdr"]));
    }
    // The kernel's route to the own pods has no source for IPv6, ours neither.
    lines.sort();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let settings = || {
        let read = |(key, _): &(&str, &str)| {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{key}"));
            format!("{key} {}\n", value.unwrap_or_default().trim())
        };
        SETTINGS.iter().map(read).collect::<String>()
    };
    out += &ns.run(settings).unwrap();
    out += &ns
        .command("nft", "list table inet ringway")
        .unwrap_or_default();
    out
}

/// Waits until all is as `wanted`.
#[track_caller]
fn all_is(ns: &Netns, wanted: &str, limit: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let now = everything(ns);
        if now == wanted {
            return begin.elapsed();
        }
        if begin.elapsed() > limit {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            let (now, wanted) = (lines(&now), lines(wanted));
            let lack: Vec<_> = wanted.iter().filter(|l| !now.contains(l)).collect();
            let extra: Vec<_> = now.iter().filter(|l| !wanted.contains(l)).collect();
            panic!("after {limit:?} these lack: {lack:#?}, and these are too many: {extra:#?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One thing, and what may be done to it.
struct Thing {
    name: String,
    /// `ip ARGS`, `sysctl KEY=VALUE` or `nft ARGS`.
    changes: Vec<String>,
    /// When it was changed.
    done: VecDeque<Instant>,
}

fn thing(name: impl Into<String>, changes: impl IntoIterator<Item = String>) -> Thing {
    Thing {
        name: name.into(),
        changes: changes.into_iter().collect(),
        done: VecDeque::new(),
    }
}

fn of(name: &str, changes: &[&str]) -> Thing {
    thing(name, changes.iter().map(|c| (*c).to_owned()))
}

/// Everything there is to change.
fn things(ns: &Netns) -> Vec<Thing> {
    let dev = "dev ringway0";
    let mut all = vec![
        of(
            "MTU",
            &["link set ringway0 mtu 1300", "link set ringway0 mtu 1000"],
        ),
        of("MAC", &["link set ringway0 address 02:00:00:00:00:99"]),
        of("up", &["link set ringway0 down"]),
        of("ARP", &["link set ringway0 arp off"]),
        of("alias", &["link set ringway0 alias mine"]),
        of("carrier", &["link set ringway0 carrier off"]),
        of("superframes", &["link set ringway0 gso_max_segs 1"]),
        of(
            "size of superframes",
            &["link set ringway0 gso_max_size 4000"],
        ),
        of("IPv4 gateway", &[&format!("addr del 10.77.1.1/24 {dev}")]),
        of("IPv6 gateway", &[&format!("addr del fd77:1::1/64 {dev}")]),
        of(
            "network address",
            &[&format!("addr del 10.77.1.0/32 {dev}")],
        ),
        of(
            "rules",
            &[
                "nft flush table inet ringway",
                "nft delete table inet ringway",
                "nft flush chain inet ringway postrouting",
                "nft add rule inet ringway postrouting accept",
            ],
        ),
    ];
    for (key, value) in SETTINGS {
        let other = if *value == "0" { "1" } else { "0" };
        all.push(thing(*key, [format!("sysctl {key}={other}")]));
    }
    for family in ["-4", "-6"] {
        let listed = ns
            .ip(&format!("{family} route show {dev} proto 82"))
            .unwrap();
        for to in listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            let elsewhere = if family == "-4" {
                "192.168.77.2"
            } else {
                "fd00:77::2"
            };
            all.push(thing(
                format!("route {to}"),
                [
                    format!("{family} route del {to} {dev}"),
                    format!("{family} route del {to} {dev}"),
                    format!("{family} route replace {to} via {elsewhere} proto bird"),
                ],
            ));
        }
    }
    let listed = ns.ip(&format!("neigh show {dev} nud permanent")).unwrap();
    let ours = |ip: &&str| !ip.starts_with("ff02") && !ip.starts_with("224.");
    for ip in listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(ours)
    {
        all.push(thing(
            format!("neighbour {ip}"),
            [
                format!("neigh del {ip} {dev}"),
                format!("neigh replace {ip} {dev} lladdr 02:00:00:00:00:99 nud permanent"),
                format!("neigh replace {ip} {dev} lladdr 02:00:00:00:00:99 nud reachable"),
            ],
        ));
    }
    all
}

/// Does it; what is gone already cannot be changed.
fn change(ns: &Netns, line: &str) {
    if let Some(setting) = line.strip_prefix("sysctl ") {
        if let Some((key, value)) = setting.split_once('=') {
            set(ns, key, value);
        }
    } else if let Some(args) = line.strip_prefix("nft ") {
        let _ = ns.command("nft", args);
    } else {
        let _ = ns.ip(line);
    }
}

#[test]
fn a_thousand_random_changes_are_undone_while_pods_talk() {
    let name = "a_thousand_random_changes_are_undone_while_pods_talk";
    network_test(name, Duration::from_secs(300), || {
        let seed = number("RINGWAY_SEED", std::process::id().into());
        let count = number("RINGWAY_CHANGES", 1000);
        println!("{count} changes, RINGWAY_SEED={seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let crowd = Crowd {
            peers: 50,
            cidrs: 4,
        };
        let options = RingwayOptions {
            crowd,
            ..RingwayOptions::default()
        };
        let mut topology = Topology::ringway(Mode::Full, &options).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let wanted = everything(&node);
        let mut things = things(&node);
        println!("{} things", things.len());
        assert!(things.len() > 200, "the routes are not marked as ours");
        let same = OutageProbe::start(&p1.ns, &p2.ns, p2.ip(Family::V4)).unwrap();
        let peer = OutageProbe::start(&p1.ns, &p3.ns, p3.ip(Family::V6)).unwrap();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..count {
            let now = Instant::now();
            let one = loop {
                let one = random.below(things.len());
                let done = &mut things[one].done;
                while done.front().is_some_and(|at| now - *at > MINUTE + WITHIN) {
                    done.pop_front();
                }
                if done.len() < PATIENCE {
                    done.push_back(now);
                    break one;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            let changes = &things[one].changes;
            change(&node, &changes[random.below(changes.len())]);
            let kind = things[one].name.split_whitespace().next().unwrap_or("");
            *counts.entry(kind.to_owned()).or_default() += 1;
            std::thread::sleep(Duration::from_millis(random.below(60) as u64));
        }
        println!("{counts:?}");
        let took = all_is(&node, &wanted, WITHIN);
        println!("all was right {took:?} after the last");
        for (which, probe) in [("of the node", same), ("of the peer", peer)] {
            let found = probe.finish();
            println!("pods {which}: {found:?}");
            assert_eq!(found.sent, found.answered, "{which}");
        }
        let agent = topology.n1.agent().unwrap();
        let status = agent.json(&["status"]).unwrap();
        assert_eq!(status["conditions"], serde_json::json!([]), "{status:#}");
        assert!(status["reconcile"]["restored"].as_u64().unwrap() > count / 4);
        let log = agent.log();
        let lines = log.lines().filter(|line| line.contains("again and again"));
        let fights: Vec<&str> = lines.collect();
        assert!(fights.is_empty(), "{fights:#?}");
    });
}

/// Somebody's routing daemon has the same route, and insists.
#[test]
fn a_fight_is_not_fought_every_second_and_named() {
    let name = "a_fight_is_not_fought_every_second_and_named";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let theirs = "route replace 10.77.2.0/24 via 192.168.77.2 proto bird";
        let ours = || {
            let listed = node.ip("-4 route show 10.77.2.0/24").unwrap();
            listed.contains("169.254.82.87")
        };
        let begin = Instant::now();
        let mut restored = 0;
        let condition = loop {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "no fight: {restored}"
            );
            node.ip(theirs).unwrap();
            let agent = topology.n1.agent().unwrap();
            let status = agent.json(&["status"]).unwrap();
            if let Some(condition) = status["conditions"].get(0) {
                break condition.clone();
            }
            if eventually_or_not(WITHIN, ours) {
                restored += 1;
            }
        };
        println!("{condition:#}");
        assert!((5..=7).contains(&restored), "{restored}");
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("what"), "route 10.77.2.0/24");
        assert!(text("wanted").contains("via 169.254.82.87"), "{condition}");
        assert!(text("found").contains("via 192.168.77.2"), "{condition}");
        assert!(
            text("why").contains("protocol number 12 (bird)"),
            "{condition}"
        );
        assert!(condition["since_s"].as_u64().is_some());
        // It is left alone now; everything else is not.
        node.ip("-6 route del fd77:2::/64 dev ringway0").unwrap();
        eventually("another route is back", WITHIN, || {
            let listed = node.ip("-6 route show fd77:2::/64").unwrap();
            listed.contains("fe80::52:57ff:fe00:1")
        });
        assert!(!ours(), "it was set again at once");
        let agent = topology.n1.agent().unwrap();
        let shown = agent.cli(&["status"]).unwrap();
        assert!(
            shown.contains("attention") && shown.contains("bird"),
            "{shown}"
        );
        let cni = Cni::ringway(agent, "1.1.0").unwrap();
        let refused = cni.call("STATUS", "", None).unwrap().unwrap_err();
        assert_eq!(refused.code, 50);
        assert_eq!(agent.log().matches("again and again").count(), 1);
        // Half a minute after the last time it is tried.
        eventually("it is tried again", Duration::from_secs(35), ours);
    });
}

fn eventually_or_not(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_pause_leaves_what_others_change() {
    let name = "a_pause_leaves_what_others_change";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let wanted = everything(&node);
        let pause = |topology: &mut Topology, long: &str| {
            let agent = topology.n1.agent().unwrap();
            agent.cli(&["reconcile", "pause", long])
        };
        let refused = pause(&mut topology, "25h").unwrap_err().to_string();
        assert!(refused.contains("24 hours"), "{refused}");
        let said = pause(&mut topology, "10m").unwrap();
        assert!(said.contains("10 min"), "{said}");
        for line in [
            "link set ringway0 mtu 1300",
            "route del 10.77.2.0/24",
            "sysctl ipv4/conf/ringway0/rp_filter=1",
            "nft flush chain inet ringway postrouting",
        ] {
            change(&node, line);
        }
        let changed = everything(&node);
        assert_ne!(changed, wanted);
        std::thread::sleep(WITHIN + WITHIN);
        assert_eq!(everything(&node), changed);
        let agent = topology.n1.agent().unwrap();
        let status = agent.json(&["status"]).unwrap();
        let left = status["reconcile"]["paused_s"].as_u64().unwrap();
        assert!((580..600).contains(&left), "{left}");
        let conditions = status["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 4, "{conditions:#?}");
        let shown = agent.cli(&["status"]).unwrap();
        assert!(shown.contains("PAUSED"), "{shown}");
        // Pods come as ever.
        let pod = topology.n1.add_pod().unwrap();
        let known = |node: &Netns| {
            let listed = node.ip("neigh show dev ringway0 nud permanent").unwrap();
            listed.contains(&pod.ip(Family::V4).to_string())
        };
        eventually("the node knows a new pod", WITHIN, || known(&node));
        topology.n1.detach(&pod).unwrap();
        eventually("and forgets it", WITHIN, || !known(&node));
        let agent = topology.n1.agent().unwrap();
        agent.cli(&["reconcile", "resume"]).unwrap();
        all_is(&node, &wanted, WITHIN);
        let said = agent.cli(&["reconcile", "resume"]).unwrap();
        assert!(said.contains("not paused"), "{said}");
        // And one that ends by itself.
        pause(&mut topology, "2s").unwrap();
        node.ip("link set ringway0 mtu 1300").unwrap();
        let took = all_is(&node, &wanted, Duration::from_secs(2) + WITHIN);
        assert!(took > Duration::from_secs(1), "{took:?}");
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        assert_eq!(status["reconcile"]["paused_s"], Value::Null);
    });
}

/// More changes than the socket holds while the agent stands still: the kernel says that some were lost.
#[test]
fn changes_that_were_lost_are_found() {
    let name = "changes_that_were_lost_are_found";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let wanted = everything(&node);
        let agent = topology.n1.agent().unwrap();
        agent.signal(Signal::SIGSTOP as i32).unwrap();
        // Some 700 bytes each in the receive buffer of 208 KB.
        let mut storm = String::new();
        for n in 0..2000 {
            let (a, b) = (n / 250, n % 250);
            let _ = writeln!(storm, "route add 198.18.{a}.{b}/32 dev lo");
        }
        node.ip_batch(&storm).unwrap();
        for line in [
            "route del 10.77.2.0/24",
            "-6 route del fd77:2::/64 dev ringway0",
            "neigh del 10.77.1.2 dev ringway0",
            "neigh del fd77:1::3 dev ringway0",
            "addr del fd77:1::1/64 dev ringway0",
        ] {
            node.ip(line).unwrap();
        }
        node.ip_batch(&storm.replace("add", "del")).unwrap();
        agent.signal(Signal::SIGCONT as i32).unwrap();
        let took = all_is(&node, &wanted, WITHIN);
        println!("all was right {took:?} later");
    });
}

/// What programs do that manage networks, too; see README, "What else manages the network".
#[test]
fn what_known_programs_do_is_undone() {
    let name = "what_known_programs_do_is_undone";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let node = topology.n1.ns.clone();
        let wanted = everything(&node);
        for (program, lines) in [
            (
                "systemd-networkd, started with ManageForeignRoutes=yes",
                &["-4 route flush proto 82", "-6 route flush proto 82"][..],
            ),
            (
                "NetworkManager, taking the interface for its own",
                &[
                    "link set ringway0 down",
                    "addr flush dev ringway0",
                    "-4 route flush dev ringway0",
                    "-6 route flush dev ringway0",
                    "link set ringway0 up",
                    "sysctl ipv6/conf/ringway0/addr_gen_mode=0",
                    "sysctl ipv6/conf/ringway0/accept_ra=1",
                ],
            ),
            ("nftables.service, reloaded", &["nft flush ruleset"]),
            (
                "sysctl --system with a distribution's defaults",
                &[
                    "sysctl ipv4/ip_forward=0",
                    "sysctl ipv6/conf/all/forwarding=0",
                    "sysctl ipv4/conf/all/send_redirects=1",
                    "sysctl ipv4/conf/ringway0/rp_filter=1",
                ],
            ),
        ] {
            for line in lines {
                change(&node, line);
            }
            assert_ne!(everything(&node), wanted, "{program} did nothing");
            let took = all_is(&node, &wanted, WITHIN);
            println!("{program}: {took:?}");
        }
        // firewalld reloads: its table is deleted and made anew, without what we have added.
        let firewall = "nft add table inet firewalld\n\
             add chain inet firewalld filter_FORWARD { type filter hook forward priority 10 ; policy drop ; }";
        let opened = || {
            let chain = node.command("nft", "list chain inet firewalld filter_FORWARD");
            chain.is_ok_and(|chain| chain.matches("ringway0").count() == 2)
        };
        for _ in 0..3 {
            let _ = node.command("nft", "delete table inet firewalld");
            for line in firewall.lines() {
                let args = line.strip_prefix("nft ").unwrap_or(line).trim();
                node.command("nft", args).unwrap();
            }
            let took = eventually("the firewall is open", WITHIN, opened);
            println!("firewalld, reloaded: {took:?}");
        }
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        assert_eq!(status["conditions"], serde_json::json!([]), "{status:#}");
        let probe = OutageProbe::start(&p1.ns, &p3.ns, p3.ip(Family::V4)).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(probe.finish().answered > 0);
    });
}
