//! `ringway0` is looked after: whatever somebody else changes on it is back within seconds.

use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Cni, Family, Mode, Netns, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::time::{Duration, Instant};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(3);

/// One thing that somebody may change.
struct Row {
    what: &'static str,
    /// `ip` commands, or `sysctl KEY=VALUE`, in the node's namespace.
    change: &'static [&'static str],
    /// A command and what its output must have in it afterwards, or not have after a `!`.
    restored: (&'static str, &'static str),
}

const fn row(
    what: &'static str,
    change: &'static [&'static str],
    restored: (&'static str, &'static str),
) -> Row {
    Row {
        what,
        change,
        restored,
    }
}

/// Node 1's. The next hops are those of `kernel/src/node.rs`.
const ROWS: &[Row] = &[
    row(
        "IPv4 gateway",
        &["addr del 10.77.1.1/24 dev ringway0"],
        ("-4 addr show dev ringway0", "inet 10.77.1.1/24"),
    ),
    row(
        "IPv6 gateway",
        &["addr del fd77:1::1/64 dev ringway0"],
        ("-6 addr show dev ringway0", "inet6 fd77:1::1/64"),
    ),
    row(
        "IPv4 network address",
        &["addr del 10.77.1.0/32 dev ringway0"],
        ("-4 addr show dev ringway0", "inet 10.77.1.0/32"),
    ),
    row(
        "all addresses",
        &["addr flush dev ringway0"],
        ("addr show dev ringway0", "inet6 fd77:1::1/64"),
    ),
    row(
        "a lifetime",
        &["addr change fd77:1::1/64 dev ringway0 preferred_lft 0 valid_lft forever"],
        (
            "-6 addr show dev ringway0",
            "fd77:1::1/64 scope global nodad",
        ),
    ),
    row(
        "MAC address",
        &["link set ringway0 address 02:00:00:00:00:99"],
        ("link show dev ringway0", "02:52:57:00:00:01"),
    ),
    row(
        "MTU",
        &["link set ringway0 mtu 1300"],
        ("link show dev ringway0", "mtu 1430"),
    ),
    row(
        "MTU below what IPv6 needs",
        &["link set ringway0 mtu 1000"],
        ("-6 addr show dev ringway0", "inet6 fd77:1::1/64"),
    ),
    row(
        "limits of superframes",
        &["link set ringway0 gso_max_segs 1"],
        ("-d link show dev ringway0", "gso_max_segs 45"),
    ),
    row(
        "down",
        &["link set ringway0 down"],
        ("link show dev ringway0", ",UP"),
    ),
    row(
        "ARP",
        &["link set ringway0 arp off"],
        ("link show dev ringway0", "<BROADCAST,MULTICAST,UP"),
    ),
    row(
        "part of a bridge",
        &["link add br9 type bridge", "link set ringway0 master br9"],
        ("link show dev ringway0", "!master"),
    ),
    row(
        "carrier",
        &["link set ringway0 carrier off"],
        ("link show dev ringway0", ",LOWER_UP"),
    ),
    row(
        "name",
        &["link set ringway0 down", "link set ringway0 name other0"],
        ("link show dev ringway0", ",UP"),
    ),
    row(
        "the interface",
        &["link del ringway0"],
        ("link show dev ringway0", ",UP"),
    ),
    row(
        "IPv4 route to a peer's pods",
        &["route del 10.77.2.0/24"],
        (
            "-4 route show",
            "10.77.2.0/24 via 169.254.82.87 dev ringway0",
        ),
    ),
    row(
        "IPv6 route to a peer's pods",
        &["-6 route del fd77:2::/64"],
        (
            "-6 route show",
            "fd77:2::/64 via fe80::52:57ff:fe00:1 dev ringway0",
        ),
    ),
    row(
        "IPv4 route to own pods",
        &["route del 10.77.1.0/24 dev ringway0"],
        ("-4 route show", "10.77.1.0/24 dev ringway0"),
    ),
    row(
        "IPv6 route to own pods",
        &["-6 route del fd77:1::/64 dev ringway0"],
        ("-6 route show", "fd77:1::/64 dev ringway0"),
    ),
    row(
        "IPv4 route to somewhere else",
        &["route replace 10.77.2.0/24 via 192.168.77.2"],
        (
            "-4 route show",
            "10.77.2.0/24 via 169.254.82.87 dev ringway0",
        ),
    ),
    row(
        "IPv4 next hop's neighbour",
        &["neigh del 169.254.82.87 dev ringway0"],
        (
            "neigh show dev ringway0",
            "169.254.82.87 lladdr 02:52:57:00:00:01 PERMANENT",
        ),
    ),
    row(
        "IPv6 next hop's neighbour",
        &["neigh replace fe80::52:57ff:fe00:1 dev ringway0 lladdr 02:00:00:00:00:99 nud permanent"],
        (
            "neigh show dev ringway0",
            "fe80::52:57ff:fe00:1 lladdr 02:52:57:00:00:01 PERMANENT",
        ),
    ),
    row(
        "a pod's IPv4 neighbour",
        &["neigh del 10.77.1.2 dev ringway0"],
        (
            "neigh show dev ringway0",
            "10.77.1.2 lladdr 0a:58:0a:4d:01:02 PERMANENT",
        ),
    ),
    row(
        "a pod's IPv6 neighbour",
        &["neigh replace fd77:1::2 dev ringway0 lladdr 02:00:00:00:00:99 nud permanent"],
        (
            "neigh show dev ringway0",
            "fd77:1::2 lladdr 0a:58:0a:4d:01:02 PERMANENT",
        ),
    ),
    row(
        "disable_ipv6",
        &["sysctl ipv6/conf/ringway0/disable_ipv6=1"],
        ("-6 addr show dev ringway0", "inet6 fd77:1::1/64"),
    ),
    row(
        "disable_ipv6 of all",
        &[
            "sysctl ipv6/conf/all/disable_ipv6=1",
            "sysctl ipv6/conf/eth0/disable_ipv6=0",
            "sysctl ipv6/conf/eth0/accept_dad=0",
            "addr add fd00:77::1/64 dev eth0 nodad",
        ],
        ("-6 addr show dev ringway0", "inet6 fd77:1::1/64"),
    ),
    row(
        "IPv4 forwarding",
        &["sysctl ipv4/ip_forward=0"],
        ("sysctl ipv4/ip_forward", "1"),
    ),
    row(
        "IPv4 forwarding of the interface",
        &["sysctl ipv4/conf/ringway0/forwarding=0"],
        ("sysctl ipv4/conf/ringway0/forwarding", "1"),
    ),
    row(
        "IPv6 forwarding",
        &["sysctl ipv6/conf/all/forwarding=0"],
        ("sysctl ipv6/conf/all/forwarding", "1"),
    ),
    row(
        "rp_filter",
        &["sysctl ipv4/conf/ringway0/rp_filter=1"],
        ("sysctl ipv4/conf/ringway0/rp_filter", "2"),
    ),
    row(
        "send_redirects",
        &["sysctl ipv4/conf/ringway0/send_redirects=1"],
        ("sysctl ipv4/conf/ringway0/send_redirects", "0"),
    ),
    row(
        "accept_local",
        &["sysctl ipv4/conf/ringway0/accept_local=0"],
        ("sysctl ipv4/conf/ringway0/accept_local", "1"),
    ),
    row(
        "accept_ra",
        &["sysctl ipv6/conf/ringway0/accept_ra=1"],
        ("sysctl ipv6/conf/ringway0/accept_ra", "0"),
    ),
];

