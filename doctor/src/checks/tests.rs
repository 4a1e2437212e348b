//! A healthy node made ill in one way: what is said first.

use ringway_control::view::{
    Condition, Drop, DropAt, KernelLoss, LastDrop, NotServed, SourceStatus,
};
use ringway_trace::answer::{Trace, Verdict};

use super::*;
use crate::testing::{healthy, peer};
use crate::{Absent, Asked, Blocked, Other, Pair, Way};

fn of(asked: impl FnOnce(&mut Asked)) -> Report {
    let mut seen = healthy();
    if let Asking::Answered(answered) = &mut seen.agent {
        asked(answered);
    }
    diagnose(&seen)
}

fn seen(change: impl FnOnce(&mut Observed)) -> Report {
    let mut seen = healthy();
    change(&mut seen);
    diagnose(&seen)
}

/// The only finding.
#[track_caller]
fn only(report: &Report) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    &report.findings[0]
}

fn drop(reason: &str, frames: u64, at: &[(&str, &str, &str, u64)]) -> Drop {
    let known = ringway_switch::DropReason::ALL
        .iter()
        .find(|r| r.name() == reason);
    Drop {
        reason: reason.into(),
        frames,
        cause: known.unwrap().cause().into(),
        remedy: known.unwrap().remedy().into(),
        at: at
            .iter()
            .map(|(kind, name, direction, packets)| DropAt {
                kind: (*kind).into(),
                name: (*name).into(),
                direction: (*direction).into(),
                packets: *packets,
                rate: None,
            })
            .collect(),
        ..Drop::default()
    }
}

#[test]
fn a_healthy_node_has_no_findings() {
    assert_eq!(diagnose(&healthy()).findings, []);
    // Ordinary life: some packets to a pod that has gone, a flood long ago.
    let report = of(|asked| {
        asked.before.drops = vec![drop(
            "spoofed_mac",
            1000,
            &[("pod", "default/web", "from", 1000)],
        )];
        asked.drops.drops = vec![
            drop("no_such_pod", 9, &[("node", "", "from", 9)]),
            drop("spoofed_mac", 1000, &[("pod", "default/web", "from", 1000)]),
        ];
        asked.drops.drops[1].last_ago_ms = Some(100_000);
    });
    assert_eq!(report.findings, []);
}

#[test]
fn a_fault_is_said_when_seen_lately_and_names_who_sends_now() {
    let at = |web, api| {
        [
            ("pod", "default/web", "from", web),
            ("pod", "default/api", "from", api),
        ]
    };
    let report = of(|asked| {
        asked.before.drops = vec![drop("spoofed_ipv4", 900, &at(900, 0))];
        asked.drops.drops = vec![drop("spoofed_ipv4", 904, &at(900, 4))];
        asked.last = vec![LastDrop {
            reason: "spoofed_ipv4".into(),
            time_ns: 1,
            kind: "pod".into(),
            name: "default/api".into(),
            length: 60,
            packets: 1,
            contents: "frame".into(),
            summary: "UDP 10.9.9.9:1 > 10.77.2.2:7".into(),
            bytes: String::new(),
        }];
    });
    let finding = only(&report);
    assert_eq!(finding.about, About::Pod("default/api".into()));
    assert!(
        finding
            .cause
            .starts_with("Packets from pod default/api are dropped: "),
        "{finding:#?}"
    );
    assert!(finding.evidence[0].contains("2.0 a second"), "{finding:#?}");
    assert!(finding.evidence[1].contains("10.9.9.9"), "{finding:#?}");
    // None now, but one twenty seconds ago.
    let report = of(|asked| {
        asked.drops.drops = vec![drop("unknown_vni", 3, &[("peer", "node2", "from", 3)])];
        asked.before.drops = asked.drops.drops.clone();
        asked.drops.drops[0].last_ago_ms = Some(20_000);
    });
    assert_eq!(only(&report).about, About::Peer("node2".into()));
}

#[test]
fn ordinary_reasons_and_losses_of_the_kernel_need_many() {
    let with = |frames, losses| {
        of(|asked| {
            asked.drops.drops = vec![drop("no_such_pod", frames, &[("node", "", "from", frames)])];
            asked.drops.kernel = vec![KernelLoss {
                counter: "tap_rx_dropped".into(),
                at: "pod default/web".into(),
                count: losses,
                rate: None,
                cause: "The pod's stack did not take it.".into(),
                remedy: "See.".into(),
            }];
        })
    };
    assert_eq!(with(19, 19).findings, []);
    let both = with(20, 20);
    let severities = both.findings.iter().map(|f| f.severity);
    assert_eq!(severities.collect::<Vec<_>>(), [Severity::Warning; 2]);
    assert!(
        both.findings[1].cause.contains("pod default/web"),
        "{both:#?}"
    );
}

