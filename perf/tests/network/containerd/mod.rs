//! A container runtime that uses Ringway by CNI: containerd and runc, on two nodes with VXLAN between.
//!
//! What is asserted of a pod is what its container sees, and what the agent says of it.

mod cluster;
mod cri;
mod image;
mod in_image;
mod runtime;

use crate::common::{assert_none, check_traffic};
use crate::harness::{eventually, network_test, skipped};
use cluster::Cluster;
use cri::Sandbox;
use image::{PAGE, loopback, packages};
use ringway_perf::lab::Family;
use ringway_perf::traffic::OutageProbe;
use runtime::Container;
use std::time::Duration;

const MISSING: &str = "containerd, runc and busybox-static could not be had";
/// How long packets may stop over a restart.
const PAUSE: Duration = Duration::from_secs(3);
/// How soon what the kernel or another process does is to be seen.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn containers_of_containerd_reach_each_other_over_restarts() {
    containerd_test(
        "containers_of_containerd_reach_each_other_over_restarts",
        |cluster| {
            let [c1, c2, c3] = cluster.three_containers();
            let all = [(1, &c1), (1, &c2), (2, &c3)];
            let mut failures = Vec::new();
            for (number, container) in all {
                failures.extend(cluster.addresses_agree(number, container));
                failures.extend(cluster.gateway_answers(number, container));
                failures.extend(cluster.is_masqueraded(number, container));
                for (other, to) in all.iter().filter(|(_, to)| to.id != container.id) {
                    failures.extend(cluster.pages_from(number, container, *other, to));
                }
            }
            assert_none(&failures);
            let [a1, a2, a3] = all.map(|(number, container)| cluster.addresses(number, container));
            for i in 0..2 {
                let check = |what, from: &Container, to: &Container, address| {
                    check_traffic(what, &from.ns, &to.ns, address)
                };
                failures.extend(check("same node", &c1, &c2, a2[i]));
                failures.extend(check("across", &c2, &c3, a3[i]));
                failures.extend(check("back", &c3, &c1, a1[i]));
            }
            assert_none(&failures);

            // The runtime goes and comes back, then the agent; packets are under way meanwhile.
            for step in ["containerd restarts", "the agent is killed"] {
                let probe =
                    |to: &Container, address| OutageProbe::start(&c1.ns, &to.ns, address).unwrap();
                let probes = [probe(&c2, a2[0]), probe(&c3, a3[0]), probe(&c3, a3[1])];
                if step == "the agent is killed" {
                    let agent = cluster.node(1).agent().unwrap();
                    agent.kill();
                    agent.start().unwrap();
                } else {
                    cluster.runtime1.stop();
                    std::thread::sleep(Duration::from_millis(200));
                    cluster.runtime1.launch().unwrap();
                }
                std::thread::sleep(Duration::from_millis(200));
                for outage in probes.map(OutageProbe::finish) {
                    println!(
                        "{step}: no packets for {:?} of {} sent",
                        outage.longest, outage.sent
                    );
                    assert!(outage.answered > 0, "{step}: nothing was answered");
                    assert!(
                        outage.longest < PAUSE,
                        "{step}: no packets for {:?}",
                        outage.longest
                    );
                }
                let mut failures = cluster.addresses_agree(1, &c1);
                failures.extend(cluster.pages_from(1, &c1, 2, &c3));
                failures.extend(cluster.pages_from(2, &c3, 1, &c2));
                assert_none(&failures);
            }
            // Containers still come and go.
            let (c4, ctr) = cluster.runtime1.run_attended("c4").unwrap();
            assert_none(&cluster.pages_from(1, &c4, 2, &c3));
            cluster.end_attended(1, &c4, ctr);

            let canaries = [
                cluster.canary("canary1", &c1),
                cluster.canary("canary3", &c3),
            ];
            // Nobody calls DEL for detached containers but who started them: Kubernetes before the end, others
            // after it.
            cluster.runtime1.del(&c2).unwrap();
            eventually("its interface is gone", Duration::from_secs(2), || {
                let show = ["ip", "link", "show", "eth0"];
                cluster.runtime1.exec(&c2.id, &show).is_err()
            });
            for (number, container) in all {
                cluster.runtime(number).remove(&container.id).unwrap();
                cluster.runtime(number).del(container).unwrap();
                // A runtime that got no answer asks again.
                cluster.runtime(number).del(container).unwrap();
            }
            for canary in &canaries {
                cluster.canary_is_gone(canary);
            }
            for addresses in [&a1, &a2] {
                cluster.are_free(addresses);
            }
            cluster.nothing_is_left();
        },
    );
}

#[test]
fn containerd_ends_containers_while_no_agent_runs() {
    containerd_test(
        "containerd_ends_containers_while_no_agent_runs",
        |cluster| {
            let (c1, ctr1) = cluster.runtime1.run_attended("c1").unwrap();
            let (c2, ctr2) = cluster.runtime1.run_attended("c2").unwrap();
            let (kept, ended) = (cluster.addresses(1, &c1), cluster.addresses(1, &c2));
            let canary = cluster.canary("canary2", &c2);

            cluster.node(1).agent().unwrap().kill();
            cluster.runtime1.kill(&c2.id).unwrap();
            cluster.wait_for("its attended end", ctr2);
            assert_eq!(
                cluster.pending(1).len(),
                1,
                "the DEL waits in a file: {:?}",
                cluster.pending(1)
            );
            // An ADD is refused for now, and leaves no container.
            let refused = cluster
                .runtime1
                .run("c3")
                .err()
                .expect("no agent")
                .to_string();
            assert!(refused.contains("does not answer"), "{refused}");
            let _ = cluster.runtime1.remove("c3");

            cluster.node(1).agent().unwrap().start().unwrap();
            eventually("the DEL is applied", SOON, || cluster.pending(1).is_empty());
            assert_eq!(cluster.pods(1), [c1.pod()]);
            cluster.canary_is_gone(&canary);
            assert_eq!(cluster.addresses(1, &c1), kept);
            assert_none(&cluster.gateway_answers(1, &c1));
            cluster.are_free(&ended);

            cluster.end_attended(1, &c1, ctr1);
            cluster.nothing_is_left();
        },
    );
}

