//! What the CNI plugin asks for, against the kernel.

use ringway_cni::api::{Bandwidth, Delegated, PodIdentity, PortMapping, Route};

use super::*;

fn attachment(container: &str) -> Attachment {
    Attachment {
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

pub(super) fn add(pod: &Pod, container: &str) -> Add {
    Add {
        attachment: attachment(container),
        netns: pod.path().display().to_string(),
        network: "ringway".into(),
        ..Add::default()
    }
}

fn check(pod: &Pod, container: &str, added: &Added) -> Check {
    Check {
        attachment: attachment(container),
        netns: pod.path().display().to_string(),
        ips: added.ips.iter().map(|ip| ip.address.clone()).collect(),
        mac: Some(added.mac.clone()),
        routes: added.routes.clone(),
        port_mappings: Vec::new(),
    }
}

fn del(control: &mut Control, container: &str) -> Done {
    let done = control.cni_del(&attachment(container));
    settle(control);
    done
}

fn addresses(added: &Added) -> Vec<&str> {
    added.ips.iter().map(|ip| ip.address.as_str()).collect()
}

#[test]
fn an_add_gets_addresses_of_both_families_and_a_check_agrees() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let mut request = add(&pod, "c1");
        request.pod = Some(PodIdentity {
            namespace: "default".into(),
            name: "web-0".into(),
            uid: "u".into(),
        });
        let added = control.cni_add(&request).unwrap();
        assert_eq!(addresses(&added), ["10.77.1.2/24", "fd77:1::2/64"]);
        assert_eq!((added.mtu, added.mac.as_str()), (1430, "0a:58:0a:4d:01:02"));
        let routes: Vec<_> = added.routes.iter().map(|r| r.dst.as_str()).collect();
        assert_eq!(routes, ["0.0.0.0/0", "::/0"]);
        assert_eq!(node.saved(), ["default/web-0"]);
        control.cni_check(&check(&pod, "c1", &added)).unwrap();

        let again = control.cni_add(&request).unwrap_err();
        assert_eq!(again.kind(), Kind::Taken, "{again:?}");
        assert!(again.to_string().contains("attached already"), "{again:?}");

        assert_eq!(del(&mut control, "c1").note, None);
        assert_gone(&pod);
        assert!(del(&mut control, "c1").note.is_some());
        let gone = control.cni_check(&check(&pod, "c1", &added)).unwrap_err();
        assert_eq!(gone.kind(), Kind::Unknown);
        // The address that was just released is the last to be used again.
        let next = control.cni_add(&request).unwrap();
        assert_eq!(addresses(&next), ["10.77.1.3/24", "fd77:1::3/64"]);
        control.stop();
    });
}

#[test]
fn a_check_sees_what_somebody_broke() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        let added = control.cni_add(&add(&pod, "c1")).unwrap();
        let good = check(&pod, "c1", &added);
        let refused = |control: &mut Control, check: &Check, words: &str| {
            let refused = control.cni_check(check).expect_err(words);
            assert!(refused.to_string().contains(words), "{refused:?}");
        };
        let mut wrong = good.clone();
        wrong.ips[0] = "10.77.1.9/24".into();
        refused(&mut control, &wrong, "10.77.1.9/24");
        let mut wrong = good.clone();
        wrong.mac = Some("0a:58:00:00:00:01".into());
        refused(&mut control, &wrong, "0a:58:00:00:00:01");
        let mut wrong = good.clone();
        wrong.netns = other.path().display().to_string();
        refused(&mut control, &wrong, "is not the namespace");

        let mut inside = pod.netlink();
        let index = inside.link("eth0").unwrap().index;
        let default = inside.routes(index).unwrap();
        let default = default.iter().find(|r| r.prefix_len == 0).unwrap();
        inside.remove_route(default).unwrap();
        refused(&mut control, &good, "default route");
        let ip = "10.77.1.2".parse().unwrap();
        inside.remove_address(index, ip, 24).unwrap();
        refused(&mut control, &good, "lost its address 10.77.1.2");
        ringway_kernel::testing::set_up(&mut inside, index, false);
        refused(&mut control, &good, "down");
        control.stop();
    });
}

