//! Another configuration while pods talk: what both sides can take is not lost, and what is wrong changes
//! nothing.

use crate::common::{LIMIT, assert_none, check_traffic};
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Agent, Encap, Family, Mode, Netns, NodeKind, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A change is in force within this time after the file was written.
const SOON: Duration = Duration::from_secs(5);

/// Numbered datagrams, one each millisecond, in one direction; every one of them is to arrive.
pub(crate) struct Volley {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<HashSet<u32>>,
    what: String,
}

impl Volley {
    pub(crate) fn start(what: &str, from: &Netns, to: &Netns, address: IpAddr) -> Volley {
        let server = to.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
        server
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let target = server.local_addr().unwrap();
        let any = match address {
            IpAddr::V4(_) => "0.0.0.0:0",
            IpAddr::V6(_) => "[::]:0",
        };
        let client = from.run(|| UdpSocket::bind(any).unwrap()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (one, two) = (stop.clone(), stop.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = 0u32;
            while !one.load(Ordering::Relaxed) {
                if client.send_to(&sent.to_be_bytes(), target).is_ok() {
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        let receiver = std::thread::spawn(move || {
            let mut seen = HashSet::new();
            let mut bytes = [0; 4];
            loop {
                match server.recv(&mut bytes) {
                    Ok(4) => {
                        seen.insert(u32::from_be_bytes(bytes));
                    }
                    Ok(_) => {}
                    Err(_) if two.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        Volley {
            stop,
            sender,
            receiver,
            what: what.into(),
        }
    }

    #[track_caller]
    pub(crate) fn all_arrived(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, seen) = (self.sender.join().unwrap(), self.receiver.join().unwrap());
        let lost: Vec<u32> = (0..sent).filter(|n| !seen.contains(n)).collect();
        println!("{}: {sent} sent", self.what);
        assert!(sent > 200, "{}: only {sent} were sent", self.what);
        assert!(
            lost.is_empty(),
            "{}: lost {} of {sent}, the first is {}",
            self.what,
            lost.len(),
            lost[0]
        );
    }
}

pub(crate) fn text(agent: &Agent) -> String {
    std::fs::read_to_string(agent.config()).unwrap()
}

/// Writes another file and waits until it is in force.
#[track_caller]
pub(crate) fn change(agent: &Agent, text: &str) {
    let before = status(agent, "changes").as_u64().unwrap();
    agent.write_config(text).unwrap();
    eventually("the file is in force", SOON, || {
        let error = status(agent, "error");
        assert!(error.is_null(), "{error}");
        status(agent, "changes").as_u64().unwrap() > before
    });
}

fn status(agent: &Agent, key: &str) -> serde_json::Value {
    agent.json(&["status"]).unwrap()["config"][key].clone()
}

/// Writes a file that is wrong; what is said of it.
#[track_caller]
fn refused(agent: &Agent, text: &str, words: &[&str]) {
    agent.write_config(text).unwrap();
    said(agent, words);
}

#[track_caller]
fn said(agent: &Agent, words: &[&str]) {
    eventually(&format!("{words:?} in the status"), SOON, || {
        let error = status(agent, "error");
        words
            .iter()
            .all(|word| error.as_str().is_some_and(|e| e.contains(word)))
    });
}

fn routes(node: &Netns, prefix: &str) -> String {
    let v6 = if prefix.contains(':') { "-6 " } else { "" };
    node.ip(&format!("{v6}route show {prefix}")).unwrap()
}

#[test]
fn peers_come_change_and_go_under_the_traffic_of_others() {
    let name = "peers_come_change_and_go_under_the_traffic_of_others";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let volleys = Family::BOTH.map(|family| {
            [(&p1, &p3), (&p3, &p1)].map(|(from, to)| {
                Volley::start(&family.to_string(), &from.ns, &to.ns, to.ip(family))
            })
        });
        let ns = topology.n1.ns.clone();
        let agent = topology.n1.agent().unwrap();
        let (pid, file) = (agent.pid(), text(agent));
        let third = |address: &str, cidrs: &str| {
            format!(
                "{file}[[peers]]\nname = \"node3\"\naddresses = [\"{address}\"]\npod_cidrs = [{cidrs}]\n"
            )
        };
        let tables = |agent: &Agent, what: &str| agent.cli(&["tables", what]).unwrap();
        change(
            agent,
            &third("192.168.77.3", "\"10.77.3.0/24\", \"fd77:3::/64\""),
        );
        assert!(tables(agent, "peers").contains("node3"));
        for prefix in ["10.77.3.0/24", "fd77:3::/64"] {
            assert!(routes(&ns, prefix).contains("ringway0"), "{prefix}");
        }
        change(
            agent,
            &third(
                "192.168.77.33",
                "\"10.77.3.0/24\", \"10.77.33.0/24\", \"10.77.2.99/32\"",
            ),
        );
        assert!(tables(agent, "peers").contains("192.168.77.33"));
        assert!(tables(agent, "routes").contains("10.77.2.99/32"));
        assert!(routes(&ns, "10.77.33.0/24").contains("ringway0"));
        assert!(routes(&ns, "10.77.2.99").contains("ringway0"));
        assert_eq!(routes(&ns, "fd77:3::/64"), "");
        change(agent, &file);
        assert!(!tables(agent, "peers").contains("node3"));
        for prefix in ["10.77.3.0/24", "10.77.33.0/24", "10.77.2.99"] {
            assert_eq!(routes(&ns, prefix), "");
        }
        // And many at once.
        let crowd: String = (0..200)
            .map(|n| {
                format!(
                    "[[peers]]\nname = \"crowd{n}\"\naddresses = [\"172.16.0.{n}\"]\npod_cidrs = [\"10.77.{}.0/24\"]\n",
                    n + 50
                )
            })
            .collect();
        change(agent, &format!("{file}{crowd}"));
        assert_eq!(agent.json(&["status"]).unwrap()["peers"], 201);
        change(agent, &file);
        std::thread::sleep(Duration::from_millis(300));
        volleys.into_iter().flatten().for_each(Volley::all_arrived);
        assert_eq!(agent.pid(), pid, "the agent was started again");
        let restored = agent.json(&["status"]).unwrap()["reconcile"]["restored"].clone();
        assert_eq!(
            restored,
            0,
            "its own changes passed for somebody else's:\n{}",
            agent.log()
        );
    });
}

#[test]
fn a_network_moves_from_peer_to_peer_and_nothing_is_lost() {
    let name = "a_network_moves_from_peer_to_peer_and_nothing_is_lost";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let agent = topology.n1.agent().unwrap();
        let file = text(agent);
        let head = &file[..file.find("[[peers]]").unwrap()];
        // Both are node 2, by its two outer addresses: either can take what is sent there.
        let peers = |one: &str, other: &str| {
            format!(
                "{head}[[peers]]\nname = \"node2\"\naddresses = [\"192.168.77.2\"]\npod_cidrs = [{one}]\n\
                 [[peers]]\nname = \"again\"\naddresses = [\"fd00:77::2\"]\npod_cidrs = [{other}]\n\
                 vtep_mac = \"{}\"\n",
                "0a:58:0a:4d:02:00"
            )
        };
        let (network, others) = ("\"10.77.2.0/24\"", ["\"10.77.8.0/24\"", "\"10.77.9.0/24\""]);
        let both = |one: &str| format!("{network}, {one}");
        change(agent, &peers(&both(others[0]), others[1]));
        let volley = Volley::start(name, &p1.ns, &p3.ns, p3.ip(Family::V4));
        for _ in 0..3 {
            change(agent, &peers(others[0], &both(others[1])));
            let paths = agent.cli(&["tables", "routes"]).unwrap();
            let line = paths.lines().find(|l| l.contains("10.77.2.0/24")).unwrap();
            assert!(line.contains("again"), "{line}");
            std::thread::sleep(Duration::from_millis(200));
            change(agent, &peers(&both(others[0]), others[1]));
            // A longer prefix takes the pod along, and gives it back.
            let (one, host) = (both(others[0]), "\"10.77.2.2/32\"");
            change(agent, &peers(&one, &format!("{host}, {}", others[1])));
            std::thread::sleep(Duration::from_millis(200));
            change(agent, &peers(&one, others[1]));
        }
        volley.all_arrived();
    });
}

#[test]
fn a_path_changes_from_vxlan_to_udp_and_nothing_is_lost() {
    let name = "a_path_changes_from_vxlan_to_udp_and_nothing_is_lost";
    network_test(name, Duration::from_secs(60), || {
        let options = RingwayOptions {
            encap: Encap::Udp,
            ..RingwayOptions::default()
        };
        let kind = || NodeKind::Ringway(options.clone());
        let mut topology = Topology::build(Mode::Full, kind(), kind()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let files = [
            text(topology.n1.agent().unwrap()),
            text(topology.n2.agent().unwrap()),
        ];
        // Both have sockets of both.
        let vxlan = |text: &str| {
            let (head, peer) = text.split_at(text.find("[[peers]]").unwrap());
            format!("{head}{}encap = \"vxlan\"\n", peer)
        };
        let mut set = |node: usize, text: &str| {
            let node = if node == 0 {
                &mut topology.n1
            } else {
                &mut topology.n2
            };
            change(node.agent().unwrap(), text);
        };
        // What no socket takes is lost, so a node learns to receive before another begins to send: the first
        // peer that has an encapsulation opens its sockets.
        let other = "[[peers]]\nname = \"x\"\naddresses = [\"192.168.77.77\"]\npod_cidrs = [\"10.77.77.0/24\"]\nencap = \"vxlan\"\n";
        for (node, file) in files.iter().enumerate() {
            set(node, &format!("{file}{other}"));
        }
        let volleys = Family::BOTH.map(|family| {
            [(&p1, &p3), (&p3, &p1)].map(|(from, to)| {
                Volley::start(&family.to_string(), &from.ns, &to.ns, to.ip(family))
            })
        });
        for _ in 0..2 {
            for (node, file) in files.iter().enumerate() {
                set(node, &vxlan(file));
                std::thread::sleep(Duration::from_millis(300));
            }
            for node in [1, 0] {
                set(node, &files[node]);
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        volleys.into_iter().flatten().for_each(Volley::all_arrived);
        let paths = topology
            .n1
            .agent()
            .unwrap()
            .cli(&["tables", "paths"])
            .unwrap();
        assert!(paths.contains("udp") && !paths.contains("vxlan"), "{paths}");
    });
}

#[test]
fn what_is_wrong_changes_nothing_and_is_said_once() {
    let name = "what_is_wrong_changes_nothing_and_is_said_once";
    network_test(name, Duration::from_secs(120), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let volley = Volley::start(name, &p1.ns, &p3.ns, p3.ip(Family::V4));
        let agent = topology.n1.agent().unwrap();
        let (file, path) = (text(agent), agent.config());
        let right = |agent: &Agent| {
            eventually("right again", SOON, || status(agent, "error").is_null());
        };
        // Broken: with the line.
        refused(
            agent,
            &file.replace("polling = ", "polling : "),
            &["ringway.toml:", "polling"],
        );
        let duplicate = format!(
            "{file}[[peers]]\nname = \"node9\"\naddresses = [\"192.168.77.9\"]\npod_cidrs = [\"10.77.2.0/24\"]\n"
        );
        let line = duplicate.lines().count();
        refused(
            agent,
            &duplicate,
            &[
                &format!("ringway.toml:{line}"),
                "10.77.2.0/24 is node2's already",
            ],
        );
        // It is named where it was, and once.
        std::thread::sleep(Duration::from_secs(3));
        let log = std::fs::read_to_string(agent.log_path()).unwrap();
        let times = log
            .lines()
            .filter(|l| l.contains("node2's already"))
            .count();
        assert_eq!(times, 1, "{log}");
        agent.write_config(&file).unwrap();
        right(agent);
        // Its pods' network cannot be taken away from under them.
        refused(
            agent,
            &file.replace("10.77.1.0/24\"", "10.77.4.0/24\""),
            &["node.pod_cidrs", "10.77.1.0/24 still has pods: 2"],
        );
        agent.write_config(&file).unwrap();
        right(agent);
        // Half written: longer than the agent waits for anything.
        let more = format!(
            "{file}[[peers]]\nname = \"node3\"\naddresses = [\"192.168.77.3\"]\npod_cidrs = [\"10.77.3.0/24\"]\n"
        );
        let before = status(agent, "changes");
        let cut = more.find("[[peers]]").unwrap();
        let mut writer = std::fs::File::create(&path).unwrap();
        writer.write_all(&more.as_bytes()[..cut]).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        assert!(status(agent, "error").is_null());
        assert_eq!(status(agent, "changes"), before, "half a file was read");
        writer.write_all(&more.as_bytes()[cut..]).unwrap();
        drop(writer);
        eventually("all of it", SOON, || {
            agent.json(&["status"]).unwrap()["peers"] == 2
        });
        // Renamed away, and back.
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        said(agent, &["cannot be read"]);
        assert_eq!(agent.json(&["status"]).unwrap()["peers"], 2);
        std::fs::rename(&away, &path).unwrap();
        right(agent);
        // Replaced by rename, as editors do.
        std::fs::write(&away, &file).unwrap();
        std::fs::rename(&away, &path).unwrap();
        eventually("the other file", SOON, || {
            agent.json(&["status"]).unwrap()["peers"] == 1
        });
        // A mounted ConfigMap: folder and file are links, and one is swapped.
        let folder = agent.folder().to_owned();
        for (version, text) in [("..1", &file), ("..2", &more)] {
            std::fs::create_dir(folder.join(version)).unwrap();
            std::fs::write(folder.join(version).join("ringway.toml"), text).unwrap();
        }
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/ringway.toml", folder.join("link")).unwrap();
        std::fs::rename(folder.join("link"), &path).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        symlink("..2", folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
        eventually("the swapped link", SOON, || {
            agent.json(&["status"]).unwrap()["peers"] == 2
        });
        volley.all_arrived();
    });
}

#[test]
fn keys_that_wait_for_a_restart_are_named() {
    let name = "keys_that_wait_for_a_restart_are_named";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let ns = topology.n1.ns.clone();
        let agent = topology.n1.agent().unwrap();
        let file = text(agent);
        let masquerade = |ns: &Netns| {
            ns.command("nft", "list tables")
                .unwrap()
                .contains("inet ringway")
        };
        assert!(masquerade(&ns));
        let other = file.replace("count = 1", "count = 2") + "[egress]\nmasquerade = false\n";
        change(agent, &other);
        assert!(!masquerade(&ns), "masquerade is a live key");
        let waiting = status(agent, "needs_restart");
        assert_eq!(waiting[0], "workers.count is 2, was 1", "{waiting}");
        assert_eq!(waiting.as_array().unwrap().len(), 1, "{waiting}");
        let shown = agent.cli(&["status"]).unwrap();
        assert!(shown.contains("workers.count is 2, was 1"), "{shown}");
        let binary = agent.binary().display().to_string();
        let words = format!(
            "--config {} config check --running",
            agent.config().display()
        );
        let error = ns.command(&binary, &words).unwrap_err().to_string();
        assert!(error.contains("workers.count is 2, was 1"), "{error}");
        let reload = agent.cli(&["config", "reload"]).unwrap();
        assert!(
            reload.contains("waits for a restart of the agent: workers.count"),
            "{reload}"
        );
        change(agent, &file);
        assert!(masquerade(&ns));
        let in_force = ns.command(&binary, &words).unwrap();
        assert!(in_force.contains("is in force"), "{in_force}");
        assert!(
            agent
                .cli(&["config", "reload"])
                .unwrap()
                .contains("is what runs")
        );
    });
}

#[test]
fn an_underlay_address_comes_and_goes() {
    let name = "an_underlay_address_comes_and_goes";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        // The other node knows both, and sends to the first.
        let file2 = text(topology.n2.agent().unwrap());
        let order = |first: &str, second: &str| {
            let both = format!("[\"{first}\", \"{second}\",");
            file2.replace("[\"192.168.77.1\",", &both)
        };
        let (old, new) = ("192.168.77.1", "192.168.77.11");
        change(topology.n2.agent().unwrap(), &order(old, new));
        let ns = topology.n1.ns.clone();
        let agent = topology.n1.agent().unwrap();
        let file = text(agent);
        let with = |address: &str| {
            file.replace(
                "[underlay]\n",
                &format!("[underlay]\naddresses = [\"{address}\", \"fd00:77::1\"]\n"),
            )
        };
        refused(
            agent,
            &with("192.168.77.11"),
            &[
                "underlay.addresses[0]",
                "does not have the address 192.168.77.11",
            ],
        );
        ns.ip("address add 192.168.77.11/24 dev eth0").unwrap();
        agent.signal(nix::libc::SIGHUP).unwrap();
        let uses = |agent: &Agent, address: &str| {
            let status = agent.json(&["status"]).unwrap();
            status["underlay"]["addresses"][0] == address
        };
        eventually("the added address", SOON, || uses(agent, "192.168.77.11"));
        change(topology.n2.agent().unwrap(), &order(new, old));
        assert_none(&check_traffic(name, &p1.ns, &p3.ns, p3.ip(Family::V4)));
        let agent = topology.n1.agent().unwrap();
        change(agent, &file);
        eventually("the first address", SOON, || uses(agent, "192.168.77.1"));
        change(topology.n2.agent().unwrap(), &order(old, new));
        ns.ip("address del 192.168.77.11/24 dev eth0").unwrap();
        assert_none(&check_traffic(name, &p1.ns, &p3.ns, p3.ip(Family::V4)));
    });
}

#[test]
fn an_address_is_borrowed_from_another_nodes_network() {
    let name = "an_address_is_borrowed_from_another_nodes_network";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Full, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        // Node 1 gets a second network, and one address of node 2's in each family.
        let new = "\"10.78.1.0/24\", \"10.77.2.200/32\", \"fd77:2::c8/128\"";
        let extend = |text: &str, networks: &str| {
            text.replace(networks, &format!("{networks}, {new}"))
                .replace("\"10.77.0.0/16\"", "\"10.77.0.0/16\", \"10.78.0.0/16\"")
        };
        let networks = "\"10.77.1.0/24\", \"fd77:1::/64\"";
        for node in [&mut topology.n2, &mut topology.n1] {
            let agent = node.agent().unwrap();
            change(agent, &extend(&text(agent), networks));
        }
        let mut failures = Vec::new();
        for (i, ips) in [["10.77.2.200", "fd77:2::c8"], ["10.78.1.2", "fd77:1::99"]]
            .iter()
            .enumerate()
        {
            let pod = Netns::create(&topology.lab.name(&format!("b{i}"))).unwrap();
            let netns = pod.path().display().to_string();
            let agent = topology.n1.agent().unwrap();
            agent
                .cli(&["attach", "--netns", &netns, "--ip", ips[0], "--ip", ips[1]])
                .unwrap();
            for ip in ips {
                let ip: IpAddr = ip.parse().unwrap();
                // A pod of the same node, one that takes it for its neighbour, and both nodes.
                failures.extend(check_traffic("same node", &p1.ns, &pod, ip));
                failures.extend(check_traffic("across", &p3.ns, &pod, ip));
                for node in [&topology.n1.ns, &topology.n2.ns] {
                    let answers = ping(node, ip, 2, 56, LIMIT).unwrap();
                    if !answers.all() {
                        failures.push(format!("{ip} from {}: {answers}", node.name()));
                    }
                }
            }
            pod.delete().unwrap();
        }
        assert_none(&failures);
    });
}
