//! One node's control plane in a namespace of its own, pods in theirs.

mod change;
mod cni;
mod neighbours;
mod outer;
mod reload;
mod relocated;
mod saving;
mod scale;
mod sources;
mod takeover;
mod unreachable;

use std::path::Path;

use crossbeam_channel::unbounded;
use ringway_kernel::netlink::LinkChange;
use ringway_kernel::netns::run_in;
use ringway_kernel::testing::{Pod, in_netns};
use ringway_packet::addr::from_ip;
use ringway_ports::tap::{self, TapOptions};
use ringway_tables::{PathId, PortId, Target};

use super::*;

/// A node in the current namespace: an underlay interface and a directory.
struct Node {
    dir: tempfile::TempDir,
    _underlay: tap::Opened,
}

impl Node {
    fn new() -> Self {
        let underlay = tap::create_persistent("eth0", &TapOptions::default()).unwrap();
        let mut nl = Netlink::open().unwrap();
        let index = nl.link("eth0").unwrap().index;
        for (ip, len) in [("192.168.77.1", 24), ("fd00:77::1", 64)] {
            nl.add_address(index, ip.parse().unwrap(), len).unwrap();
        }
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        nl.change_link(index, &up).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            _underlay: underlay,
        }
    }

    fn config(&self, workers: usize) -> Config {
        let text = include_str!("../../config/ringway.toml");
        let state = self.dir.path().join("state");
        let text = text.replace("[node]", &format!("[node]\nstate_dir = {state:?}"))
            + &format!("\n[workers]\ncount = {workers}\npolling = \"interrupt\"\n");
        Config::parse(Path::new("t"), &text).unwrap()
    }

    fn start(&self, workers: usize) -> Control {
        Control::start(self.config(workers)).unwrap()
    }

    fn saved(&self) -> Vec<String> {
        let text = std::fs::read(self.dir.path().join("state/state.json")).unwrap();
        let state: State = serde_json::from_slice(&text).unwrap();
        state.pods.into_keys().collect()
    }

    fn edit_state(&self, edit: impl FnOnce(&mut State)) {
        let file = self.dir.path().join("state/state.json");
        let mut state = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        edit(&mut state);
        std::fs::write(file, serde_json::to_vec(&state).unwrap()).unwrap();
    }
}

fn request(pod: &Pod, name: &str, ips: &[&str]) -> Attach {
    Attach {
        name: name.into(),
        netns: pod.path(),
        ifname: "eth0".into(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        mac: None,
        mtu: None,
    }
}

fn target(control: &Control, ip: &str) -> Option<Target> {
    let snapshot = control.publisher.current();
    snapshot.route(from_ip(ip.parse().unwrap()))
}

fn links(pod: &Pod) -> Vec<String> {
    let links = pod.netlink().links().unwrap();
    links.into_iter().map(|l| l.name).collect()
}

/// Nothing is left in a pod but `lo`, or soon: programs that tests beside this one start have copies of all
/// descriptors for a moment (`closing.rs`).
#[track_caller]
fn assert_gone(pod: &Pod) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while links(pod) != ["lo"] && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(links(pod), ["lo"]);
}

/// The queue of a pod's interface, as somebody else opens it once nobody has it. Programs that tests beside this
/// one start have copies of all descriptors for a moment.
fn reopened(pod: &Pod) -> ringway_kernel::pod::interface::Queues {
    let reopen = || ringway_kernel::pod::interface::reopen(&pod.netns(), "eth0", true, 1);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match reopen() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            other => return other.unwrap(),
        }
    }
}

/// Detaches by name.
fn detach(control: &mut Control, name: &str) -> view::Detached {
    control.detach(&Detach::Name(name.into())).unwrap()
}

/// Waits until no interface is on its way out.
fn settle(control: &mut Control) {
    control.await_all_jobs();
    control.closing.settle();
}