#[test]
fn what_a_pod_asks_for_it_gets_or_is_told_who_has_it() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        let mut asks = add(&pod, "c1");
        asks.ips = vec!["10.77.1.200/24".into()];
        asks.mac = Some("0a:58:00:00:00:01".into());
        asks.mtu = Some(1400);
        asks.routes = vec![
            Route {
                dst: "10.96.0.0/12".into(),
                gw: None,
            },
            Route {
                dst: "0.0.0.0/0".into(),
                gw: None,
            },
        ];
        let added = control.cni_add(&asks).unwrap();
        assert_eq!(addresses(&added), ["10.77.1.200/24", "fd77:1::2/64"]);
        assert_eq!(added.mac, "0a:58:00:00:00:01");
        assert_eq!(added.mtu, 1400);
        assert_eq!(added.routes.len(), 3);
        let taken = control.cni_add(&Add {
            attachment: attachment("c2"),
            netns: other.path().display().to_string(),
            ..asks.clone()
        });
        let taken = taken.unwrap_err();
        assert_eq!(taken.kind(), Kind::Taken);
        assert!(taken.to_string().contains("c1/eth0"), "{taken:?}");
        assert_gone(&other);
        assert_eq!(node.saved(), ["c1/eth0"]);
        control.stop();
    });
}

#[test]
fn limits_are_checked_first_and_fit_the_pods_queue() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let mut asks = add(&pod, "c1");
        asks.bandwidth = Some(Bandwidth {
            egress_rate: 10,
            ..Bandwidth::default()
        });
        let refused = control.cni_add(&asks).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(
            refused.to_string().contains("egress rate of 10 bit/s"),
            "{refused:?}"
        );
        assert_gone(&pod);
        asks.bandwidth = Some(Bandwidth {
            egress_rate: 20_000_000,
            ..Bandwidth::default()
        });
        control.cni_add(&asks).unwrap();
        let queue = |pod: &Pod| pod.netlink().link("eth0").unwrap().tx_queue_len;
        let short = queue(&pod).unwrap();
        assert!(short < 500, "{short}");
        control.stop();
        // It is limited again after a restart, and says so.
        let control = node.start(1);
        let shown = control.view().pods.remove(0).bandwidth.unwrap();
        assert_eq!(shown.egress_rate, 20_000_000);
        control.stop();
    });
}

#[test]
fn addresses_of_another_ipam_plugin_must_be_the_nodes() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let with = |address: &str, gateway: Option<&str>| Add {
            delegated: vec![Delegated {
                address: address.into(),
                gateway: gateway.map(str::to_owned),
            }],
            ..add(&pod, "c1")
        };
        for (address, gateway, words) in [
            ("10.99.1.2/24", None, "outside"),
            ("10.77.1.50/16", None, "the pod network is 10.77.1.0/24"),
            ("10.77.1.50/24", Some("10.77.1.254"), "gateway"),
            ("10.77.1.50/24", Some("x"), "no IP address"),
            ("10.77.1.1/24", None, "gateway's address"),
        ] {
            let refused = control.cni_add(&with(address, gateway)).expect_err(words);
            assert!(refused.to_string().contains(words), "{refused:?}");
        }
        let good = with("10.77.1.50/24", Some("10.77.1.1"));
        let added = control.cni_add(&good).unwrap();
        // What the other plugin gave is all there is: no address of ours is added.
        assert_eq!(addresses(&added), ["10.77.1.50/24"]);
        control.stop();
    });
}

#[test]
fn a_full_network_says_who_has_it() {
    in_netns(|| {
        let (node, pods) = (Node::new(), [Pod::new(), Pod::new(), Pod::new()]);
        let mut config = node.config(1);
        let range = ringway_config::ipam::Range::parse("10.77.1.8-10.77.1.9").unwrap();
        config.ipam.ranges = vec![range];
        let mut control = Control::start(config).unwrap();
        for (pod, name) in pods.iter().zip(["c1", "c2"]) {
            control.cni_add(&add(pod, name)).unwrap();
        }
        let full = control.cni_add(&add(&pods[2], "c3")).unwrap_err();
        assert_eq!(full.kind(), Kind::Full);
        assert!(full.to_string().contains("10.77.1.8 c1/eth0"), "{full:?}");
        assert_gone(&pods[2]);
        del(&mut control, "c1");
        let added = control.cni_add(&add(&pods[2], "c3")).unwrap();
        assert_eq!(addresses(&added)[0], "10.77.1.8/24");
        control.stop();
    });
}

