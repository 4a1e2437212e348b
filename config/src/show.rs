//! `ringway config show`: the effective configuration, annotated.

use std::fmt::Write;
use std::path::PathBuf;

use super::{Config, Decider, Etcd, Kubernetes};

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once: the file is read again when it changes, and on SIGHUP.
    Live,
    /// When the agent is started again.
    Restart,
}

/// One key of the file.
pub struct KeyDoc {
    /// Path, `peers.name` for every `[[peers]]`.
    pub key: &'static str,
    /// When a change takes effect.
    pub when: When,
    /// One line.
    pub doc: &'static str,
}

const fn key(key: &'static str, doc: &'static str) -> KeyDoc {
    let when = When::Restart;
    KeyDoc { key, when, doc }
}

const fn live(key: &'static str, doc: &'static str) -> KeyDoc {
    let when = When::Live;
    KeyDoc { key, when, doc }
}

/// Every key there is.
pub const KEYS: &[KeyDoc] = &[
    key(
        "node.name",
        "name of this node; default: kubernetes.node, else hostname",
    ),
    live(
        "node.pod_cidrs",
        "networks of this node's pods; the first of a family is its main one, and /32 or /128 are borrowed addresses; \
         left out with [kubernetes] or [etcd], which give them",
    ),
    live(
        "node.cluster_cidrs",
        "networks that hold all pod networks; checked when given; default: Network of Flannel's net-conf.json, if there is one",
    ),
    key("node.interface", "name of the node port"),
    key(
        "node.state_dir",
        "directory of the state file; one agent per directory",
    ),
    key("node.socket", "path of the API socket"),
    key(
        "node.sysctl_root",
        "where kernel settings are mounted writable, if not at /proc/sys/net",
    ),
    key(
        "node.subnet_env",
        "file that tells Flannel's plugin of this node, such as /run/flannel/subnet.env; empty: none",
    ),
    live(
        "node.vtep_mac",
        "inner MAC of IPv4 packets to this node; default: from the pod network",
    ),
    live("node.vtep_mac_v6", "the same for IPv6; default: vtep_mac"),
    key(
        "node.takeover",
        "take the node over from Flannel: wait until it has left, remove its overlay, keep its MAC address",
    ),
    key(
        "underlay.interface",
        "interface that leads to the other nodes; auto: that of the address $NODE_IP, else of the default route",
    ),
    live(
        "underlay.addresses",
        "outer addresses, one per family; default: the interface's",
    ),
    live(
        "underlay.encap",
        "vxlan | udp; default: that of Flannel's net-conf.json where Kubernetes has it, else vxlan",
    ),
    key(
        "underlay.vni",
        "VXLAN network identifier; default: as encap's, else 1",
    ),
    key(
        "underlay.vxlan_port",
        "UDP port of VXLAN; default: as encap's, else 8472",
    ),
    key(
        "underlay.udp_port",
        "UDP port of encap udp; default: as encap's, else 8285",
    ),
    key(
        "underlay.io",
        "auto | xdp | socket; auto: xdp where the driver needs no copy",
    ),
    key(
        "underlay.family",
        "match | ipv4 | ipv6: outer family that carries the pods",
    ),
    key("underlay.udp_checksum", "auto | on | off (off: IPv4 only)"),
    key(
        "underlay.gro",
        "on | keep: turn receive offload of the interface on, or leave it",
    ),
    key(
        "underlay.unfinished_checksums",
        "auto | accept | refuse: take a bare pseudo-header sum for a checksum; auto: on a veth",
    ),
    key(
        "underlay.xdp_busy_poll_us",
        "microseconds the NIC is polled in system calls on a ring; 0: it interrupts",
    ),
    key(
        "underlay.source_ports",
        "pairs of outer source ports, which spread flows over paths; divided among the workers",
    ),
    key(
        "underlay.dont_fragment",
        "false: outer IPv4 packets may be fragmented, where the underlay loses ICMP",
    ),
    key(
        "underlay.lower_mtu",
        "true: a path on which large packets vanish gets a smaller MTU, 1280 at least",
    ),
    key(
        "underlay.probes",
        "probes of peers a second, at most, and as many times 10 kbit/s; 0: none",
    ),
    key("workers.count", "data-path threads"),
    key("workers.cpus", "one processor per worker, or empty"),
    key("workers.polling", "spin | adaptive | interrupt"),
    key(
        "workers.idle_spin_us",
        "microseconds an adaptive worker spins before it sleeps",
    ),
    live(
        "ipam.ranges",
        "addresses pods get, first-last or networks; default: all of the pod networks",
    ),
    live("ipam.exclude", "addresses of them that are never given out"),
    key(
        "cni.install",
        "install plugin and network configuration at every start, once the agent forwards",
    ),
    key("cni.bin_dir", "folder of CNI plugins"),
    key("cni.conf_dir", "folder of CNI configurations"),
    key(
        "cni.books",
        "folder in which the plugin host-local keeps addresses; read when a node is taken over",
    ),
    live(
        "egress.masquerade",
        "packets of pods to outside the cluster get the node's address, and those of others to remote pods the gateway's",
    ),
    live(
        "egress.masquerade_exclude",
        "networks outside the cluster to which pods keep their own address",
    ),
    live(
        "egress.accept_forward",
        "let pods' packets through a firewall that forwards nothing by default",
    ),
    key(
        "metrics.listen",
        "ADDRESS:PORT where metrics are served, beside the API socket; auto:PORT: at $NODE_IP, else on loopback; empty: nowhere",
    ),
    key(
        "metrics.peers",
        "peers that have series of their own; when there are more, the 32 worst of them have",
    ),
    key(
        "metrics.cert_file",
        "certificate of metrics.listen, which speaks HTTPS then; read again each minute",
    ),
    key("metrics.key_file", "its key"),
    key(
        "agents.listen",
        "ADDRESS:PORT where other nodes' agents ask what becomes of a packet of theirs, as `ringway trace` has them do; auto:PORT: at $NODE_IP; empty: nowhere",
    ),
    key(
        "agents.cert_file",
        "certificate of this node for both ends of that (TLS), by node.name; {node} in the path of a file stands for that; read again each minute",
    ),
    key("agents.key_file", "its key"),
    key(
        "agents.ca_file",
        "certificates of who signs those of the nodes, and of nobody else",
    ),
    live(
        "log.level",
        "error | warn | info | debug | trace, also for parts: info,ringway_control=debug; RUST_LOG and `ringway log` go before it",
    ),
    key(
        "log.format",
        "auto | text | json | journald; auto: journald where systemd has connected stderr to it, else text",
    ),
    live("peers.name", "name of the node"),
    live("peers.addresses", "its outer addresses"),
    live("peers.pod_cidrs", "its pod networks"),
    live(
        "peers.encap",
        "encapsulation towards it; default: underlay.encap",
    ),
    live(
        "peers.mtu",
        "largest outer packet to it, bytes; default: the interface's MTU",
    ),
    live(
        "peers.vtep_mac",
        "inner MAC of IPv4 packets to it; default: from its pod network",
    ),
    live(
        "peers.vtep_mac_v6",
        "the same for IPv6; default: its vtep_mac",
    ),
    key(
        "kubernetes.node",
        "name of this node's Node object; default: $NODE_NAME, else node.name",
    ),
    key(
        "kubernetes.kubeconfig",
        "kubeconfig of the agent; empty: the token and address that a pod has",
    ),
    key(
        "kubernetes.api_server",
        "https://HOST:PORT in place of the service's address, which may need a pod network to be reached",
    ),
    key("etcd.endpoints", "addresses of the servers"),
    key("etcd.prefix", "path before Flannel's keys"),
    key(
        "etcd.ca_file",
        "certificates that the servers' are signed with; empty: the machine's",
    ),
    key(
        "etcd.cert_file",
        "certificate of this node, if etcd asks for one",
    ),
    key("etcd.key_file", "its key"),
    key("etcd.username", "user, if etcd asks for one"),
    key("etcd.password_file", "file with the user's password"),
];

