//! What `ringway trace` says of a packet is what becomes of it, and saying so changes nothing.

use crate::common::LIMIT;
use crate::harness::{eventually, network_test};
use ringway_perf::lab::{Agent, Family, Mode, Node, Pod, RingwayOptions, Topology};
use ringway_perf::traffic::ping;
use serde_json::Value;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PORT: u16 = 7777;
const SENT: u64 = 10;

#[test]
fn a_trace_says_what_becomes_of_a_packet() {
    network_test(
        "a_trace_says_what_becomes_of_a_packet",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
            let pods = topology.add_three_pods().unwrap();
            for family in Family::BOTH {
                goes(&mut topology, &pods, family);
                does_not_go(&mut topology, &pods, family);
            }
            live(&mut topology, &pods);
        },
    );
}

/// With certificates the agent asks the other node's by itself, and says why where it cannot.
#[test]
fn agents_with_certificates_say_both_halves_of_a_trace() {
    network_test(
        "agents_with_certificates_say_both_halves_of_a_trace",
        Duration::from_secs(60),
        || {
            let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
            let [p1, _, p3] = topology.add_three_pods().unwrap();
            certify(&mut topology);
            let to = p3.ip(Family::V4);
            let agent = topology.n1.agent().unwrap();
            let trace = traced(agent, &p1, to, &[]);
            let across = &trace["across"];
            assert_eq!(across["node"], "node2", "{trace:#}");
            let half = &across["traces"][0]["verdict"];
            assert_eq!(half["to"], format!("pod {}", p3.name()), "{trace:#}");
            let words = format!("trace --from {} --to {to}", p1.name());
            let text = agent.cli(&words.split(' ').collect::<Vec<_>>()).unwrap();
            let said = format!("verdict:    delivered to pod {}", p3.name());
            assert!(
                text.contains("\nasked:      node2 says:\n") && text.contains(&said),
                "{text}"
            );
            // The other agent is gone: the command is left.
            assert!(topology.n2.agent().unwrap().stop());
            let agent = topology.n1.agent().unwrap();
            let trace = traced(agent, &p1, to, &[]);
            let error = trace["across"]["error"].as_str().unwrap();
            assert!(error.contains("node2 at 192.168.77.2:9474"), "{error}");
            let command = trace["next"][0]["command"].as_str().unwrap();
            assert!(
                command.starts_with("ringway trace --from-peer node1"),
                "{command}"
            );
        },
    );
}

/// Gives both agents certificates of one authority, and starts them with those.
fn certify(topology: &mut Topology) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = parameters.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(parameters, key);
    for node in [&mut topology.n1, &mut topology.n2] {
        let (name, address) = (format!("node{}", node.number), node.ip(Family::V4));
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec![name]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap().pem();
        let agent = node.agent().unwrap();
        let mut section = format!("\n[agents]\nlisten = \"{address}:9474\"\n");
        for (what, text) in [
            ("ca", &authority),
            ("cert", &own),
            ("key", &key.serialize_pem()),
        ] {
            let path = agent.folder().join(what);
            std::fs::write(&path, text).unwrap();
            section.push_str(&format!("{what}_file = {path:?}\n"));
        }
        assert!(agent.stop());
        let config = std::fs::read_to_string(agent.config()).unwrap();
        agent.write_config(&(config + &section)).unwrap();
        agent.start().unwrap();
    }
}

/// To a pod of the same node, and to one of the other, where the other half is traced.
fn goes(topology: &mut Topology, [p1, p2, p3]: &[Pod; 3], family: Family) {
    for (to, verdict, moves) in [
        (p2, "delivered", "delivered"),
        (p3, "tunnelled", "tunnelled"),
    ] {
        assert!(ping(&p1.ns, to.ip(family), 1, 56, LIMIT).unwrap().all());
        // What a pod's kernel sends by itself may come in between, though not each time.
        let (mut before, mut trace) = (Value::Null, Value::Null);
        eventually("a trace that is not counted itself", LIMIT, || {
            before = counted(&mut topology.n1);
            trace = traced(topology.n1.agent().unwrap(), p1, to.ip(family), &[]);
            counted(&mut topology.n1) == before
        });
        assert_eq!(trace["verdict"]["verdict"], verdict, "{trace:#}");
        if verdict == "delivered" {
            assert_eq!(trace["verdict"]["to"], format!("pod {}", to.name()));
        } else {
            let command = trace["next"][0]["command"].as_str().unwrap();
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            let answer = topology.n2.agent().unwrap().json(&words).unwrap();
            let half = &answer["traces"][0]["verdict"];
            assert_eq!(
                half["to"],
                format!("pod {}", to.name()),
                "{command}\n{answer:#}"
            );
        }
        // Now really.
        let receiver = bind(to, to.ip(family));
        send(p1, p1.ip(family), to.ip(family));
        for _ in 0..SENT {
            receiver.recv(&mut [0; 16]).expect("it arrives");
        }
        eventually("it is counted", LIMIT, || {
            let now = counted(&mut topology.n1);
            now[moves].as_u64().unwrap() >= before[moves].as_u64().unwrap() + SENT
        });
    }
}

