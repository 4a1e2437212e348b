//! What else goes on at a node while pods come: locks that others hold, README's own steps.

use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Inside, Mode, Node, RingwayOptions, Topology, binary};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The older iptables, of which every program takes one lock of the whole machine.
const LEGACY: &str = "/usr/sbin/xtables-legacy-multi";
const IPTABLES: &str = "/usr/sbin/iptables";

#[test]
fn no_pod_waits_for_the_lock_of_the_older_iptables() {
    let name = "no_pod_waits_for_the_lock_of_the_older_iptables";
    if !Path::new(LEGACY).exists() || !Path::new(IPTABLES).exists() {
        return skipped(name, "iptables is not installed");
    }
    network_test(name, Duration::from_secs(60), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        // In a machine of its own, which has its own lock.
        let inside = topology.n1.boot().unwrap();
        inside.run("mount", &["--bind", LEGACY, IPTABLES]).unwrap();
        let iptables = |words: &[&str]| inside.run("iptables", words);
        iptables(&["-P", "FORWARD", "DROP"]).unwrap();
        let agent = topology.n1.agent().unwrap();
        agent.start().unwrap();
        let open = || iptables(&["-S", "FORWARD"]).unwrap().contains("ringway0");
        assert!(open(), "from the start");

        iptables(&["-F", "FORWARD"]).unwrap();
        let mut hold = Command::new("flock");
        hold.args(["-o", "/run/xtables.lock", "sleep", "60"])
            .stdin(Stdio::null());
        let mut hold = inside.start(hold).unwrap();
        // Told of a change the agent looks at the firewall, within a second.
        std::thread::sleep(Duration::from_millis(200));
        inside
            .run("nft", &["add", "table", "inet", "other"])
            .unwrap();
        inside.run("ip", &["netns", "add", "pod"]).unwrap();
        let netns = ["--netns", "/run/netns/pod"];
        let begin = Instant::now();
        let mut worst = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(3) {
            let start = Instant::now();
            agent
                .cli(&["attach", netns[0], netns[1], "--ip", "10.77.1.9"])
                .unwrap();
            worst = worst.max(start.elapsed());
            agent.cli(&["detach", netns[0], netns[1]]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("longest attach beside a held lock: {worst:?}");
        assert!(worst < Duration::from_secs(1), "an attach took {worst:?}");
        hold.kill();
        eventually(
            "the firewall is opened again",
            Duration::from_secs(10),
            open,
        );
    });
}

/// README's text below a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    const README: &str = include_str!("../../../README.md");
    let begin = README.find(heading).expect(heading) + heading.len();
    let rest = &README[begin..];
    rest.split("\n## ").next().unwrap_or(rest)
}

/// Its blocks of code, in order.
fn blocks(heading: &str) -> Vec<String> {
    let parts = section(heading).split("```");
    let code = parts.skip(1).step_by(2);
    code.map(|block| block.trim_start_matches("toml").trim().to_owned() + "\n")
        .collect()
}

