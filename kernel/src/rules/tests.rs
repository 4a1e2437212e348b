use crate::testing::in_netns;

use super::look::LOOK;
use super::watch::Changed;
use super::*;
use crate::network::Network;
use crate::reconcile::Ledger;
use ringway_ports::tap::{self, TapOptions};
use std::process::Command;

fn desired() -> Desired {
    let cidr = |text: &str| -> Cidr { text.parse().unwrap() };
    let network = |own: &str, gateway: &str| Network {
        cidr: cidr(own),
        gateway: Some(gateway.parse().unwrap()),
    };
    let inside = ["10.77.1.0/24", "fd77:1::/64", "10.77.2.0/24", "fd77:2::/64"];
    Desired {
        interface: "ringway0".into(),
        own: vec![
            network("10.77.1.0/24", "10.77.1.1"),
            network("fd77:1::/64", "fd77:1::1"),
        ],
        inside: inside.map(cidr).to_vec(),
        masquerade: true,
        ports: Vec::new(),
    }
}

fn port(host_ip: Option<&str>, host_port: u16, pod_ip: &str) -> HostPort {
    HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        protocol: Protocol::Tcp,
        pod_ip: pod_ip.parse().unwrap(),
        pod_port: 80,
    }
}

fn run(words: &str) -> String {
    let mut words = words.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn start(desired: Desired) -> Rules {
    let mut rules = Rules::new(desired, true);
    rules.restore(Vec::new(), &[]);
    rules.await_forward(SLOW);
    rules
}

/// A look at foreign chains may take so long on a busy machine.
const SLOW: Duration = Duration::from_secs(20);

/// Looks at once, whatever the last look took, and does what has to be done.
fn look(rules: &mut Rules) {
    look_with(rules, &mut Ledger::default(), Instant::now());
}

fn look_with(rules: &mut Rules, ledger: &mut Ledger, now: Instant) {
    for _ in 0..2 {
        rules.cost = Duration::ZERO;
        await_looks(rules);
        rules.look(ledger, now);
    }
    await_looks(rules);
}

fn await_looks(rules: &Rules) {
    let begin = Instant::now();
    let listing = || {
        rules
            .listing
            .as_ref()
            .is_some_and(|(_, l)| !l.is_finished())
    };
    while rules.is_forwarding() || listing() {
        assert!(begin.elapsed() < SLOW, "a look has no end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Words of a listing in a fixed order: elements of a map have none.
fn sorted(listed: &str) -> Vec<String> {
    let words = listed.split([' ', '\n', '\t', ',', '{', '}']);
    let mut words: Vec<String> = words.filter(|w| !w.is_empty()).map(str::to_owned).collect();
    words.sort();
    words
}

/// Whether this test can run: nft is there and the kernel translates.
fn usable(name: &str) -> bool {
    if nft::output(&["--version"]).is_none() {
        println!("SKIPPED {name}: nft is not installed");
        return false;
    }
    true
}

#[test]
fn the_table_as_text() {
    let mut desired = desired();
    desired.inside.push("192.0.2.0/24".parse().unwrap());
    let expected = "table inet ringway
delete table inet ringway
table inet ringway {
\tset inside4 {
\t\ttype ipv4_addr
\t\tflags interval
\t\tauto-merge
\t\telements = { 10.77.1.0/24, 10.77.2.0/24, 192.0.2.0/24, 224.0.0.0/4 }
\t}
\tset inside6 {
\t\ttype ipv6_addr
\t\tflags interval
\t\tauto-merge
\t\telements = { fd77:1::/64, fd77:2::/64, ff00::/8 }
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\toifname \"ringway0\" ip saddr != { 10.77.1.0/24 } ip daddr != { 10.77.1.0/24, 169.254.0.0/16, 224.0.0.0/4 } snat ip to 10.77.1.1 fully-random
\t\toifname \"ringway0\" ip6 saddr != { fd77:1::/64 } ip6 daddr != { fd77:1::/64, fe80::/10, ff00::/8 } snat ip6 to fd77:1::1 fully-random
\t\toifname \"ringway0\" accept
\t\tip saddr 10.77.1.0/24 ip daddr != @inside4 masquerade fully-random
\t\tip6 saddr fd77:1::/64 ip6 daddr != @inside6 masquerade fully-random
\t}
}
";
    assert_eq!(render(&desired), expected);
    desired.masquerade = false;
    desired.ports = vec![
        port(None, 8080, "10.77.1.2"),
        port(Some("192.168.77.1"), 8081, "10.77.1.2"),
    ];
    let text = render(&desired);
    for line in [
        "elements = { tcp . 8080 : 10.77.1.2 . 80 }",
        "elements = { 192.168.77.1 . tcp . 8081 : 10.77.1.2 . 80 }",
        "elements = { 10.77.1.2 . 10.77.1.2 }",
        "fib daddr type local jump ports",
        "oifname \"ringway0\" ip saddr 127.0.0.0/8 masquerade fully-random",
    ] {
        assert_eq!(
            text.matches(line).count(),
            if line.starts_with("fib") { 2 } else { 1 },
            "{text}"
        );
    }
    assert!(!text.contains("inside"), "{text}");
}

#[test]
fn set_changed_flushed_and_removed() {
    if !usable("set_changed_flushed_and_removed") {
        return;
    }
    in_netns(|| {
        let _node = tap::create_persistent("ringway0", &TapOptions::default()).unwrap();
        let before = run("nft list ruleset");
        let mut rules = start(desired());
        assert_eq!(rules.describe(), "table inet ringway: masquerade");
        let ports = || vec![port(None, 8080, "10.77.1.2"), port(None, 8080, "fd77:1::2")];
        rules.set_host_ports("a", ports()).unwrap();
        let taken = rules.set_host_ports("b", vec![port(None, 8080, "10.77.1.3")]);
        assert!(taken.unwrap_err().to_string().contains("pod a"));
        assert_eq!(
            rules.describe(),
            "table inet ringway: masquerade, 2 host ports"
        );
        let listed = run("nft list table inet ringway");
        assert!(listed.contains("tcp . 8080 : fd77:1::2 . 80"), "{listed}");

        // One pod more, and less, changes elements only: it comes to the same.
        let whole = |rules: &Rules| {
            nft::run(&render(&rules.desired)).unwrap();
            sorted(&run("nft list table inet ringway"))
        };
        let more = vec![
            port(Some("192.168.77.1"), 9090, "10.77.1.4"),
            port(Some("192.168.77.1"), 9091, "10.77.1.4"),
        ];
        rules.set_host_ports("c", more).unwrap();
        assert_eq!(rules.table, Table::Set, "nothing was made anew");
        let piecemeal = sorted(&run("nft list table inet ringway"));
        assert_eq!(piecemeal, whole(&rules));
        rules.drop_host_ports("c");
        assert_eq!(rules.table, Table::Set);
        let piecemeal = sorted(&run("nft list table inet ringway"));
        assert_eq!(piecemeal, whole(&rules));
        look(&mut rules);
        let listed = run("nft list table inet ringway");
        assert_eq!(rules.table, Table::Listed(listed.clone()));

        // What we did ourselves is no reason to do it again.
        look(&mut rules);
        let heard = rules.watch.as_mut().unwrap().changed();
        assert_eq!(heard, Changed::default());
        for harm in [
            "nft flush ruleset",
            "nft delete chain inet ringway postrouting",
            "nft flush chain inet ringway postrouting",
            "nft delete element inet ringway ports4 { tcp . 8080 }",
        ] {
            if harm.contains("delete chain") {
                run("nft flush chain inet ringway postrouting");
            }
            run(harm);
            assert_ne!(run("nft list ruleset"), listed, "{harm}");
            look(&mut rules);
            assert_eq!(run("nft list table inet ringway"), listed, "{harm}");
        }
        // Of somebody else's rules nothing is heard but that there was a change.
        run("nft add table inet other");
        look(&mut rules);
        assert_eq!(run("nft list table inet ringway"), listed);
        run("nft delete table inet other");

        rules.drop_host_ports("a");
        rules.drop_host_ports("never");
        assert!(!run("nft list table inet ringway").contains("8080"));
        let (done, failed) = remove("ringway0");
        assert_eq!((done.len(), failed.len()), (1, 0), "{done:?}");
        assert_eq!(run("nft list ruleset"), before);
        assert_eq!(remove("ringway0"), (Vec::new(), Vec::new()));
    });
}

#[test]
fn a_firewall_that_forwards_nothing_lets_pods_through() {
    if !usable("a_firewall_that_forwards_nothing_lets_pods_through") {
        return;
    }
    in_netns(|| {
        for family in ["ip", "ip6", "inet"] {
            run(&format!("nft add table {family} strict"));
            run(&format!(
                "nft add chain {family} strict strictly {{ type filter hook forward priority 0; policy drop; }}"
            ));
        }
        run("nft add table ip open");
        run("nft add chain ip open openly { type filter hook forward priority 0; policy accept; }");
        let before = run("nft list ruleset");
        let mut rules = start(desired());
        for family in ["ip", "ip6", "inet"] {
            let chain = run(&format!("nft list chain {family} strict strictly"));
            assert_eq!(chain.matches("\"ringway0\"").count(), 2, "{chain}");
        }
        assert!(!run("nft list chain ip open openly").contains("ringway0"));
        // One of the two taken away, both are there again, and no more.
        let listed = run("nft -a list chain inet strict strictly");
        let (_, handle) = listed
            .lines()
            .find(|l| l.contains("\"ringway0\""))
            .unwrap()
            .rsplit_once(' ')
            .unwrap();
        run(&format!(
            "nft delete rule inet strict strictly handle {handle}"
        ));
        // Flushed, they come back, and never twice.
        run("nft flush chain ip strict strictly");
        for _ in 0..2 {
            look(&mut rules);
            for family in ["ip", "inet"] {
                let chain = run(&format!("nft list chain {family} strict strictly"));
                assert_eq!(chain.matches("\"ringway0\"").count(), 2, "{chain}");
            }
        }
        let (done, failed) = remove("ringway0");
        assert_eq!((done.len(), failed.len()), (4, 0), "{done:?} {failed:?}");
        assert_eq!(run("nft list ruleset"), before);
    });
}

#[test]
fn looks_take_a_small_part_of_the_time() {
    if !usable("looks_take_a_small_part_of_the_time") {
        return;
    }
    in_netns(|| {
        let mut rules = start(desired());
        look(&mut rules);
        let (mut ledger, now) = (Ledger::default(), rules.looked);
        run("nft add table ip strict");
        run("nft add chain ip strict c { type filter hook forward priority 0; policy drop; }");
        let ours = || {
            run("nft list chain ip strict c")
                .matches("ringway0")
                .count()
        };
        rules.cost = Duration::from_millis(100);
        rules.look(&mut ledger, now + Duration::from_secs(2));
        await_looks(&rules);
        assert_eq!(ours(), 0, "too soon");
        rules.look(&mut ledger, now + Duration::from_secs(3));
        await_looks(&rules);
        assert_eq!(ours(), 2);
    });
}

#[test]
fn a_firewall_of_iptables_lets_pods_through() {
    if Command::new("iptables").arg("--version").output().is_err() {
        println!("SKIPPED a_firewall_of_iptables_lets_pods_through: iptables is not installed");
        return;
    }
    in_netns(|| {
        for program in ["iptables", "ip6tables"] {
            run(&format!("{program} -P FORWARD DROP"));
        }
        let mut rules = start(desired());
        let ours = |program: &str| {
            run(&format!("{program} -S FORWARD"))
                .matches("ringway0")
                .count()
        };
        for _ in 0..2 {
            assert_eq!(["iptables", "ip6tables"].map(ours), [2, 2]);
            run("iptables -F FORWARD");
            look(&mut rules);
        }
        assert_eq!(ours("iptables"), 2);
        let (done, failed) = remove("ringway0");
        assert_eq!((done.len(), failed.len()), (3, 0), "{done:?} {failed:?}");
        assert_eq!(["iptables", "ip6tables"].map(ours), [0, 0]);
    });
}

#[test]
fn a_firewall_that_rejects_by_its_last_rule_lets_pods_through() {
    if !usable("a_firewall_that_rejects_by_its_last_rule_lets_pods_through") {
        return;
    }
    in_netns(|| {
        for family in ["ip", "ip6", "inet"] {
            nft::run(&format!(
                "table {family} strict {{
                    chain no {{ log; reject; }}
                    chain rejects {{ type filter hook forward priority 0; policy accept;
                        ct state established,related accept; counter reject; }}
                    chain drops {{ type filter hook forward priority 1; policy accept;
                        meta l4proto icmp accept; jump no; }}
                    chain open {{ type filter hook forward priority 2; policy accept;
                        ct state established,related accept; iifname eth1 reject; }}
                }}"
            ))
            .unwrap();
        }
        // As firewalld writes it.
        nft::run(
            "table inet firewalld {
                chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
                    ct state { established, related } accept
                    ct status dnat accept
                    iifname \"lo\" accept
                    jump filter_FORWARD_ZONES
                    reject with icmpx admin-prohibited
                }
                chain filter_FORWARD_ZONES { goto filter_FWD_public; }
                chain filter_FWD_public { jump filter_FWD_public_allow; reject with icmpx admin-prohibited; }
                chain filter_FWD_public_allow { }
            }",
        )
        .unwrap();
        let before = run("nft list ruleset");
        let mut rules = start(desired());
        let of = |chain: &str| {
            run(&format!("nft list chain {chain}"))
                .matches("\"ringway0\"")
                .count()
        };
        for _ in 0..2 {
            for family in ["ip", "ip6", "inet"] {
                assert_eq!(of(&format!("{family} strict rejects")), 2);
                assert_eq!(of(&format!("{family} strict drops")), 2);
                assert_eq!(of(&format!("{family} strict open")), 0);
                assert_eq!(of(&format!("{family} strict no")), 0);
            }
            assert_eq!(of("inet firewalld filter_FORWARD"), 2);
            let listed = run("nft list chain inet firewalld filter_FORWARD");
            let at = |text: &str| listed.find(text).unwrap();
            assert!(at("\"ringway0\"") < at("established"), "{listed}");
            look(&mut rules);
        }
        assert_eq!(rules.conditions(), []);
        let (done, failed) = remove("ringway0");
        assert_eq!((done.len(), failed.len()), (8, 0), "{done:?} {failed:?}");
        assert_eq!(run("nft list ruleset"), before);
    });
}