#[test]
fn what_somebody_changes_is_back_within_three_seconds() {
    network_test(
        "what_somebody_changes_is_back_within_three_seconds",
        Duration::from_secs(300),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let mut failures = Vec::new();
            let mut mended = 0;
            for row in ROWS {
                let result = change_and_wait(&topology.n1.ns, row);
                let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
                let now = status["reconcile"]["restored"].as_u64().unwrap_or(0);
                println!(
                    "{}: {result:?}, {} set again",
                    row.what,
                    now.saturating_sub(mended)
                );
                let counted = now > mended;
                mended = now;
                let reaches = reaches(&topology.n1.ns, &[&p1, &p3]);
                match result {
                    Ok(_) if counted && reaches => {}
                    Ok(_) => failures.push(format!(
                        "{}: counted {counted}, the node reaches its pods and the peer's {reaches}",
                        row.what
                    )),
                    Err(e) => {
                        failures.push(format!("{}: {e}", row.what));
                        // So that the next row finds it whole.
                        let agent = topology.n1.agent().unwrap();
                        agent.stop();
                        agent.start().unwrap();
                        mended = 0;
                    }
                }
            }
            let log = std::fs::read_to_string(topology.n1.agent().unwrap().log_path()).unwrap();
            let lines: Vec<&str> = log.lines().filter(|l| l.contains("; restored: ")).collect();
            let texts = lines.iter().map(|l| l.split("; restored: ").nth(1));
            let texts: std::collections::BTreeSet<_> = texts.collect();
            if texts.len() != lines.len() {
                failures.push(format!("logged more than once: {lines:#?}"));
            }
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        },
    );
}

