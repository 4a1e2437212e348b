//! Two nodes, each a machine with an agent, the plugin and a containerd.

use super::SOON;
use super::cri::Cri;
use super::image::{PAGE, make_image};
use super::runtime::{Container, Runtime};
use crate::common::LIMIT;
use crate::harness::eventually;
use ringway_perf::lab::{Agent, Family, Mode, Node, Process, RingwayOptions, Topology, binary};
use ringway_perf::traffic::{ping, tcp_seen};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// Two nodes, each with an agent and a containerd.
pub(super) struct Cluster {
    // Before the nodes, inside which they run.
    pub(super) runtime1: Runtime,
    runtime2: Runtime,
    topology: Topology,
    packages: PathBuf,
    image: PathBuf,
}

impl Cluster {
    pub(super) fn build(packages: PathBuf) -> Cluster {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let folder = topology.lab.folder();
        let image = make_image(&packages, &folder).unwrap();
        let start = |node: &mut Node| {
            let runtime = boot(node, &packages, &folder);
            runtime.import(&image).unwrap();
            runtime
        };
        Cluster {
            runtime1: start(&mut topology.n1),
            runtime2: start(&mut topology.n2),
            topology,
            packages,
            image,
        }
    }

    /// A client of node 1's CRI, with the plugins it needs.
    pub(super) fn cri(&self, loopback: &Path) -> Cri {
        let from = loopback.display().to_string();
        let inside = self.runtime1.inside();
        inside.run("cp", &[from.as_str(), "/opt/cni/bin/"]).unwrap();
        self.runtime1.cri(&self.image).unwrap()
    }

    /// What the agent of node 1 says of a pod.
    pub(super) fn pod(&mut self, name: &str) -> Value {
        let pods = pods(self.topology.n1.agent().unwrap());
        let pod = pods.iter().find(|pod| pod["name"] == name);
        pod.unwrap_or_else(|| panic!("{name} is not in {pods:?}"))
            .clone()
    }