/// Columns of a value: 80 with the comment behind it. A longer list goes over several lines.
const WIDTH: usize = 80 - " # restart".len();

/// The effective configuration as TOML that can be read back.
pub fn show(config: &Config) -> String {
    let mut out = format!("# effective configuration of {}\n", config.file.display());
    let n = &config.node;
    let mut node = vec![
        ("name", quote(&n.name)),
        ("cluster_cidrs", list(&n.cluster_cidrs)),
        ("interface", quote(&n.interface)),
        ("state_dir", quote(&n.state_dir.display())),
        ("socket", quote(&n.socket.display())),
        ("sysctl_root", quote(&n.sysctl_root.display())),
        ("subnet_env", path(n.subnet_env.as_ref())),
        ("takeover", n.takeover.to_string()),
    ];
    if config.decider() == Decider::File {
        node.insert(1, ("pod_cidrs", list(&n.pod_cidrs)));
        node.push(("vtep_mac", quote(&n.vtep_mac)));
        node.push(("vtep_mac_v6", quote(&n.vtep_mac_v6)));
    }
    section(&mut out, "[node]", "node", &node);
    let u = &config.underlay;
    section(
        &mut out,
        "[underlay]",
        "underlay",
        &[
            ("interface", quote(&u.interface)),
            ("addresses", list(&u.addresses)),
            ("encap", word(&u.encap)),
            ("vni", u.vni.to_string()),
            ("vxlan_port", u.vxlan_port.to_string()),
            ("udp_port", u.udp_port.to_string()),
            ("io", word(&u.io)),
            ("family", word(&u.family)),
            ("udp_checksum", word(&u.udp_checksum)),
            ("gro", word(&u.gro)),
            ("unfinished_checksums", word(&u.unfinished_checksums)),
            ("xdp_busy_poll_us", u.xdp_busy_poll_us.to_string()),
            ("source_ports", u.source_ports.to_string()),
            ("dont_fragment", u.dont_fragment.to_string()),
            ("lower_mtu", u.lower_mtu.to_string()),
            ("probes", u.probes.to_string()),
        ],
    );
    let w = &config.workers;
    section(
        &mut out,
        "[workers]",
        "workers",
        &[
            ("count", w.count.to_string()),
            ("cpus", format!("{:?}", w.cpus)),
            ("polling", word(&w.polling)),
            ("idle_spin_us", w.idle_spin_us.to_string()),
        ],
    );
    let i = &config.ipam;
    section(
        &mut out,
        "[ipam]",
        "ipam",
        &[("ranges", list(&i.ranges)), ("exclude", list(&i.exclude))],
    );
    let c = &config.cni;
    section(
        &mut out,
        "[cni]",
        "cni",
        &[
            ("install", c.install.to_string()),
            ("bin_dir", quote(&c.bin_dir.display())),
            ("conf_dir", quote(&c.conf_dir.display())),
            ("books", quote(&c.books.display())),
        ],
    );
    let e = &config.egress;
    section(
        &mut out,
        "[egress]",
        "egress",
        &[
            ("masquerade", e.masquerade.to_string()),
            ("masquerade_exclude", list(&e.masquerade_exclude)),
            ("accept_forward", e.accept_forward.to_string()),
        ],
    );
    let m = &config.metrics;
    let listen = m.listen.map(|listen| listen.to_string());
    section(
        &mut out,
        "[metrics]",
        "metrics",
        &[
            ("listen", quote(&listen.unwrap_or_default())),
            ("peers", m.peers.to_string()),
            ("cert_file", path(m.identity.as_ref().map(|(cert, _)| cert))),
            ("key_file", path(m.identity.as_ref().map(|(_, key)| key))),
        ],
    );
    let a = config.agents.as_ref();
    let listen = a.map(|agents| agents.listen.to_string());
    section(
        &mut out,
        "[agents]",
        "agents",
        &[
            ("listen", quote(&listen.unwrap_or_default())),
            ("cert_file", path(a.map(|agents| &agents.cert_file))),
            ("key_file", path(a.map(|agents| &agents.key_file))),
            ("ca_file", path(a.map(|agents| &agents.ca_file))),
        ],
    );
    let l = &config.log;
    section(
        &mut out,
        "[log]",
        "log",
        &[
            ("level", quote(&l.level)),
            ("format", quote(&l.format.name())),
        ],
    );
    if let Some(k) = &config.kubernetes {
        section(&mut out, "[kubernetes]", "kubernetes", &kubernetes(k));
    }
    if let Some(e) = &config.etcd {
        section(&mut out, "[etcd]", "etcd", &etcd(e));
    }
    for p in &config.peers {
        let mut values = vec![
            ("name", quote(&p.name)),
            ("addresses", list(&p.addresses)),
            ("pod_cidrs", list(&p.pod_cidrs)),
            ("encap", word(&p.encap)),
            ("vtep_mac", quote(&p.vtep_mac)),
            ("vtep_mac_v6", quote(&p.vtep_mac_v6)),
        ];
        values.extend(p.mtu.map(|mtu| ("mtu", mtu.to_string())));
        section(&mut out, "[[peers]]", "peers", &values);
    }
    out
}