/// Requests, and their answers when what they begin has ended.
impl Control {
    fn ask<T: Send + 'static>(&mut self, request: impl FnOnce(Reply<T>) -> Request) -> T {
        let (sender, answers) = unbounded();
        self.serve(request(Box::new(move |answer| {
            sender.send(answer).unwrap()
        })));
        loop {
            if let Ok(answer) = answers.try_recv() {
                return answer;
            }
            let outcome = self
                .pod_jobs
                .outcomes()
                .recv_timeout(Duration::from_secs(5));
            self.finish(outcome.unwrap());
            self.serve_deferred();
        }
    }

    fn attach(&mut self, attach: &Attach) -> Result<view::Pod, ControlError> {
        self.ask(|reply| Request::Attach(attach.clone(), reply))
    }

    fn detach(&mut self, detach: &Detach) -> Result<view::Detached, ControlError> {
        self.ask(|reply| Request::Detach(detach.clone(), reply))
    }

    pub(super) fn cni_add(&mut self, add: &Add) -> Result<Added, ControlError> {
        self.ask(|reply| Request::CniAdd(add.clone(), reply))
    }

    fn cni_del(&mut self, attachment: &Attachment) -> Done {
        self.ask(|reply| Request::CniDel(attachment.clone(), reply))
    }
}

#[test]
fn attach_and_detach_leave_the_tables_as_they_were() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let routes = |c: &Control| c.publisher.current().routes4.len();
        let before = routes(&control);
        let made = control
            .attach(&request(&pod, "a", &["10.77.1.2", "fd77:1::2"]))
            .unwrap();
        assert_eq!(made.mac, "0a:58:0a:4d:01:02");
        assert_eq!(made.mtu, 1430);
        assert_eq!(made.ips, ["10.77.1.2/24", "fd77:1::2/64"]);
        let port = Some(Target::Port(PortId(made.port)));
        assert_eq!(target(&control, "10.77.1.2"), port);
        assert_eq!(target(&control, "fd77:1::2"), port);
        assert_eq!(node.saved(), ["a"]);
        assert_eq!(control.descriptors.taps.len(), 2);

        let gone = detach(&mut control, "a");
        assert!(gone.existed && gone.note.is_none(), "{gone:?}");
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Unreachable));
        assert_eq!(routes(&control), before);
        settle(&mut control);
        assert_gone(&pod);
        assert!(node.saved().is_empty());
        assert_eq!(control.descriptors.taps.len(), 1);

        let again = detach(&mut control, "a");
        assert!(!again.existed && again.note.is_some());
        control.stop();
    });
}

#[test]
fn a_pod_begins_with_counts_of_its_own() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let first = control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        let counters = control.counters[0].clone();
        let port = PortId(first.port);
        detach(&mut control, "a");
        settle(&mut control);
        // What was counted of a pod that is gone.
        counters.port(port).rx.add(7, 700);
        counters.port(port).drops[0].add(7);
        let second = control.attach(&request(&pod, "b", &["10.77.1.3"])).unwrap();
        assert_eq!(second.port, first.port);
        assert_eq!((second.from_pod.frames, second.drops.len()), (0, 0));
        // And in the counters, as soon as the worker has the queue.
        let end = Instant::now() + Duration::from_secs(5);
        while counters.port(port).drops[0].get() > 0 {
            assert!(Instant::now() < end, "it is not reset");
            std::thread::sleep(Duration::from_millis(1));
        }
        control.stop();
    });
}

