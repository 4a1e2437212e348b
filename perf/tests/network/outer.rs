//! Outer addresses that come and go while an agent runs: a better one, one that nobody uses, and under traffic.

use crate::common::{assert_none, check_traffic};
use crate::harness::{eventually, network_test};
use crate::live::{Volley, change, text};
use ringway_perf::lab::{Family, Io, Mode, Netns, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::{OutageProbe, ping};
use std::thread::sleep;
use std::time::Duration;

/// Node 1's address from the beginning, and a better one.
const OLD: [&str; 2] = ["192.168.77.1", "fd00:77::1"];
const NEW: [&str; 2] = ["192.168.77.11", "fd00:77::11"];
/// Two looks, a second apart, the first within a second.
const TAKEN: Duration = Duration::from_secs(5);
/// How long packets may stop when the address goes that is in use.
const INTERRUPTION: Duration = Duration::from_secs(3);

/// Two nodes and three pods. Node 2 knows both addresses of node 1's and sends to the old one, because it is first.
fn build(io: Io) -> (Topology, [Pod; 3]) {
    let options = RingwayOptions {
        io,
        ..RingwayOptions::default()
    };
    let mut topology = Topology::ringway(Mode::Full, &options).unwrap();
    let pods = topology.add_three_pods().unwrap();
    let agent = topology.n2.agent().unwrap();
    let alone = format!("[{:?}, {:?}]", OLD[0], OLD[1]);
    let both = format!("[{:?}, {:?}, {:?}, {:?}]", OLD[0], NEW[0], OLD[1], NEW[1]);
    let file = text(agent);
    assert!(file.contains(&alone), "{file}");
    change(agent, &file.replace(&alone, &both));
    (topology, pods)
}

/// What makes the old ones bad: the kernel sends from a deprecated IPv6 address only when there is no other, and
/// from an IPv4 address of a host only while no network's route is better than the one that leads there now.
fn make_old_bad(node: &Netns) {
    node.ip_batch(&format!(
        "addr del {v4}/24 dev eth0\n\
         addr add {v4}/32 dev eth0 valid_lft 3600 preferred_lft 3600\n\
         route add 192.168.77.0/24 dev eth0 src {v4} metric 100\n\
         addr change {v6}/64 dev eth0 preferred_lft 0\n",
        v4 = OLD[0],
        v6 = OLD[1]
    ))
    .unwrap();
}

fn new_ones(node: &Netns, verb: &str) {
    let nodad = if verb == "add" { "nodad" } else { "" };
    node.ip_batch(&format!(
        "addr {verb} {}/24 dev eth0\naddr {verb} {}/64 dev eth0 {nodad}\n",
        NEW[0], NEW[1]
    ))
    .unwrap();
}

/// Waits until node 1 uses these addresses: in its status, and in the paths that workers have.
#[track_caller]
fn uses(topology: &mut Topology, addresses: [&str; 2]) -> Duration {
    let agent = topology.n1.agent().unwrap();
    let took = eventually(&format!("{addresses:?} are used"), TAKEN, || {
        let status = agent.json(&["status"]).unwrap();
        status["underlay"]["addresses"] == serde_json::json!(addresses)
    });
    let paths = agent.cli(&["tables", "paths"]).unwrap();
    for address in addresses {
        let words = || paths.split_whitespace();
        assert!(words().any(|word| word == address), "{paths}");
    }
    took
}

/// Where node 1 receives.
fn sockets(topology: &mut Topology) -> Vec<String> {
    let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
    let sockets = status["underlay"]["sockets"].as_array().unwrap();
    let local = |socket: &serde_json::Value| socket["local"].as_str().unwrap().to_owned();
    let mut all: Vec<String> = sockets.iter().map(local).collect();
    all.sort();
    all
}

fn at(addresses: &[&str]) -> Vec<String> {
    let local = |ip: &&str| match ip.contains(':') {
        true => format!("[{ip}]:8472"),
        false => format!("{ip}:8472"),
    };
    let mut all: Vec<String> = addresses.iter().map(local).collect();
    all.sort();
    all
}

fn talk(what: &str, [p1, _, p3]: &[Pod; 3]) {
    let mut failures = Vec::new();
    for family in Family::BOTH {
        failures.extend(check_traffic(what, &p1.ns, &p3.ns, p3.ip(family)));
        failures.extend(check_traffic(what, &p3.ns, &p1.ns, p1.ip(family)));
    }
    assert_none(&failures);
}

#[test]
fn a_better_outer_address_is_taken_and_given_back() {
    let name = "a_better_outer_address_is_taken_and_given_back";
    network_test(name, Duration::from_secs(60), || {
        let (mut topology, pods) = build(Io::Socket);
        let node = topology.n1.ns.clone();
        // The agent starts with nothing better than that.
        let agent = topology.n1.agent().unwrap();
        assert!(agent.stop());
        make_old_bad(&node);
        agent.start().unwrap();
        uses(&mut topology, OLD);
        assert_eq!(sockets(&mut topology), at(&OLD));
        let pid = topology.n1.agent().unwrap().pid();

        new_ones(&node, "add");
        uses(&mut topology, NEW);
        let agent = topology.n1.agent().unwrap();
        let log = agent.log();
        let said = "outer addresses are [192.168.77.11, fd00:77::11] now";
        assert!(log.contains(said), "{log}");
        let status = agent.json(&["status"]).unwrap();
        assert_eq!(status["conditions"], serde_json::json!([]), "{status:#}");
        let choices = &status["underlay"]["choices"];
        for (choice, old) in choices.as_array().unwrap().iter().zip(OLD) {
            assert_eq!(choice["passed_over"][0]["address"], old, "{choices:#}");
        }
        // Node 2 goes on sending to the old ones, which the node still has.
        assert_eq!(sockets(&mut topology), at(&[OLD, NEW].concat()));
        talk("the better ones", &pods);

        new_ones(&node, "del");
        uses(&mut topology, OLD);
        assert_eq!(sockets(&mut topology), at(&OLD));
        talk("the old ones again", &pods);
        let agent = topology.n1.agent().unwrap();
        assert!(
            agent
                .log()
                .contains("outer addresses are [192.168.77.1, fd00:77::1] now")
        );
        assert_eq!(agent.pid(), pid, "it was started again");
        // The better ones' sockets are closed.
        let holders = node.command("ss", "-Hlun").unwrap();
        assert!(
            !holders.contains("77.11:") && !holders.contains("77::11]"),
            "{holders}"
        );
    });
}

#[test]
fn an_address_that_nobody_uses_comes_and_goes_without_a_loss() {
    let name = "an_address_that_nobody_uses_comes_and_goes_without_a_loss";
    network_test(name, Duration::from_secs(60), || {
        for io in [Io::Socket, Io::Xdp] {
            let (mut topology, [p1, p2, p3]) = build(io);
            let node = topology.n1.ns.clone();
            let agent = topology.n1.agent().unwrap();
            let before = agent.json(&["status"]).unwrap()["snapshot"].clone();
            let pairs = [(&p1, &p3), (&p3, &p1), (&p1, &p2)];
            for family in Family::BOTH {
                // Neighbours know each other: a solicitation that is lost costs a second of packets.
                for (from, to) in pairs {
                    let answers = ping(&from.ns, to.ip(family), 1, 56, TAKEN).unwrap();
                    assert!(answers.all(), "{io} {family}: {answers}");
                }
            }
            let mut volleys = Vec::new();
            for family in Family::BOTH {
                for (n, (from, to)) in pairs.into_iter().enumerate() {
                    let what = format!("{io} {family} pair {n}");
                    let (from, to, ip) = (&from.ns, &to.ns, to.ip(family));
                    volleys.push(Volley::start(&what, from, to, ip));
                }
            }
            // Second of their networks, and of others.
            let ones = ["192.168.77.21/24", "192.168.78.21/24", "fd00:78::21/64"];
            for verb in ["add", "del"] {
                let lines = ones.map(|ip| format!("addr {verb} {ip} dev eth0\n"));
                node.ip_batch(&lines.concat()).unwrap();
                sleep(Duration::from_millis(1800));
            }
            volleys.into_iter().for_each(Volley::all_arrived);
            let agent = topology.n1.agent().unwrap();
            let after = agent.json(&["status"]).unwrap()["snapshot"].clone();
            println!("{io}: tables {before} before, {after} after");
            assert!(
                !agent.log().contains("outer addresses are"),
                "{}",
                agent.log()
            );
        }
    });
}

#[test]
fn another_outer_address_interrupts_traffic_for_a_moment_at_most() {
    let name = "another_outer_address_interrupts_traffic_for_a_moment_at_most";
    network_test(name, Duration::from_secs(60), || {
        for io in [Io::Socket, Io::Xdp] {
            let (mut topology, [p1, p2, p3]) = build(io);
            let node = topology.n1.ns.clone();
            make_old_bad(&node);
            let same = Family::BOTH
                .map(|family| Volley::start("same node", &p1.ns, &p2.ns, p2.ip(family)));
            for (verb, addresses) in [("add", NEW), ("del", OLD)] {
                let probes = Family::BOTH
                    .map(|family| OutageProbe::start(&p1.ns, &p3.ns, p3.ip(family)).unwrap());
                sleep(Duration::from_millis(100));
                new_ones(&node, verb);
                let took = uses(&mut topology, addresses);
                sleep(Duration::from_millis(800));
                for (family, probe) in Family::BOTH.into_iter().zip(probes) {
                    let outage = probe.finish();
                    println!("{io}, {verb}, {family}: in use after {took:?}; {outage:?}");
                    assert!(outage.longest < INTERRUPTION, "{outage:?}");
                    if verb == "add" && io == Io::Socket {
                        // Rings are opened anew; sockets at the old address go on receiving.
                        assert_eq!(outage.sent, outage.answered, "{outage:?}");
                    }
                    assert!(outage.answered > 100, "{outage:?}");
                }
            }
            same.into_iter().for_each(Volley::all_arrived);
        }
    });
}