#[test]
fn an_absent_agent_is_explained_by_what_keeps_it_away() {
    let absent = |change: fn(&mut Observed)| {
        seen(|seen| {
            seen.agent = Asking::Absent(Absent {
                why: "connection refused".into(),
                config: None,
                file: "/etc/ringway/ringway.toml".into(),
            });
            seen.pods.clear();
            change(seen);
        })
    };
    assert_eq!(only(&absent(|_| {})).check, "agent");
    let taken = absent(|seen| {
        seen.machine.others = vec![Other {
            port: 8472,
            who: "nc (pid 5)".into(),
            command: "kill 5".into(),
        }];
    });
    assert_eq!(taken.findings[0].check, "port_taken");
    assert_eq!(taken.findings[0].commands, ["kill 5"]);
    assert_eq!(taken.findings[1].check, "agent");
    let config = absent(|seen| {
        if let Asking::Absent(absent) = &mut seen.agent {
            absent.config = Some("line 3: vni = 99999999 is too large".into());
        }
    });
    assert_eq!(config.findings[0].check, "config");
    let tun = absent(|seen| seen.machine.no_tun = Some("No such device".into()));
    assert_eq!(tun.findings[0].check, "tun");
}

#[test]
fn a_firewall_comes_before_the_silence_that_it_makes() {
    let report = seen(|seen| {
        seen.machine.blocked = vec![Blocked {
            port: 8472,
            place: "nftables, chain inet guard input".into(),
            rule: "rule 7, udp dport 8472: drop".into(),
            command: "nft delete rule inet guard input handle 7".into(),
            partly: false,
        }];
        if let Asking::Answered(asked) = &mut seen.agent {
            asked.peers_later = vec![peer(200, 100)];
        }
    });
    let checks: Vec<&str> = report.findings.iter().map(|f| f.check.as_str()).collect();
    assert_eq!(checks, ["firewall", "peer"]);
}

#[test]
fn a_peer_that_is_sent_to_and_says_nothing_is_named() {
    let one_way =
        |sent: u64, came: u64| of(|asked| asked.peers_later = vec![peer(100 + sent, 100 + came)]);
    assert_eq!(only(&one_way(3, 0)).about, About::Peer("node2".into()));
    assert_eq!(one_way(2, 0).findings, []);
    assert_eq!(one_way(500, 1).findings, []);
    // What it sends is dropped for a reason, which says more.
    let report = of(|asked| {
        asked.peers_later = vec![peer(200, 100)];
        asked.drops.drops = vec![drop("vtep_mac", 5, &[("peer", "node2", "from", 5)])];
    });
    assert_eq!(only(&report).check, "drops");
}

#[test]
fn ways_to_peers_that_lead_nowhere_or_elsewhere_are_named() {
    let by = |by: Result<&str, &str>| {
        let way = Way {
            peer: "node2".into(),
            address: "192.168.77.2".parse().unwrap(),
            by: by.map(str::to_owned).map_err(str::to_owned),
        };
        seen(|seen| seen.machine.ways = vec![way])
    };
    let none = by(Err("there is no route to it"));
    assert_eq!(only(&none).severity, Severity::Broken);
    assert!(only(&none).evidence[0].contains("192.168.77.2"));
    assert_eq!(only(&by(Ok("wg0"))).severity, Severity::Warning);
    assert_eq!(by(Ok("eth0")).findings, []);
}

#[test]
fn a_pod_is_looked_into() {
    for (says, change) in [
        (
            "lost its interface",
            (|pod| pod.interface = false) as fn(&mut crate::PodInside),
        ),
        ("is down", |pod| pod.up = false),
        ("no route", |pod| pod.default_v4 = false),
        ("lost its address", |pod| pod.addresses.clear()),
        ("corrupted", |pod| pod.wrong_checksums = 1),
        ("is gone", |pod| pod.closed = Some("No such file".into())),
    ] {
        let report = seen(|seen| change(&mut seen.pods[0]));
        let finding = only(&report);
        assert!(finding.cause.contains(says), "{finding:#?}");
        assert_eq!(finding.about, About::Pod("default/web".into()));
    }
    // It has no IPv6, and needs no route of it.
    assert!(!healthy().pods[0].default_v6);
}