#[test]
fn readmes_steps_work_as_they_are_written() {
    let name = "readmes_steps_work_as_they_are_written";
    network_test(name, Duration::from_secs(60), || {
        // The last block installs a service, which takes systemd.
        let [config, first, second, _] = &blocks("## Two nodes\n")[..] else {
            panic!("README has other blocks under \"Two nodes\"");
        };
        let mirror = [("node1", "node0"), ("node2", "node1"), ("node0", "node2")]
            .into_iter()
            .chain([
                (".77.1.0/", ".77.0.0/"),
                (".77.2.0/", ".77.1.0/"),
                (".77.0.0/", ".77.2.0/"),
            ])
            .chain([
                ("fd77:1::", "fd77:0::"),
                ("fd77:2::", "fd77:1::"),
                ("fd77:0::", "fd77:2::"),
            ])
            .chain([
                ("192.168.77.2", "192.168.77.1"),
                ("fd00:77::2", "fd00:77::1"),
            ]);
        let other = mirror.fold(config.clone(), |text, (from, to)| text.replace(from, to));

        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let folder = topology.lab.folder();
        let release = folder.join("target/release");
        std::fs::create_dir_all(&release).unwrap();
        for (name, env) in [
            ("ringway", "RINGWAY_BIN"),
            ("ringway-cni", "RINGWAY_CNI_BIN"),
        ] {
            std::os::unix::fs::symlink(binary(name, env).unwrap(), release.join(name)).unwrap();
        }
        let shell = |inside: &Inside, text: &str| {
            let text = format!("cd {}\nexec 2>&1\n{text}", folder.display());
            inside.run("sh", &["-ec", &text])
        };
        let mut agents = Vec::new();
        let mut start = |node: &mut Node, config: &str| {
            let inside = node.boot().unwrap();
            std::fs::write(folder.join("ringway.toml"), config).unwrap();
            // It is built already, and nobody need become root.
            shell(
                &inside,
                "mount -t tmpfs tmpfs /usr/local\nmkdir -p /usr/local/bin /etc/ringway\n\
                 printf '#!/bin/sh\nexec \"$@\"\n' >/usr/local/bin/sudo\n\
                 printf '#!/bin/sh\n' >/usr/local/bin/cargo\nchmod +x /usr/local/bin/*\n\
                 cp ringway.toml /etc/ringway/",
            )
            .unwrap();
            let mut command = Command::new("sh");
            command
                .args(["-ec", first.as_str()])
                .current_dir(&folder)
                .env("PATH", PATH)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(folder.join(format!("log{}", node.number))).unwrap());
            agents.push(inside.start(command).unwrap());
            eventually("the agent answers", Duration::from_secs(10), || {
                shell(&inside, &format!("PATH={PATH} ringway status")).is_ok()
            });
            inside
        };
        let one = start(&mut topology.n1, config);
        let two = start(&mut topology.n2, &other);
        // "A pod attached the same way on node2".
        let same = second.lines().take(2).map(|line| {
            line.replace("10.77.1.", "10.77.2.")
                .replace("fd77:1::", "fd77:2::")
        });
        let same: Vec<String> = same.collect();
        shell(&two, &format!("export PATH={PATH}\n{}", same.join("\n"))).unwrap();
        let printed = shell(&one, &format!("export PATH={PATH}\n{second}")).unwrap();
        assert!(printed.contains(" 0% packet loss"), "{printed}");

        let [install, ..] = &blocks("## Under a container runtime\n")[..] else {
            panic!("README has no block under \"Under a container runtime\"");
        };
        let printed = shell(&one, &format!("export PATH={PATH}\n{install}")).unwrap();
        assert!(
            printed.contains("/opt/cni/bin/loopback: containerd"),
            "{printed}"
        );
        for file in [
            "/opt/cni/bin/ringway-cni",
            "/etc/cni/net.d/05-ringway.conflist",
        ] {
            assert!(printed.contains(file), "{printed}");
            assert!(one.path(file).is_file(), "{file}");
        }
        shell(&one, "touch /opt/cni/bin/loopback").unwrap();
        let printed = shell(&one, &format!("export PATH={PATH}\n{install}")).unwrap();
        assert!(!printed.contains("containerd"), "{printed}");

        // `sudo ringway uninstall`, with the agent stopped and a pod still there.
        let pod = second.lines().take(2).collect::<Vec<_>>().join("\n");
        shell(&one, &format!("export PATH={PATH}\n{pod}")).unwrap();
        let end = "kill $(ringway status --json | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')";
        shell(&one, &format!("export PATH={PATH}\n{end}")).unwrap();
        assert!(
            agents[0].wait(Duration::from_secs(5)).is_some(),
            "SIGTERM ends it"
        );
        let printed = shell(&one, &format!("export PATH={PATH}\nringway uninstall")).unwrap();
        for words in [
            "/opt/cni/bin/ringway-cni",
            "1 pods have no network any more",
        ] {
            assert!(printed.contains(words), "{printed}");
        }
        assert!(!one.path("/opt/cni/bin/ringway-cni").exists());
    });
}

/// That of a login, with what README installs first.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