/// Whether the node reaches these pods in both families, within the time there is.
fn reaches(node: &Netns, pods: &[&Pod]) -> bool {
    let begin = Instant::now();
    let one = |pod: &Pod, family| {
        let answers = ping(node, pod.ip(family), 1, 56, Duration::from_millis(300));
        answers.is_ok_and(|answers| answers.all())
    };
    loop {
        let all = pods
            .iter()
            .all(|pod| Family::BOTH.iter().all(|family| one(pod, *family)));
        if all || begin.elapsed() > WITHIN {
            return all;
        }
    }
}

/// How long it took until what was changed is back.
fn change_and_wait(ns: &Netns, row: &Row) -> Result<Duration, String> {
    for line in row.change {
        command(ns, line).map_err(|e| format!("{line}: {e}"))?;
    }
    let (look, wanted) = row.restored;
    let begin = Instant::now();
    loop {
        let now = command(ns, look).unwrap_or_else(|e| e);
        if has(&now, wanted) {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > WITHIN {
            return Err(format!("{wanted:?} is not in `{look}`: {now}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the output has it in it; after a `!`, that it has not.
fn has(output: &str, wanted: &str) -> bool {
    match wanted.strip_prefix('!') {
        Some(unwanted) => !output.contains(unwanted),
        None => output.contains(wanted),
    }
}

/// `ip ARGS`, or a kernel setting that is read or set.
fn command(ns: &Netns, line: &str) -> Result<String, String> {
    let Some(setting) = line.strip_prefix("sysctl ") else {
        return ns.ip(line).map_err(|e| e.to_string());
    };
    let path = |key: &str| format!("/proc/sys/net/{key}");
    let work = || match setting.split_once('=') {
        Some((key, value)) => std::fs::write(path(key), value).map(|()| String::new()),
        None => std::fs::read_to_string(path(setting)),
    };
    ns.run(work)
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

/// What is broken while no agent runs is mended by the next.
#[test]
fn a_restart_mends_what_somebody_changed() {
    network_test(
        "a_restart_mends_what_somebody_changed",
        Duration::from_secs(300),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let mut failures = Vec::new();
            for row in ROWS {
                let agent = topology.n1.agent().unwrap();
                agent.kill();
                for line in row.change {
                    if let Err(e) = command(&topology.n1.ns, line) {
                        failures.push(format!("{}: {line}: {e}", row.what));
                    }
                }
                topology.n1.agent().unwrap().start().unwrap();
                let (look, wanted) = row.restored;
                let now = command(&topology.n1.ns, look).unwrap_or_else(|e| e);
                if !has(&now, wanted) {
                    failures.push(format!(
                        "{}: {wanted:?} is not in `{look}`: {now}",
                        row.what
                    ));
                }
                if !reaches(&topology.n1.ns, &[&p1, &p3]) {
                    failures.push(format!("{}: the node reaches no pods", row.what));
                }
            }
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        },
    );
}

/// Somebody else's interface in the place of the node port: CNI says so, and all is well when it is gone.
#[test]
fn what_cannot_be_set_right_fails_status_and_check() {
    network_test(
        "what_cannot_be_set_right_fails_status_and_check",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            let pod = topology.n1.new_pod().unwrap();
            let agent = topology.n1.agent().unwrap();
            let cni = Cni::ringway(agent, "1.1.0").unwrap();
            let result = cni.add("c1", &pod.ns).unwrap().unwrap();
            let cni = cni.with("prevResult", result);
            let verbs = |code: u64| {
                let calls = [
                    cni.call("STATUS", "", None).unwrap(),
                    cni.call("CHECK", "c1", Some(&pod.ns)).unwrap(),
                ];
                // 50: the specification's, for STATUS; 102: ours.
                match code {
                    0 => calls.iter().all(Result::is_ok),
                    _ => calls
                        .iter()
                        .zip([50, 102])
                        .all(|(call, code)| call.as_ref().is_err_and(|e| e.code == code)),
                }
            };
            assert!(verbs(0));
            let node = topology.n1.ns.clone();
            node.ip_batch("link del ringway0\nlink add ringway0 type bridge\n")
                .unwrap();
            eventually("STATUS and CHECK fail", WITHIN, || verbs(50));
            let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
            let failure = status["conditions"].to_string();
            assert!(
                failure.contains("not a TAP") && failure.contains("node.interface"),
                "{failure}"
            );
            // Pods among each other do not need it.
            let answers = ping(&p1.ns, p3.ip(Family::V4), 1, 56, WITHIN).unwrap();
            assert!(answers.all(), "{answers}");
            node.ip("link del ringway0").unwrap();
            eventually("STATUS and CHECK succeed", WITHIN, || verbs(0));
            assert!(reaches(&node, &[&p1, &p3]));
        },
    );
}
