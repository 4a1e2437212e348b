//! Generator and sink: through two Ringway nodes nothing is lost and nothing is made up; on a bare wire by
//! rings and by sockets alike; garbage at the sink is foreign.

use crate::common::assert_none;
use crate::harness::network_test;
use crate::rings::ring_test;
use ringway_perf::lab::{Family, Lab, Mode, Netns, RingwayOptions, Topology};
use ringway_perf::load::{
    Between, Counts, Inlet, Io, Load, Mix, Outcome, PORT, Plan, Tally, count_until,
};
use ringway_perf::traffic::Pattern;
use ringway_ports::raw::RawSender;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PACKETS: u64 = 6000;

fn load(io: Io, rate: u64) -> Load {
    Load {
        mix: Mix::imix(),
        flows: 50,
        plan: Plan {
            rate,
            count: Some(PACKETS),
            ..Plan::default()
        },
        io,
    }
}

/// Everything arrived once, and nothing else was taken for ours; latencies are those of this machine.
fn check(what: &str, outcome: &Outcome) -> Vec<String> {
    let mut failures = Vec::new();
    let wanted = Counts {
        received: PACKETS,
        // Depends on what was coalesced on the way, and what else is on the interface.
        bytes: outcome.counts.bytes,
        foreign: outcome.counts.foreign,
        ..Counts::default()
    };
    if outcome.sent.packets != PACKETS || outcome.counts != wanted || outcome.overrun != 0 {
        failures.push(format!("{what}: {outcome:?}"));
    }
    match outcome.latency {
        Some(l) if l.count == PACKETS && l.p50 > 500 && l.p50 < 20_000_000 && l.p50 <= l.p99 => {}
        other => failures.push(format!("{what}: latency {other:?}")),
    }
    failures
}

#[test]
fn a_known_count_arrives_through_two_nodes() {
    let name = "a_known_count_arrives_through_two_nodes";
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, p2, p3] = topology.add_three_pods().unwrap();
        let mut failures = Vec::new();
        for family in Family::BOTH {
            for (what, to) in [("across", &p3), ("same node", &p2)] {
                let between = Between::new(&p1.ns, &to.ns, to.ip(family)).unwrap();
                let before = [&mut topology.n1, &mut topology.n2].map(|n| n.drops().unwrap());
                let outcome = between.run(&load(Io::Packet, 10_000)).unwrap();
                let what = format!("{what}, {family}");
                println!("{what}: {} µs", outcome.latency.unwrap().p50 / 1000);
                failures.extend(check(&what, &outcome));
                // The pace was kept, within what a busy machine does to it.
                if outcome.sent.seconds < 0.59 || outcome.sent.seconds > 3.0 {
                    failures.push(format!("{what}: took {} s", outcome.sent.seconds));
                }
                let nodes = [&mut topology.n1, &mut topology.n2];
                for (node, before) in nodes.into_iter().zip(&before) {
                    let drops = node.drops().unwrap().since(before);
                    if drops.total() > 0 {
                        failures.push(format!("{what}: node {} dropped {drops}", node.number));
                    }
                }
            }
        }
        assert_none(&failures);
    });
}

/// Two namespaces and a wire: 10.9.0.1 and 10.9.0.2, both ends `eth0`.
fn wire(lab: &Lab) -> (Netns, Netns) {
    let a = Netns::create(&lab.name("a")).unwrap();
    let b = Netns::create(&lab.name("b")).unwrap();
    let pair = format!("link add eth0 type veth peer name eth0 netns {}", b.name());
    a.ip(&pair).unwrap();
    for (ns, host) in [(&a, 1), (&b, 2)] {
        ns.ip_batch(&format!(
            "addr add 10.9.0.{host}/24 dev eth0\nlink set eth0 up\n"
        ))
        .unwrap();
    }
    (a, b)
}

fn target() -> IpAddr {
    "10.9.0.2".parse().unwrap()
}

#[test]
fn rings_and_sockets_carry_the_same() {
    let name = "rings_and_sockets_carry_the_same";
    ring_test(name, Duration::from_secs(60), || {
        let lab = Lab::open().unwrap();
        let (a, b) = wire(&lab);
        let between = Between::new(&a, &b, target()).unwrap();
        let mut failures = Vec::new();
        for io in [Io::Xdp, Io::Packet, Io::Auto] {
            let outcome = between.run(&load(io, 20_000)).unwrap();
            failures.extend(check(&io.to_string(), &outcome));
        }
        assert_none(&failures);
    });
}

#[test]
fn garbage_at_a_sink_is_foreign() {
    let name = "garbage_at_a_sink_is_foreign";
    network_test(name, Duration::from_secs(60), || {
        let lab = Lab::open().unwrap();
        let (a, b) = wire(&lab);
        let stop = AtomicBool::new(false);
        // Noise of all lengths, half of it behind good headers and a good beginning of a stamp.
        let mut noise = Pattern::new(5);
        let mut garbage: Vec<Vec<u8>> = Vec::new();
        for i in 0..4000_usize {
            let mut frame = vec![0; 14 + i % 1500];
            noise.fill(&mut frame);
            if i % 2 == 0 {
                // Never broadcast or multicast: nobody answers.
                frame[0] &= 0xfe;
            } else {
                frame = ringway_packet::kit::udp("10.9.0.1:1024", "10.9.0.2:9")
                    .payload(&[b"RG", &frame[..i % 20]].concat())
                    .frame();
            }
            garbage.push(frame);
        }
        let counted = std::thread::scope(|scope| {
            let sink = scope.spawn(|| {
                b.run(|| {
                    let mut inlet = Inlet::open("eth0", Io::Packet, PORT).unwrap();
                    let mut tally = Tally::new(Some(1));
                    count_until(&mut inlet, &mut tally, &stop, Duration::from_millis(200)).unwrap();
                    (tally.counts(), inlet.overrun())
                })
                .unwrap()
            });
            // Until the sink stands; what it misses is not counted below.
            std::thread::sleep(Duration::from_millis(300));
            a.run(|| {
                let index = nix::net::if_::if_nametoindex("eth0").unwrap();
                let sender = RawSender::open(index).unwrap();
                for frame in &garbage {
                    assert_eq!(sender.send(&[frame]).unwrap(), 1);
                }
            })
            .unwrap();
            stop.store(true, Ordering::Release);
            sink.join().unwrap()
        });
        let (counts, overrun) = counted;
        println!("{counts:?}, {overrun} found no room");
        let wanted = Counts {
            foreign: counts.foreign,
            ..Counts::default()
        };
        assert_eq!(counts, wanted, "nothing of it is anybody's packet");
        // The kernel's own may be among them.
        assert!(counts.foreign + overrun >= 4000, "{counts:?}, {overrun}");
        // And the wire still carries what is ours.
        let between = Between::new(&a, &b, target()).unwrap();
        let outcome = between.run(&load(Io::Packet, 20_000)).unwrap();
        assert_none(&check("afterwards", &outcome));
    });
}
