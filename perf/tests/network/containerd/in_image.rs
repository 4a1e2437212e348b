//! The agent where the DaemonSet puts it: in a container of its own image, with the mounts, privileges and
//! commands that deploy/ringway.yaml asks for, made by the containerd whose pods it then serves.
//!
//! The kubelet's part is played here: folders of the node that are mounted, the downward API, the ConfigMap.

use super::SOON;
use super::cri::{Cri, Sandbox};
use super::image::{PAGE, loopback, make_image, packages};
use super::runtime::Runtime;
use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Family, Inside, Mode, Process, RingwayOptions, Topology};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MANIFEST: &str = include_str!("../../../../deploy/ringway.yaml");
const IMAGE: &str = concat!("localhost/ringway:", env!("CARGO_PKG_VERSION"));
const SOCKET: &str = "/run/ringway/ringway.sock";
/// What stands for the ConfigMap on the node.
const CONFIG: &str = "/run/config";
/// What containerd gives a container that says nothing: each is dropped unless the manifest has it.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

#[test]
fn the_agent_serves_pods_from_the_daemonsets_container() {
    let name = "the_agent_serves_pods_from_the_daemonsets_container";
    let Some(image) = std::env::var_os("RINGWAY_IMAGE").filter(|image| !image.is_empty()) else {
        return skipped(name, "the image of Ringway could not be had");
    };
    let found = packages().and_then(|packages| Some((loopback(&packages)?, packages)));
    let Some((loopback, packages)) = found else {
        return skipped(name, super::MISSING);
    };
    network_test(name, Duration::from_secs(90), || {
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let folder = topology.lab.folder();
        let inside = topology.n1.boot().unwrap();
        let runtime = Runtime::start(&topology.n1, &inside, &packages, &folder).unwrap();
        let image = PathBuf::from(image).display().to_string();
        let import = [
            "-n",
            "ringway",
            "image",
            "import",
            "--snapshotter",
            "native",
        ];
        runtime
            .ctr(&[&import[..], &[image.as_str()]].concat())
            .unwrap();
        let text = std::fs::read_to_string(topology.n1.agent().unwrap().config()).unwrap();
        let node = Node {
            pod: daemonset(),
            cgroup: runtime.cgroup().to_owned(),
            address: topology.n1.ip(Family::V4).to_string(),
            config: inside.path(CONFIG).join("ringway.toml"),
            text,
            runtime,
            inside,
        };
        node.prepare();
        let loopback = loopback.display().to_string();
        node.inside
            .run("cp", &[loopback.as_str(), "/opt/cni/bin/"])
            .unwrap();
        let pages = make_image(&packages, &folder).unwrap();
        let cri = node.runtime.cri(&pages).unwrap();

        node.configure("auto");
        node.run_to_its_end("initContainers");
        let agent = node.start();
        let conflist = node.inside.path("/etc/cni/net.d/05-ringway.conflist");
        eventually("runtimes are told of it", SOON, || conflist.exists());
        let web = sandbox(&node);
        let id = cri.run(&web).unwrap();
        let serves = || {
            for family in Family::BOTH {
                let at = SocketAddr::new(topology.n1.ip(family), 18080);
                eventually(&format!("a page by {family}"), SOON, || {
                    topology
                        .n2
                        .ns
                        .run(|| page(at))
                        .unwrap()
                        .is_ok_and(|text| text == PAGE)
                });
            }
        };
        serves();

        // Another agent of the same manifest: rings, where the kernel has them, need more than sockets do.
        node.stop(agent);
        node.configure("xdp");
        let agent = node.start();
        serves();
        let status = node.status().unwrap();
        let io = status["underlay"].to_string();
        println!("with io = \"xdp\": {io}");
        assert!(!io.contains("not permitted"), "{io}");
        end(&cri, &id);
        node.stop(agent);
    });
}

fn sandbox(node: &Node) -> Sandbox<'_> {
    Sandbox {
        name: "web",
        cgroup: &node.cgroup,
        ports: &[(0, 80, 18080)],
        annotations: &[],
    }
}

fn end(cri: &Cri, id: &str) {
    cri.stop(id).unwrap();
    cri.remove(id).unwrap();
}

fn page(at: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&at, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    Ok(body.to_owned())
}