/// Under another's address, and to an address that nobody has.
fn does_not_go(topology: &mut Topology, [p1, p2, p3]: &[Pod; 3], family: Family) {
    let (stolen, length, spoofed) = match family {
        Family::V4 => (p2.ip(family), "32", "spoofed_ipv4"),
        Family::V6 => (p2.ip(family), "128", "spoofed_ipv6"),
    };
    let nobody: IpAddr = match family {
        Family::V4 => "10.77.1.250".parse().unwrap(),
        Family::V6 => "fd77:1::250".parse().unwrap(),
    };
    let before = topology.n1.drops().unwrap();
    let source = stolen.to_string();
    let agent = topology.n1.agent().unwrap();
    let trace = traced(agent, p1, p3.ip(family), &["--source", &source]);
    assert_eq!(trace["verdict"]["reason"], spoofed, "{trace:#}");
    let trace = traced(agent, p1, nobody, &[]);
    assert_eq!(trace["verdict"]["reason"], "no_neighbour", "{trace:#}");
    let since = topology.n1.drops().unwrap().since(&before);
    assert_eq!(since.get(spoofed), 0, "the trace itself is not counted");
    // Now really.
    let flags = if family == Family::V6 { "nodad" } else { "" };
    p1.ns
        .ip(&format!("addr add {stolen}/{length} dev eth0 {flags}"))
        .unwrap();
    send(p1, stolen, p3.ip(family));
    send(p1, p1.ip(family), nobody);
    for (reason, least) in [(spoofed, SENT), ("no_neighbour", 1)] {
        eventually(reason, LIMIT, || {
            let since = topology.n1.drops().unwrap().since(&before);
            since.get(reason) >= least
        });
    }
    p1.ns
        .ip(&format!("addr del {stolen}/{length} dev eth0"))
        .unwrap();
}

/// The next packets that workers see.
fn live(topology: &mut Topology, [p1, _, p3]: &[Pod; 3]) {
    let (p1, p3) = (p1.clone(), p3.clone());
    let agent = topology.n1.agent().unwrap();
    let name = p1.name();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let _ = ping(&p1.ns, p3.ip(Family::V4), 1, 56, LIMIT);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        // What its kernel sends by itself may come in between.
        let words = ["--filter", "icmp", "--count", "2", "--json"];
        let text = agent.cli(&[&["trace", "--live", "--pod", &name][..], &words].concat());
        done.store(true, Ordering::Relaxed);
        let text = text.unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in lines {
            let verdict = line["verdict"]["verdict"].as_str().unwrap();
            assert!(["delivered", "tunnelled"].contains(&verdict), "{line:#}");
        }
    });
}

/// The last of what `ringway trace` says.
fn traced(agent: &Agent, from: &Pod, to: IpAddr, more: &[&str]) -> Value {
    let (name, to, port) = (from.name(), to.to_string(), PORT.to_string());
    let mut words = vec!["trace", "--from", &name, "--to", &to, "--udp", &port];
    words.extend(more);
    let answer = agent.json(&words).unwrap();
    answer["traces"].as_array().unwrap().last().unwrap().clone()
}

/// What the node has counted, in packets.
fn counted(node: &mut Node) -> Value {
    let status = node.agent().unwrap().json(&["status"]).unwrap();
    let totals = status["totals"].as_object().unwrap().iter();
    let packets = totals.map(|(name, count)| {
        let count = count.get("packets").unwrap_or(count);
        (name.clone(), count.clone())
    });
    Value::Object(packets.collect())
}

fn bind(pod: &Pod, address: IpAddr) -> UdpSocket {
    let socket = pod.ns.run(|| UdpSocket::bind((address, PORT))).unwrap();
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn send(from: &Pod, source: IpAddr, to: IpAddr) {
    let sender = from.ns.run(|| UdpSocket::bind((source, 0))).unwrap();
    let sender = sender.unwrap();
    for _ in 0..SENT {
        // A later one may report that an earlier one found nobody.
        let _ = sender.send_to(b"really", (to, PORT));
    }
}