    /// The page at a port of node 1, asked for by node 2.
    pub(super) fn page_from_outside(&self, family: Family, port: u16) -> std::io::Result<String> {
        let address = SocketAddr::new(self.topology.n1.ip(family), port);
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer
                .rsplit("\r\n\r\n")
                .next()
                .unwrap_or_default()
                .to_owned())
        };
        self.topology.n2.ns.run(ask).unwrap()
    }

    pub(super) fn three_containers(&self) -> [Container; 3] {
        let run = |number, id| self.runtime(number).run(id).unwrap();
        [run(1, "c1"), run(1, "c2"), run(2, "c3")]
    }

    pub(super) fn node(&mut self, number: u8) -> &mut Node {
        match number {
            1 => &mut self.topology.n1,
            _ => &mut self.topology.n2,
        }
    }

    pub(super) fn runtime(&self, number: u8) -> &Runtime {
        match number {
            1 => &self.runtime1,
            _ => &self.runtime2,
        }
    }

    /// Killed with all that runs on it; what is left of a real one is what its disk has.
    pub(super) fn reboot_node_1(&mut self) {
        let folder = self.topology.lab.folder();
        let node = &mut self.topology.n1;
        node.agent().unwrap().kill();
        self.runtime1.kill_daemon();
        let state = folder.join("n1/state/state.json");
        let mut value = read_json(&state);
        assert_eq!(
            value["pods"].as_object().map(|pods| pods.len()),
            Some(2),
            "{value}"
        );
        value["boot_id"] = "6f1c2e9a-0000-4000-8000-000000000000".into();
        std::fs::write(&state, value.to_string()).unwrap();
        node.ns.ip("link del ringway0").unwrap();
        self.runtime1 = boot(node, &self.packages, &folder);
    }

    /// Names of the pods an agent has, sorted.
    pub(super) fn pods(&mut self, number: u8) -> Vec<String> {
        let pods = pods(self.node(number).agent().unwrap());
        let mut names: Vec<String> = pods.iter().map(|pod| text(&pod["name"])).collect();
        names.sort();
        names
    }

    /// A pod's addresses as its agent has them, IPv4 first.
    pub(super) fn addresses(&mut self, number: u8, container: &Container) -> [IpAddr; 2] {
        let texts = self.listed_addresses(number, container);
        let parse = |text: &String| text.split('/').next()?.parse().ok();
        let mut addresses: Vec<IpAddr> = texts.iter().filter_map(parse).collect();
        addresses.sort();
        addresses
            .try_into()
            .unwrap_or_else(|found| panic!("{}: {found:?}", container.id))
    }

    fn listed_addresses(&mut self, number: u8, container: &Container) -> Vec<String> {
        let pods = pods(self.node(number).agent().unwrap());
        let pod = pods
            .iter()
            .find(|pod| pod["name"] == container.pod().as_str());
        let pod = pod.unwrap_or_else(|| panic!("{} is not in {pods:?}", container.pod()));
        let mut ips: Vec<String> = pod["ips"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        ips.sort();
        ips
    }

    /// What `ringway pods` lists is what `ip` shows in the container: one address of each family.
    pub(super) fn addresses_agree(&mut self, number: u8, container: &Container) -> Vec<String> {
        let listed = self.listed_addresses(number, container);
        let shown = self.runtime(number).addresses(container).unwrap();
        let agree = listed == shown && listed.len() == 2;
        let failure = format!(
            "{}: the agent says {listed:?}, ip in it {shown:?}",
            container.id
        );
        (!agree).then_some(failure).into_iter().collect()
    }

    pub(super) fn gateway_answers(&mut self, number: u8, container: &Container) -> Vec<String> {
        let gateways = Family::BOTH.map(|family| self.node(number).gateway(family));
        let runtime = self.runtime(number);
        let asked = gateways.map(|gateway| {
            let gateway = gateway.to_string();
            runtime
                .exec(&container.id, &["ping", "-c", "2", "-W", "2", &gateway])
                .err()
        });
        asked
            .into_iter()
            .flatten()
            .map(|error| format!("gateway: {error}"))
            .collect()
    }

    /// Outside the pod network the container is seen under its node's address; the other node's own address
    /// is such a place.
    pub(super) fn is_masqueraded(&mut self, number: u8, container: &Container) -> Vec<String> {
        let mut failures = Vec::new();
        for family in Family::BOTH {
            let own = self.node(number).ip(family);
            let outside = self.node(3 - number);
            match tcp_seen(&container.ns, &outside.ns, outside.ip(family), LIMIT) {
                Ok(seen) if seen.receiver_saw.ip() == own => {}
                Ok(seen) => failures.push(format!("outside, {family}: {seen:?}, not {own}")),
                Err(error) => failures.push(format!("outside, {family}: {error}")),
            }
        }
        failures
    }

    /// Ping and a page of `to`, asked for from inside a container, by both families.
    pub(super) fn pages_from(
        &mut self,
        number: u8,
        from: &Container,
        other: u8,
        to: &Container,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        for address in self.addresses(other, to) {
            let mut note = |found: String| {
                failures.push(format!("{} to {} at {address}: {found}", from.id, to.id))
            };
            match ping(&from.ns, address, 2, 56, LIMIT) {
                Ok(report) if report.all() => {}
                Ok(report) => note(report.to_string()),
                Err(error) => note(error.to_string()),
            }
            match self.runtime(number).fetch(from, address) {
                Ok(page) if page == PAGE => {}
                Ok(page) => note(format!("the page is {page:?}")),
                Err(error) => note(error.to_string()),
            }
        }
        failures
    }

    /// Kills a container that `ctr` waits for, which then calls DEL.
    pub(super) fn end_attended(&mut self, number: u8, container: &Container, ctr: Process) {
        let addresses = self.addresses(number, container);
        self.runtime(number).kill(&container.id).unwrap();
        self.wait_for(&container.id, ctr);
        assert!(!self.pods(number).contains(&container.pod()));
        assert_eq!(number, 1, "addresses are tried on node 1");
        self.are_free(&addresses);
    }

    pub(super) fn wait_for(&self, what: &str, mut ctr: Process) {
        assert!(
            ctr.wait(SOON).is_some(),
            "{what}: ctr does not end: {}",
            self.runtime1.log()
        );
    }

    /// Addresses of node 1 can be given to another pod.
    pub(super) fn are_free(&mut self, addresses: &[IpAddr; 2]) {
        let inside = self.runtime1.inside();
        inside.run("ip", &["netns", "add", "next"]).unwrap();
        let path = "/run/netns/next";
        let [v4, v6] = addresses.map(|address| address.to_string());
        let agent = self.topology.n1.agent().unwrap();
        let attached = agent.cli(&["attach", "--netns", path, "--ip", &v4, "--ip", &v6]);
        assert!(attached.is_ok(), "{addresses:?}: {}", attached.unwrap_err());
        agent.cli(&["detach", "--netns", path]).unwrap();
        inside.run("ip", &["netns", "del", "next"]).unwrap();
    }

    /// DELs that wait for the agent.
    pub(super) fn pending(&self, number: u8) -> Vec<PathBuf> {
        let folder = self
            .topology
            .lab
            .folder()
            .join(format!("n{number}/state/cni-pending"));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Pods in the state file.
    pub(super) fn recorded(&self, number: u8) -> usize {
        let file = self
            .topology
            .lab
            .folder()
            .join(format!("n{number}/state/state.json"));
        read_json(&file)["pods"]
            .as_object()
            .map_or(0, |pods| pods.len())
    }

    /// A veth pair between the container's namespace and node 2: that end goes when the namespace is
    /// destroyed.
    pub(super) fn canary(&self, name: &str, container: &Container) -> String {
        let target = container.ns.name();
        let add = format!("link add {name} type veth peer name canary netns {target}");
        self.topology.n2.ns.ip(&add).unwrap();
        name.to_owned()
    }

    pub(super) fn canary_is_gone(&self, name: &str) {
        let show = format!("link show {name}");
        eventually("the container's namespace is destroyed", SOON, || {
            self.topology.n2.ns.ip(&show).is_err()
        });
    }

    /// No pod, interface, record, waiting DEL, process or control group of a container.
    pub(super) fn nothing_is_left(&mut self) {
        for number in [1, 2] {
            assert_eq!(self.pods(number), [""; 0], "node {number}");
            assert_eq!(self.recorded(number), 0, "node {number}");
            let pending = self.pending(number);
            assert!(pending.is_empty(), "node {number}: {pending:?}");
            assert_eq!(
                self.runtime(number).containers().unwrap(),
                "",
                "node {number}"
            );
            let programs = ["containerd", "ringway", "sh", "sleep"];
            // The agent looks at the firewall now and then, by a program of its own.
            let inside = self.runtime(number).inside();
            eventually(
                &format!("node {number} runs {programs:?} alone"),
                SOON,
                || inside.processes() == programs,
            );
            let groups = self.runtime(number).control_groups();
            assert!(groups.is_empty(), "node {number}: {groups:?}");
            let links = self.node(number).ns.ip("-o link show").unwrap();
            let mut names: Vec<&str> = links
                .lines()
                .filter_map(|line| line.split([':', '@']).nth(1))
                .collect();
            names.sort_unstable();
            assert_eq!(names, [" eth0", " lo", " ringway0"], "node {number}");
        }
    }
}

/// A node with the plugin in place, containerd and the agent running.
fn boot(node: &mut Node, packages: &Path, folder: &Path) -> Runtime {
    let plugin = binary("ringway-cni", "RINGWAY_CNI_BIN")
        .unwrap()
        .display()
        .to_string();
    let inside = node.boot().unwrap();
    let agent = node.agent().unwrap();
    agent.start().unwrap();
    let (program, config) = (
        agent.binary().display().to_string(),
        agent.config().display().to_string(),
    );
    let install = ["--config", &config, "install-cni", "--plugin", &plugin];
    inside.run(&program, &install).unwrap();
    Runtime::start(node, &inside, packages, folder).unwrap()
}

fn pods(agent: &Agent) -> Vec<Value> {
    let answer = agent.json(&["pods"]).unwrap();
    let pods = answer.as_array().or_else(|| answer["pods"].as_array());
    pods.unwrap_or_else(|| panic!("no list of pods: {answer}"))
        .clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