fn manifest(kind: &str) -> Value {
    let all: Vec<Value> = serde_saphyr::from_multiple(MANIFEST).unwrap();
    let found = all.into_iter().find(|one| one["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// The DaemonSet's pod.
fn daemonset() -> Value {
    manifest("DaemonSet")["spec"]["template"]["spec"].take()
}

fn config_map() -> String {
    text(&manifest("ConfigMap")["data"]["ringway.toml"]).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The node that the pod is on.
struct Node {
    pod: Value,
    runtime: Runtime,
    inside: Inside,
    cgroup: String,
    address: String,
    /// The file of the ConfigMap.
    config: PathBuf,
    /// The lab's configuration.
    text: String,
}

impl Node {
    /// What the kubelet sees to before it starts a pod.
    fn prepare(&self) {
        // As on every host: what is mounted there shows up in containers that ask for it.
        let share = "mkdir -p /run/config && mount --bind /run/netns /run/netns && mount --make-shared /run/netns";
        self.inside.run("sh", &["-ec", share]).unwrap();
        for volume in list(&self.pod["volumes"]) {
            let path = text(&volume["hostPath"]["path"]);
            let (program, words) = match text(&volume["hostPath"]["type"]) {
                "DirectoryOrCreate" => ("mkdir", ["-p", path]),
                "FileOrCreate" => ("touch", ["-a", path]),
                _ => continue,
            };
            self.inside.run(program, &words).unwrap();
        }
    }

    /// The ConfigMap's file, with the lab's nodes in the place of a cluster.
    fn configure(&self, io: &str) {
        let mut file: toml::Table = toml::from_str(&config_map()).unwrap();
        assert!(file.remove("kubernetes").is_some());
        let mut lab: toml::Table = toml::from_str(&self.text).unwrap();
        // State and socket are in their usual places, and the agent finds the interface.
        for (section, key) in [
            ("node", "state_dir"),
            ("node", "socket"),
            ("underlay", "interface"),
        ] {
            lab[section].as_table_mut().unwrap().remove(key).unwrap();
        }
        lab["underlay"]["io"] = io.into();
        for (name, section) in lab {
            match (file.get_mut(&name).and_then(|s| s.as_table_mut()), section) {
                (Some(there), toml::Value::Table(more)) => there.extend(more),
                (_, section) => drop(file.insert(name, section)),
            }
        }
        std::fs::write(&self.config, file.to_string()).unwrap();
    }

    /// `ctr run` of a container of the pod.
    fn arguments(&self, container: &Value) -> Vec<String> {
        let context = &container["securityContext"];
        let id = text(&container["name"]).to_owned();
        let cgroup = format!("{}/{id}", self.cgroup);
        let mut words: Vec<String> = ["-n", "ringway", "run", "--rm", "--snapshotter", "native"]
            .map(str::to_owned)
            .to_vec();
        words.extend(
            ["--net-host", "--rootfs-propagation", "rslave", "--cgroup"].map(str::to_owned),
        );
        words.push(cgroup);
        assert_eq!(
            self.pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        words.push("--seccomp".into());
        assert_eq!(context["readOnlyRootFilesystem"], true);
        words.push("--read-only".into());
        let added: Vec<&str> = list(&context["capabilities"]["add"])
            .iter()
            .map(text)
            .collect();
        for capability in USUAL.iter().filter(|usual| !added.contains(usual)) {
            words.extend(["--cap-drop".into(), format!("CAP_{capability}")]);
        }
        for capability in added.iter().filter(|added| !USUAL.contains(added)) {
            words.extend(["--cap-add".into(), format!("CAP_{capability}")]);
        }
        words.extend(["--env".into(), format!("NODE_IP={}", self.address)]);
        for mount in list(&container["volumeMounts"]) {
            words.extend(["--mount".into(), self.mount(mount)]);
        }
        words.extend([IMAGE.into(), id]);
        words.extend(
            list(&container["command"])
                .iter()
                .map(|word| text(word).to_owned()),
        );
        words
    }

    fn mount(&self, mount: &Value) -> String {
        let volumes = list(&self.pod["volumes"]);
        let volume = volumes.iter().find(|v| v["name"] == mount["name"]).unwrap();
        let from = match volume["configMap"].is_object() {
            true => CONFIG,
            false => text(&volume["hostPath"]["path"]),
        };
        let mut options = String::from("rbind");
        if mount["mountPropagation"] == "HostToContainer" {
            options.push_str(":rslave");
        }
        options.push_str(if mount["readOnly"] == true {
            ":ro"
        } else {
            ":rw"
        });
        let to = text(&mount["mountPath"]);
        format!("type=bind,src={from},dst={to},options={options}")
    }

    fn container(&self, containers: &str) -> Vec<String> {
        self.arguments(&list(&self.pod[containers])[0])
    }

    fn run_to_its_end(&self, containers: &str) {
        let words = self.container(containers);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = self.runtime.ctr(&words).unwrap();
        assert!(said.contains("/opt/cni/bin/ringway-cni"), "{said}");
    }

    /// The agent's container, and that it serves.
    fn start(&self) -> Process {
        let words = self.container("containers");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = self.runtime.command("ctr", &words, "ctr.log");
        let mut ctr = self.inside.start(command).unwrap();
        eventually("the agent answers", Duration::from_secs(10), || {
            assert!(ctr.ended().is_none(), "{}", self.runtime.log());
            self.status().is_some()
        });
        ctr
    }

    /// What the agent says of itself to a client of the node.
    fn status(&self) -> Option<Value> {
        let program = ringway_perf::lab::binary("ringway", "RINGWAY_BIN").unwrap();
        let program = program.display().to_string();
        let words = ["--socket", SOCKET, "status", "--json"];
        let told = self.inside.run(&program, &words).ok()?;
        serde_json::from_str(&told).ok()
    }

    /// SIGTERM, as the kubelet does it, and how soon the container has ended.
    fn stop(&self, mut ctr: Process) {
        let begin = Instant::now();
        let kill = [
            "-n", "ringway", "task", "kill", "--signal", "SIGTERM", "agent",
        ];
        self.runtime.ctr(&kill).unwrap();
        assert!(ctr.wait(SOON).is_some(), "{}", self.runtime.log());
        println!("from SIGTERM to the end of ctr: {:?}", begin.elapsed());
    }
}