#[test]
fn a_del_that_found_no_agent_is_applied_when_it_is_back() {
    in_netns(|| {
        let (node, pods) = (Node::new(), [Pod::new(), Pod::new(), Pod::new()]);
        let mut control = node.start(1);
        for (pod, name) in pods.iter().zip(["c1", "c2", "c3"]) {
            control.cni_add(&add(pod, name)).unwrap();
        }
        control.stop();
        let folder = node.dir.path().join("state/cni-pending");
        std::fs::create_dir_all(&folder).unwrap();
        let leave = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let words = serde_json::to_string(&attachment("c1")).unwrap();
        leave("c1@eth0", &words);
        leave(".c9@eth0.tmp", "{");
        leave("garbage", "\0");
        let mut control = node.start(1);
        assert_eq!(node.saved(), ["c2/eth0", "c3/eth0"]);
        assert!(folder.join(".c9@eth0.tmp").exists());
        assert!(!folder.join("garbage").exists());
        // Also before an ADD of the same container.
        leave(
            "c2@eth0",
            &serde_json::to_string(&attachment("c2")).unwrap(),
        );
        control.cni_add(&add(&pods[1], "c2")).unwrap();
        // And while nobody asks.
        leave(
            "c3@eth0",
            &serde_json::to_string(&attachment("c3")).unwrap(),
        );
        control.tick();
        assert_eq!(node.saved(), ["c2/eth0"]);
        control.stop();
    });
}

/// As a child has them that has not begun to run its program.
#[test]
fn an_interface_that_another_process_still_holds_is_waited_for() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.cni_add(&add(&pod, "c1")).unwrap();
        let (_, queues) = control.descriptors.taps.last_key_value().unwrap();
        let copy = queues.fds[0].try_clone().unwrap();
        del(&mut control, "c1");
        let holds = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(copy);
        });
        control.cni_add(&add(&pod, "c2")).unwrap();
        holds.join().unwrap();
        assert_eq!(links(&pod), ["lo", "eth0"]);
        control.stop();
    });
}

#[test]
fn a_gc_releases_what_is_gone_of_its_own_network_only() {
    in_netns(|| {
        let (node, pods) = (
            Node::new(),
            [Pod::new(), Pod::new(), Pod::new(), Pod::new()],
        );
        let mut control = node.start(1);
        for (pod, name) in pods.iter().zip(["c1", "c2"]) {
            control.cni_add(&add(pod, name)).unwrap();
        }
        let mut other = add(&pods[2], "c3");
        other.network = "other".into();
        control.cni_add(&other).unwrap();
        control
            .attach(&request(&pods[3], "by-hand", &["10.77.1.99"]))
            .unwrap();
        let collected = control.cni_gc(&Gc {
            network: "ringway".into(),
            keep: vec![attachment("c2"), attachment("c9")],
        });
        assert_eq!(collected.released, [attachment("c1")]);
        assert_eq!(node.saved(), ["by-hand", "c2/eth0", "c3/eth0"]);
        control.stop();
    });
}

#[test]
fn an_add_for_a_container_whose_namespace_was_made_anew_takes_its_place() {
    in_netns(|| {
        let (node, pod, anew) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control.cni_add(&add(&pod, "c1")).unwrap();
        let added = control.cni_add(&add(&anew, "c1")).unwrap();
        assert_eq!(addresses(&added)[0], "10.77.1.3/24");
        assert_eq!(node.saved(), ["c1/eth0"]);
        settle(&mut control);
        assert_gone(&pod);
        control.stop();
    });
}

#[test]
fn an_attach_that_a_kill_cut_short_is_swept_away() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.cni_add(&add(&pod, "c1")).unwrap();
        // As if it had been killed before it wrote that the interface is made.
        control.state.pods.get_mut("c1/eth0").unwrap().pending = true;
        control.state_dir.save(&control.state).unwrap();
        control.stop();
        let mut control = node.start(1);
        assert_eq!(node.saved(), [""; 0]);
        assert_gone(&pod);
        control.cni_add(&add(&pod, "c1")).unwrap();
        control.stop();
    });
}

/// What is logged by this thread meanwhile.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    use std::sync::Mutex;
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let value = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (value, text)
}

#[test]
fn a_strange_thing_among_pending_dels_is_said_once() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let folder = node.dir.path().join("state/cni-pending");
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        let fifo = folder.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("endless")).unwrap();
        std::fs::write(folder.join("large"), vec![b' '; 100_000]).unwrap();
        let names = ["folder", "fifo", "endless", "large"];
        let begin = Instant::now();
        let (_, text) = logged(|| {
            for _ in 0..3 {
                control.tick();
            }
            control.cni_add(&add(&pod, "c1")).unwrap();
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
        for name in names {
            assert_eq!(
                text.matches(&format!("cni-pending/{name}")).count(),
                1,
                "{name}: {text}"
            );
        }
        // What is over may come again.
        std::fs::remove_dir(folder.join("folder")).unwrap();
        control.tick();
        std::fs::create_dir(folder.join("folder")).unwrap();
        let (_, text) = logged(|| control.tick());
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("cni-pending/folder"), "{text}");
        // The folder itself is another's.
        std::fs::remove_file(&fifo).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        let (_, text) = logged(|| {
            control.tick();
            control.tick();
        });
        assert_eq!(text.matches("cannot be looked for").count(), 1, "{text}");
        assert_eq!(node.saved(), ["c1/eth0"]);
        control.stop();
    });
}