#[test]
fn each_refusal_says_why_and_leaves_nothing() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control
            .attach(&request(&pod, "a", &["10.77.1.2", "fd77:1::2"]))
            .unwrap();
        let version = control.publisher.current().version;
        let good = request(&other, "b", &["10.77.1.3"]);
        let ips = |ips: &[&str]| request(&other, "b", ips);
        let cases: Vec<(Attach, Kind, &str)> = vec![
            (
                request(&other, "a", &["10.77.1.3"]),
                Kind::Taken,
                "attached already",
            ),
            (
                ips(&["10.77.1.2"]),
                Kind::Taken,
                "address 10.77.1.2 of b already belongs to pod a",
            ),
            (
                ips(&["fd77:1::2"]),
                Kind::Taken,
                "address fd77:1::2 of b already belongs to pod a",
            ),
            (ips(&["10.77.1.3", "fd77:1::2"]), Kind::Taken, "pod a"),
            (ips(&["10.77.1.1"]), Kind::Invalid, "gateway"),
            (ips(&["10.77.1.0"]), Kind::Invalid, "network itself"),
            (ips(&["10.77.1.255"]), Kind::Invalid, "broadcast"),
            (ips(&["fd77:1::1"]), Kind::Invalid, "gateway"),
            (ips(&["fd77:1::"]), Kind::Invalid, "network itself"),
            (ips(&["10.77.2.2"]), Kind::Invalid, "outside"),
            (ips(&["10.77.1.3", "fd77:2::3"]), Kind::Invalid, "outside"),
            (
                Attach {
                    mac: Some("0a:58:0a:4d:01:02".parse().unwrap()),
                    ..good.clone()
                },
                Kind::Taken,
                "MAC",
            ),
            (
                Attach {
                    mac: Some(ringway_kernel::mac::GATEWAY),
                    ..good.clone()
                },
                Kind::Taken,
                "gateway",
            ),
            (
                Attach {
                    mtu: Some(1431),
                    ..good.clone()
                },
                Kind::Invalid,
                "1430",
            ),
            (
                Attach {
                    netns: "/nonexistent".into(),
                    ..good.clone()
                },
                Kind::NoNetns,
                "/nonexistent",
            ),
            (
                Attach {
                    netns: "/etc/passwd".into(),
                    ..good.clone()
                },
                Kind::Invalid,
                "not a network namespace",
            ),
            (
                Attach {
                    netns: "/dev/null".into(),
                    ..good.clone()
                },
                Kind::Invalid,
                "not a network namespace",
            ),
            (
                Attach {
                    netns: "/proc/thread-self/ns/net".into(),
                    ..good.clone()
                },
                Kind::Invalid,
                "own",
            ),
            (
                Attach {
                    netns: pod.path(),
                    ..good.clone()
                },
                Kind::Taken,
                "TAP name taken",
            ),
        ];
        for (request, kind, words) in cases {
            let refused = control.attach(&request).expect_err(words);
            assert_eq!(refused.kind(), kind, "{refused:?}");
            assert!(
                refused.to_string().contains(words),
                "{words:?} is not in {refused:?}"
            );
            assert!(!refused.remedy().is_empty());
        }
        assert_eq!(control.publisher.current().version, version);
        assert_eq!(node.saved(), ["a"]);
        assert_gone(&other);
        control.attach(&good).unwrap();
        control.stop();
    });
}

#[test]
fn an_attach_that_cannot_be_recorded_is_undone() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        // A directory in the place of the file: the rename fails, even for root.
        let file = node.dir.path().join("state/state.json");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("x")).unwrap();
        let refused = control.attach(&request(&pod, "a", &["10.77.1.2"]));
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), Kind::Later);
        assert!(refused.to_string().contains("not attached"), "{refused:?}");
        assert_gone(&pod);
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Unreachable));
        control.stop();
    });
}

#[test]
fn pods_are_found_again_also_with_other_numbers_of_workers() {
    in_netns(|| {
        let (node, pod, second) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control
            .attach(&request(&pod, "a", &["10.77.1.2", "fd77:1::2"]))
            .unwrap();
        control.stop();
        let before = pod.netlink().link("eth0").unwrap();

        let mut control = node.start(2);
        assert_eq!(control.pods.len(), 1);
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Port(PortId(1))));
        let queues = |c: &Control, port| c.descriptors.taps[&PortId(port)].fds.len();
        assert_eq!(queues(&control, 1), 2);
        assert_eq!(control.without_lanes(), 0);
        assert_eq!(pod.netlink().link("eth0").unwrap().index, before.index);
        let made = control
            .attach(&request(&second, "b", &["10.77.1.3"]))
            .unwrap();
        // Two lanes for each worker.
        assert_eq!((made.queues, queues(&control, made.port)), (4, 2));
        control.stop();

        let mut control = node.start(1);
        assert_eq!(control.pods.len(), 2);
        assert_eq!(queues(&control, 2), 1, "one worker opens its own");
        for name in ["a", "b"] {
            assert!(detach(&mut control, name).existed);
        }
        settle(&mut control);
        assert_gone(&pod);
        assert_gone(&second);
        control.stop();
    });
}

#[test]
fn a_pod_that_an_earlier_version_made_keeps_its_one_queue_and_is_counted() {
    in_netns(|| {
        let (node, pod, second) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(2);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        control.stop();
        // What has no lanes was made without several queues.
        run_in(&pod.netns(), || {
            tap::delete("eth0").unwrap();
            drop(tap::create_persistent("eth0", &TapOptions::default()).unwrap());
        })
        .unwrap();
        node.edit_state(|state| {
            let record = state.pods.get_mut("a").unwrap();
            (record.multi_queue, record.queues) = (false, 1);
        });

        let mut control = node.start(2);
        let made = control
            .attach(&request(&second, "b", &["10.77.1.3"]))
            .unwrap();
        let queues = |port| {
            let tap = &control.descriptors.taps[&PortId(port)];
            (tap.fds.len(), tap.lanes.is_some())
        };
        assert_eq!((queues(1), queues(made.port)), ((1, false), (2, true)));
        assert_eq!((control.pods.len(), control.without_lanes()), (2, 1));
        control.stop();
    });
}