#[test]
fn nothing_of_a_container_survives_a_reboot() {
    containerd_test("nothing_of_a_container_survives_a_reboot", |cluster| {
        let [c1, c2, c3] = cluster.three_containers();
        let before = [cluster.addresses(1, &c1), cluster.addresses(1, &c2)];
        let canaries = [
            cluster.canary("canary1", &c1),
            cluster.canary("canary2", &c2),
        ];

        cluster.reboot_node_1();
        for canary in &canaries {
            cluster.canary_is_gone(canary);
        }
        assert_eq!(cluster.pods(1), [""; 0]);
        assert_eq!(cluster.recorded(1), 0);
        for addresses in &before {
            cluster.are_free(addresses);
        }
        // The runtime knows its containers by name, and takes them away without their tasks.
        for container in [&c1, &c2] {
            cluster.runtime1.del(container).unwrap();
            assert!(
                cluster
                    .runtime1
                    .containers()
                    .unwrap()
                    .contains(&container.id)
            );
            cluster.runtime1.forget(&container.id).unwrap();
        }
        let again = cluster.runtime1.run("c1").unwrap();
        assert_none(&cluster.addresses_agree(1, &again));
        assert_none(&cluster.pages_from(1, &again, 2, &c3));
        assert_none(&cluster.pages_from(2, &c3, 1, &again));
        for (number, container) in [(1, &again), (2, &c3)] {
            cluster.runtime(number).remove(&container.id).unwrap();
            cluster.runtime(number).del(container).unwrap();
        }
        cluster.nothing_is_left();
    });
}

#[test]
fn host_ports_and_limits_come_by_the_cri() {
    let name = "host_ports_and_limits_come_by_the_cri";
    let Some(loopback) = packages().as_deref().and_then(loopback) else {
        return skipped(name, "containernetworking-plugins could not be had");
    };
    containerd_test(name, |cluster| {
        let cri = cluster.cri(&loopback);
        let cgroup = cluster.runtime1.cgroup().to_owned();
        let web = Sandbox {
            name: "web",
            cgroup: &cgroup,
            ports: &[(0, 80, 18080), (1, 53, 5353)],
            annotations: &[
                ("kubernetes.io/ingress-bandwidth", "20M"),
                ("kubernetes.io/egress-bandwidth", "10M"),
            ],
        };
        let id = cri.run(&web).unwrap();
        let told = cri.addresses(&id).unwrap();
        let pod = cluster.pod("default/web");
        let listed: Vec<&str> = pod["ips"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ip| ip.as_str().unwrap().split('/').next().unwrap())
            .collect();
        assert_eq!(told, listed);
        assert_eq!(told.len(), 2);
        let limits = &pod["bandwidth"];
        let rates = (&limits["ingress_rate"], &limits["egress_rate"]);
        assert_eq!(rates, (&20_000_000.into(), &10_000_000.into()), "{pod}");
        // A pod is made when its process has been started, not when that listens.
        let serves = |cluster: &Cluster, family| {
            eventually(&format!("a page by {family}"), SOON, || {
                let page = cluster.page_from_outside(family, 18080);
                page.is_ok_and(|page| page == PAGE)
            });
        };
        for family in Family::BOTH {
            serves(cluster, family);
        }
        // Another pod for that port is told who has it, and nothing of it stays.
        let other = Sandbox {
            name: "other",
            ..web.clone()
        };
        let refused = cri.run(&other).unwrap_err().to_string();
        let words = "host port 18080/tcp already leads to pod default/web";
        assert!(refused.contains(words), "{refused}");
        assert_eq!(cluster.pods(1), ["default/web"]);

        for _ in 0..2 {
            cri.stop(&id).unwrap();
        }
        assert_eq!(cluster.pods(1), [""; 0]);
        for family in Family::BOTH {
            let page = cluster.page_from_outside(family, 18080);
            assert!(page.is_err(), "{family}: {page:?}");
        }
        cri.remove(&id).unwrap();
        let again = cri.run(&other).unwrap();
        serves(cluster, Family::V4);
        cri.stop(&again).unwrap();
        cri.remove(&again).unwrap();
        cluster.nothing_is_left();
    });
}

#[test]
fn a_failed_test_leaves_no_containers() {
    let name = "a_failed_test_leaves_no_containers";
    let Some(packages) = packages() else {
        return skipped(name, MISSING);
    };
    network_test(name, Duration::from_secs(60), || {
        let mut inside = None;
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let cluster = Cluster::build(packages);
            cluster.three_containers();
            let (_, _ctr) = cluster.runtime1.run_attended("c4").unwrap();
            inside = Some([1, 2].map(|number| cluster.runtime(number).inside().clone()));
            panic!("on purpose");
        }));
        assert!(failed.is_err());
        let [one, two] = inside
            .expect("containers ran")
            .map(|inside| inside.processes());
        assert_eq!((one, two), (Vec::new(), Vec::new()));
    });
}

fn containerd_test(name: &str, body: impl FnOnce(&mut Cluster)) {
    let Some(packages) = packages() else {
        return skipped(name, MISSING);
    };
    network_test(name, Duration::from_secs(60), || {
        body(&mut Cluster::build(packages))
    });
}