fn kubernetes(k: &Kubernetes) -> Vec<(&'static str, String)> {
    vec![
        ("node", quote(&k.node)),
        ("kubeconfig", path(k.kubeconfig.as_ref())),
        (
            "api_server",
            quote(k.api_server.as_deref().unwrap_or_default()),
        ),
    ]
}

fn etcd(e: &Etcd) -> Vec<(&'static str, String)> {
    let cert = e.identity.as_ref().map(|(cert, _)| cert);
    let key = e.identity.as_ref().map(|(_, key)| key);
    let name = e.user.as_ref().map(|(name, _)| name);
    let password = e.user.as_ref().map(|(_, password)| password);
    vec![
        ("endpoints", list(&e.endpoints)),
        ("prefix", quote(&e.prefix)),
        ("ca_file", path(e.ca_file.as_ref())),
        ("cert_file", path(cert)),
        ("key_file", path(key)),
        (
            "username",
            quote(name.map(String::as_str).unwrap_or_default()),
        ),
        ("password_file", path(password)),
    ]
}

fn section(out: &mut String, header: &str, prefix: &str, values: &[(&str, String)]) {
    let _ = write!(out, "\n{header}\n");
    for (name, value) in values {
        let path = format!("{prefix}.{name}");
        let when = match KEYS.iter().find(|k| k.key == path).map(|k| k.when) {
            Some(When::Live) => "live",
            _ => "restart",
        };
        let assignment = format!("{name} = {value}");
        let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
        match list {
            Some(list) if assignment.len() > WIDTH => {
                let _ = writeln!(out, "{:<52} # {when}", format!("{name} = ["));
                for element in list.split(", ") {
                    let _ = writeln!(out, "    {element},");
                }
                out.push_str("]\n");
            }
            _ => {
                let _ = writeln!(out, "{assignment:<52} # {when}");
            }
        }
    }
}

/// A path; empty if there is none.
fn path(path: Option<&PathBuf>) -> String {
    quote(&path.map_or_else(String::new, |path| path.display().to_string()))
}

fn quote(value: &(impl ToString + ?Sized)) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn word(value: &impl serde::Serialize) -> String {
    // An enum of unit variants: a TOML string.
    toml::Value::try_from(value).map_or_else(|_| String::new(), |v| v.to_string())
}

fn list<T: ToString>(values: &[T]) -> String {
    let all: Vec<String> = values.iter().map(quote).collect();
    format!("[{}]", all.join(", "))
}