/// Newer versions of firewalld own their table: nobody else may change it.
#[test]
fn a_firewall_that_cannot_be_opened_is_said_with_the_command_that_helps() {
    if !usable("a_firewall_that_cannot_be_opened_is_said_with_the_command_that_helps") {
        return;
    }
    in_netns(|| {
        let mut owner = Command::new("nft")
            .arg("-i")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = owner.stdin.take().unwrap();
        std::io::Write::write_all(
            &mut pipe,
            b"add table inet firewalld { flags owner; }\n\
              add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }\n\
              add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited\n",
        )
        .unwrap();
        let begin = Instant::now();
        while !run("nft list ruleset").contains("reject") {
            assert!(begin.elapsed() < Duration::from_secs(5), "nft -i is slow");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut rules = start(desired());
        let [condition] = rules.conditions() else {
            panic!("{:?}", rules.conditions());
        };
        for words in [
            "inet firewalld filter_FORWARD",
            "Operation not permitted",
            "firewall-cmd --permanent --zone=trusted --add-interface=ringway0 && firewall-cmd --reload",
        ] {
            assert!(condition.why.contains(words), "{condition}");
        }
        // The table goes with its owner, and the condition with the table.
        drop(pipe);
        owner.wait().unwrap();
        // Of that the kernel tells nobody: it is seen at the next slow look.
        let late = Instant::now() + LOOK;
        look_with(&mut rules, &mut Ledger::default(), late);
        assert_eq!(rules.conditions(), []);
    });
}

#[test]
fn a_firewall_of_iptables_of_either_kind_lets_pods_through() {
    let name = "a_firewall_of_iptables_of_either_kind_lets_pods_through";
    let legacy = in_netns(|| Command::new("iptables-legacy").arg("-S").output());
    if !legacy.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED {name}: no older iptables tables in this kernel, or no iptables");
        return;
    }
    for (deny, how) in [
        ("-A FORWARD -j REJECT", "rejects by its last rule"),
        ("-P FORWARD DROP", "drops by policy"),
    ] {
        for kind in ["", "-legacy"] {
            in_netns(move || {
                let programs = ["iptables", "ip6tables"].map(|program| format!("{program}{kind}"));
                for program in &programs {
                    run(&format!(
                        "{program} -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"
                    ));
                    run(&format!("{program} {deny}"));
                }
                let ours = |program: &String| {
                    let listed = run(&format!("{program} -S FORWARD"));
                    let rules: Vec<&str> = listed.lines().skip(1).take(2).collect();
                    rules
                        .iter()
                        .filter(|rule| rule.contains("ringway0"))
                        .count()
                };
                let mut rules = start(desired());
                look(&mut rules);
                for program in &programs {
                    assert_eq!(ours(program), 2, "{program} {how}");
                }
                assert_eq!(rules.conditions(), []);
                let (done, failed) = remove("ringway0");
                assert_eq!((done.len(), failed.len()), (3, 0), "{done:?} {failed:?}");
                for program in &programs {
                    assert_eq!(ours(program), 0, "{program}");
                }
            });
        }
    }
    // Nobody asks the older programs where they have nothing: they would make tables.
    in_netns(|| {
        drop(start(desired()));
        let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
        assert_eq!(names.unwrap_or_default(), "");
    });
}