#[test]
fn keys_that_are_not_known_are_logged_once_by_name() {
    in_netns(|| {
        let (node, pods) = (Node::new(), [Pod::new(), Pod::new()]);
        let mut control = node.start(1);
        let (_, text) = logged(|| {
            for (pod, name) in pods.iter().zip(["c1", "c2"]) {
                let mut add = add(pod, name);
                add.ignored = vec!["mtuu".into(), "runtimeConfig.x".into()];
                control.cni_add(&add).unwrap();
            }
        });
        for key in ["mtuu", "runtimeConfig.x"] {
            assert_eq!(text.matches(key).count(), 1, "{text}");
        }
        control.stop();
    });
}

#[test]
fn a_second_interface_of_the_network_in_one_pod_is_refused() {
    in_netns(|| {
        let (node, pod, other) = (Node::new(), Pod::new(), Pod::new());
        let mut control = node.start(1);
        control.cni_add(&add(&pod, "c1")).unwrap();
        for container in ["c1", "c2"] {
            let mut second = add(&pod, container);
            second.attachment.ifname = "net1".into();
            let refused = control.cni_add(&second).unwrap_err();
            assert_eq!(refused.kind(), Kind::Taken, "{refused:?}");
            for words in ["eth0 of this network already, as pod c1/eth0", "net1"] {
                assert!(refused.to_string().contains(words), "{refused:?}");
            }
        }
        let mut by_hand = request(&pod, "by-hand", &["10.77.1.99"]);
        by_hand.ifname = "net1".into();
        assert_eq!(control.attach(&by_hand).unwrap_err().kind(), Kind::Taken);
        assert_eq!(links(&pod), ["lo", "eth0"]);
        assert_eq!(node.saved(), ["c1/eth0"]);
        // Under another name it is well in another pod, and in this one when the first has gone.
        let mut alone = add(&other, "c3");
        alone.attachment.ifname = "net1".into();
        control.cni_add(&alone).unwrap();
        del(&mut control, "c1");
        let mut next = add(&pod, "c1");
        next.attachment.ifname = "net1".into();
        control.cni_add(&next).unwrap();
        control.stop();
    });
}

#[test]
fn host_ports_that_cannot_be_are_left_out_or_refused_by_name() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let with = |port: u16, host_ip: &str| Add {
            port_mappings: vec![PortMapping {
                host_port: port,
                container_port: 80,
                protocol: "tcp".into(),
                host_ip: host_ip.into(),
            }],
            ..add(&pod, "c1")
        };
        let refused = control.cni_add(&with(8080, "::1")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.to_string().contains("hostIP ::1"), "{refused:?}");
        // Somebody listens: of IPv4, of both, only on another address.
        let listener = std::net::TcpListener::bind("0.0.0.0:2222").unwrap();
        let refused = control.cni_add(&with(2222, "")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Taken);
        let who = format!("(pid {})", std::process::id());
        for words in ["host port 2222/tcp", who.as_str()] {
            assert!(refused.to_string().contains(words), "{refused:?}");
        }
        assert_gone(&pod);
        control.cni_add(&with(2222, "fd00:77::1")).unwrap();
        del(&mut control, "c1");
        drop(listener);
        // A child of another test, not yet itself, may have it for a moment.
        let until = Instant::now() + Duration::from_secs(5);
        while let Err(e) = control.cni_add(&with(2222, "")) {
            assert!(Instant::now() < until, "{e:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        del(&mut control, "c1");
        // The pod has IPv4 only.
        let mut single = with(8081, "fd00:77::1");
        single.delegated = vec![Delegated {
            address: "10.77.1.50/24".into(),
            gateway: None,
        }];
        let (added, text) = logged(|| control.cni_add(&single));
        assert_eq!(addresses(&added.unwrap()), ["10.77.1.50/24"]);
        assert!(
            text.contains("host port 8081 at fd00:77::1 is left out"),
            "{text}"
        );
        control.stop();
    });
}