/// Makes the interface `name` of the calling thread's namespace anew as earlier versions did: with the
/// default queueing discipline, and in a pod with short queues.
fn as_earlier_versions_made_it(name: &str, tx_queue_len: Option<u32>) {
    tap::delete(name).unwrap();
    let options = TapOptions {
        multi_queue: true,
        ..TapOptions::default()
    };
    drop(tap::create_persistent(name, &options).unwrap());
    let mut netlink = Netlink::open().unwrap();
    let change = LinkChange {
        tx_queue_len,
        up: Some(true),
        ..LinkChange::default()
    };
    let index = netlink.link(name).unwrap().index;
    netlink.change_link(index, &change).unwrap();
    assert!(netlink.has_default_qdisc(index).unwrap());
}

#[test]
fn taps_of_an_earlier_version_are_made_to_hold_a_burst() {
    in_netns(|| {
        let (node, pods) = (Node::new(), [Pod::new(), Pod::new()]);
        let mut control = node.start(2);
        for (pod, name, ip) in [(&pods[0], "a", "10.77.1.2"), (&pods[1], "b", "10.77.1.3")] {
            control.attach(&request(pod, name, &[ip])).unwrap();
        }
        control.stop();
        as_earlier_versions_made_it("ringway0", None);
        for pod in &pods {
            let make = || as_earlier_versions_made_it("eth0", Some(128));
            run_in(&pod.netns(), make).unwrap();
        }
        // What somebody has chosen stays.
        let mut chosen = pods[1].netlink();
        let index = chosen.link("eth0").unwrap().index;
        chosen.set_qdisc(index, "pfifo").unwrap();
        let control = node.start(2);
        assert_eq!(control.pods.len(), 2);
        let queue = |netlink: &mut Netlink, name| {
            let link = netlink.link(name).unwrap();
            let default = netlink.has_default_qdisc(link.index).unwrap();
            (link.tx_queue_len.unwrap(), default)
        };
        assert_eq!(
            queue(&mut Netlink::open().unwrap(), "ringway0"),
            (1000, false)
        );
        assert_eq!(queue(&mut pods[0].netlink(), "eth0"), (1000, false));
        assert_eq!(queue(&mut pods[1].netlink(), "eth0"), (128, false));
        control.stop();
    });
}

#[test]
fn pods_that_vanished_while_nobody_looked_are_dropped() {
    in_netns(|| {
        let (node, pod, deleted, stays) = (Node::new(), Pod::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        for (pod, name, ip) in [
            (&pod, "gone", "10.77.1.2"),
            (&deleted, "deleted", "10.77.1.3"),
            (&stays, "stays", "10.77.1.4"),
        ] {
            control.attach(&request(pod, name, &[ip])).unwrap();
        }
        control.stop();
        drop(pod);
        deleted.netlink().delete_link("eth0").unwrap();
        let control = node.start(1);
        let names: Vec<&String> = control.pods.keys().collect();
        assert_eq!(names, ["stays"]);
        assert_eq!(node.saved(), ["stays"]);
        control.stop();
    });
}

#[test]
fn a_namespace_that_goes_is_noticed_and_let_go() {
    in_netns(|| {
        let (node, pod, stays) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        control
            .attach(&request(&stays, "b", &["10.77.1.3"]))
            .unwrap();
        // Opened inside: the descriptor holds the namespace.
        control.tick();
        assert_eq!(control.pods.len(), 2);
        drop(pod);
        control.tick();
        settle(&mut control);
        assert_eq!(control.pods.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Unreachable));
        assert_eq!(control.descriptors.taps.len(), 2);
        assert_eq!(node.saved(), ["b"]);
        control.stop();
    });
}