#[test]
fn rules_that_could_not_be_had_are_tried_again() {
    if !usable("rules_that_could_not_be_had_are_tried_again") {
        return;
    }
    in_netns(|| {
        let mut rules = start(desired());
        rules.table = Table::Failed("as if".into());
        run("nft flush ruleset");
        assert!(rules.describe().contains("as if"));
        look(&mut rules);
        assert_eq!(rules.describe(), "table inet ringway: masquerade");
    });
}

#[test]
fn unwanted_rules_are_none() {
    if !usable("unwanted_rules_are_none") {
        return;
    }
    in_netns(|| {
        drop(start(desired()));
        let rules = start(Desired {
            masquerade: false,
            ..desired()
        });
        assert_eq!(rules.describe(), "none wanted");
        assert_eq!(
            run("nft list ruleset"),
            "",
            "one of an earlier configuration is gone"
        );
    });
}

#[test]
fn whoever_flushes_the_rules_again_and_again_is_fought_and_named() {
    if !usable("whoever_flushes_the_rules_again_and_again_is_fought_and_named") {
        return;
    }
    in_netns(|| {
        run("nft add table ip strict");
        run("nft add chain ip strict c { type filter hook forward priority 0; policy drop; }");
        let mut rules = start(desired());
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        let mut restored = 0;
        for _ in 0..12 {
            run("nft delete table inet ringway");
            run("nft flush chain ip strict c");
            now += Duration::from_secs(1);
            look_with(&mut rules, &mut ledger, now);
            let set = run("nft list ruleset").contains("masquerade");
            restored += usize::from(set);
            if !set {
                // So that it can be deleted again.
                run("nft add table inet ringway");
            }
        }
        assert_eq!(restored, 6);
        let conditions = ledger.conditions(now);
        let what: Vec<&str> = conditions.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(what, ["chain ip strict c", "nftables table inet ringway"]);
        // Half a minute later it is tried once.
        now += Duration::from_secs(31);
        look_with(&mut rules, &mut ledger, now);
        assert!(run("nft list ruleset").contains("masquerade"));
        assert_eq!(
            run("nft list chain ip strict c")
                .matches("ringway0")
                .count(),
            2
        );
        // A pause leaves all of it.
        now += Duration::from_secs(100);
        look_with(&mut rules, &mut ledger, now);
        assert_eq!(ledger.conditions(now), []);
        ledger.pause(Duration::from_secs(60), now).unwrap();
        run("nft flush ruleset");
        now += Duration::from_secs(1);
        look_with(&mut rules, &mut ledger, now);
        assert_eq!(run("nft list ruleset"), "");
        ledger.resume();
        now += Duration::from_secs(1);
        look_with(&mut rules, &mut ledger, now);
        assert!(run("nft list ruleset").contains("masquerade"));
    });
}