#[test]
fn what_the_agent_says_of_itself_is_passed_on() {
    let report = of(|asked| {
        asked.status.state_error = Some("writing: No space left on device (os error 28)".into());
        asked.status.not_served = vec![NotServed {
            pod: "default/old".into(),
            why: "its namespace is gone".into(),
        }];
        asked.status.conditions = vec![
            Condition {
                what: "ipv4/ip_forward".into(),
                wanted: "1".into(),
                found: "0".into(),
                why: "somebody sets it again and again".into(),
                since_s: 5,
            },
            Condition {
                what: "peer node2".into(),
                wanted: "reached at 192.168.77.2".into(),
                found: "Connection refused".into(),
                why: "does its agent run?".into(),
                since_s: 5,
            },
        ];
        asked.status.sources = vec![SourceStatus {
            name: "kubernetes".into(),
            error: Some("401".into()),
            ..SourceStatus::default()
        }];
        asked.status.reconcile.paused_s = Some(9);
    });
    let checks: Vec<&str> = report.findings.iter().map(|f| f.check.as_str()).collect();
    assert_eq!(
        checks,
        ["state", "peer", "pod", "condition", "source", "paused"]
    );
    assert!(report.findings[0].cause.contains("is full"));
    assert_eq!(report.findings[1].about, About::Peer("node2".into()));
}

#[test]
fn the_machine_is_looked_at() {
    for (check, change) in [
        (
            "underlay",
            (|m| m.underlay_fault = Some("has no carrier".into())) as fn(&mut crate::Machine),
        ),
        ("state", |m| m.state_dir = Some(("/s".into(), Ok(100)))),
        ("state", |m| {
            m.state_dir = Some(("/s".into(), Err("gone".into())))
        }),
        ("other_cni", |m| {
            m.cni_before_ours = vec!["05-cilium.conflist".into()]
        }),
        ("clock", |m| m.clock_s = 1000),
    ] {
        assert_eq!(only(&seen(|seen| change(&mut seen.machine))).check, check);
    }
}

#[test]
fn a_pair_leaves_out_what_concerns_others() {
    let trace = |verdict: &str, to: Option<&str>, reason: Option<&str>| {
        Ok(Trace {
            input: "ICMP".into(),
            verdict: Verdict {
                verdict: verdict.into(),
                to: to.map(str::to_owned),
                reason: reason.map(str::to_owned),
                ..Verdict::default()
            },
            ..Trace::default()
        })
    };
    let with = |trace: Result<Trace, String>, from: &str, to: &str| {
        let pair = Pair {
            from: from.into(),
            to: to.parse().unwrap(),
            trace,
        };
        seen(|seen| {
            seen.pods[0].up = false;
            seen.machine.ways[0].by = Err("no route".into());
            seen.pair = Some(pair);
        })
    };
    let checks = |report: &Report| -> Vec<String> {
        report.findings.iter().map(|f| f.check.clone()).collect()
    };
    let across = trace("tunnelled", Some("peer node2"), None);
    assert_eq!(
        checks(&with(across.clone(), "default/web", "10.77.2.2")),
        ["route", "pod"]
    );
    assert_eq!(
        checks(&with(across, "default/other", "10.77.2.2")),
        ["route"]
    );
    let here = trace("delivered", Some("pod default/web"), None);
    assert_eq!(checks(&with(here, "default/other", "10.77.1.2")), ["pod"]);
    let dropped = trace("dropped", None, Some("no_such_pod"));
    assert_eq!(
        checks(&with(dropped.clone(), "default/other", "10.77.1.9")),
        ["pair"]
    );
    assert_eq!(
        checks(&with(dropped, "default/web", "10.77.1.9")),
        ["pod", "pair"]
    );
    assert_eq!(
        checks(&with(Err("no such pod".into()), "x/y", "10.77.1.9")),
        ["pair"]
    );
}

#[test]
fn the_rule_that_denies_packets_is_named_before_what_is_denied() {
    let report = seen(|seen| {
        seen.machine.blocked = vec![Blocked {
            port: 8472,
            place: "nftables, chain inet guard output".into(),
            rule: "rule 2, udp dport 8472: drop".into(),
            command: "nft delete rule inet guard output handle 2".into(),
            partly: false,
        }];
        if let Asking::Answered(asked) = &mut seen.agent {
            let mut denied = drop("underlay_denied", 0, &[]);
            denied.lost_packets = 61;
            asked.drops.drops = vec![denied];
        }
    });
    let causes: Vec<&str> = report.findings.iter().map(|f| f.cause.as_str()).collect();
    assert!(causes[0].contains("drops UDP port 8472"), "{causes:?}");
    assert!(
        causes[1].starts_with("Packets to the underlay are dropped: "),
        "{causes:?}"
    );
}