#[test]
fn an_interface_deleted_inside_a_living_pod_is_noticed() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        let stale = control.descriptors.taps[&PortId(1)].fds[0].clone();
        pod.netlink().delete_link("eth0").unwrap();
        let event = control.events.recv_timeout(Duration::from_secs(2)).unwrap();
        assert!(
            matches!(
                event,
                Event::PortGone {
                    port: PortId(1),
                    ..
                }
            ),
            "{event:?}"
        );
        control.handle_event(event).unwrap();
        settle(&mut control);
        assert!(control.pods.is_empty());
        assert_eq!(node.saved(), [""; 0]);
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Unreachable));
        // Its runtime thinks that it has a network: it is named until it has one.
        let named = |control: &Control| {
            let all = control.view().status.conditions;
            let named = all.iter().find(|c| c.what == "pod a");
            named.map(|c| c.found.clone())
        };
        control.tick();
        assert!(named(&control).unwrap().contains("deleted"));
        // The number has another holder by the time a late event comes.
        control.attach(&request(&pod, "b", &["10.77.1.2"])).unwrap();
        control.tick();
        assert_eq!(named(&control), None);
        let reason = "late".to_owned();
        let (port, queue) = (PortId(1), stale);
        let late = Event::PortGone {
            port,
            queue,
            reason,
        };
        control.handle_event(late).unwrap();
        assert_eq!(control.pods.len(), 1);
        control.stop();
    });
}

#[test]
fn a_recorded_pod_that_cannot_be_served_keeps_its_address_until_it_is_detached() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        control.stop();
        // Somebody else holds its only queue.
        let held = reopened(&pod);
        let mut control = node.start(1);
        assert!(control.pods.is_empty());
        assert_eq!(node.saved(), ["a"]);
        let refused = control
            .attach(&request(&other, "b", &["10.77.1.2"]))
            .unwrap_err();
        assert!(refused.to_string().contains("pod a"), "{refused:?}");
        drop(held);
        assert!(detach(&mut control, "a").existed);
        assert_gone(&pod);
        control
            .attach(&request(&other, "b", &["10.77.1.2"]))
            .unwrap();
        control.stop();
    });
}

#[test]
fn a_learnt_path_mtu_lowers_one_peers_path_and_expires() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let mtu = |c: &Control, path| c.publisher.current().path(PathId(path)).unwrap().mtu;
        assert_eq!((mtu(&control, 0), mtu(&control, 1)), (1450, 1430));
        let dest = "192.168.77.2".parse().unwrap();
        control
            .handle_event(Event::PathMtu { dest, mtu: 1400 })
            .unwrap();
        assert_eq!((mtu(&control, 0), mtu(&control, 1)), (1350, 1430));
        // No report makes a path larger than the interface.
        control
            .handle_event(Event::PathMtu { dest, mtu: 9000 })
            .unwrap();
        assert_eq!(mtu(&control, 0), 1450);
        control
            .handle_event(Event::PathMtu { dest, mtu: 576 })
            .unwrap();
        assert_eq!(mtu(&control, 0), 526);
        control
            .handle_event(Event::PathMtuIgnored { claims: 2 })
            .unwrap();
        assert_eq!(mtu(&control, 0), 526);
        assert_eq!(control.view().status.underlay.path_mtu_ignored, 2);
        let later = Instant::now() + Duration::from_secs(601);
        assert_eq!(control.path_mtus.expire(later), [dest]);
        control.refresh_paths();
        assert_eq!(mtu(&control, 0), 1450);
        control.stop();
    });
}

#[test]
fn a_failed_worker_ends_the_control_thread_with_the_reason() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let (worker, reason) = (0, "panic: index out of bounds".to_owned());
        let ended = control
            .handle_event(Event::Failed { worker, reason })
            .unwrap_err();
        assert_eq!(ended, "worker 0 failed: panic: index out of bounds");
        control.stop();
    });
}

#[test]
fn a_hundred_pods_each_in_little_time() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let pods: Vec<Pod> = (0..100).map(|_| Pod::new()).collect();
        let mut times = Vec::new();
        for (i, pod) in pods.iter().enumerate() {
            let ip = format!("10.77.1.{}", i + 2);
            let started = Instant::now();
            control
                .attach(&request(pod, &format!("p{i}"), &[&ip]))
                .unwrap();
            times.push(started.elapsed());
        }
        times.sort();
        println!("attach: median {:?}, slowest {:?}", times[50], times[99]);
        assert_eq!(control.view().pods.len(), 100);
        // The bound is for an otherwise busy machine.
        assert!(times[50] < Duration::from_millis(100), "{:?}", times[50]);
        times.clear();
        for i in 0..100 {
            let started = Instant::now();
            assert!(detach(&mut control, &format!("p{i}")).existed);
            times.push(started.elapsed());
        }
        times.sort();
        println!("detach: median {:?}, slowest {:?}", times[50], times[99]);
        assert_eq!(control.descriptors.taps.len(), 1);
        control.stop();
    });
}
