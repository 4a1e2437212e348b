//! A source decides what the node is: a start without networks, one with what was known last, and news in between.

use std::sync::{Arc, Mutex};

use ringway_cluster::source::{Local, Status};
use ringway_cluster::{Change, Contents, EncapKind, PathSpec, Peer, Route, Via};
use ringway_cni::api::{Add, Attachment, PodIdentity, PortMapping};
use ringway_packet::mac::MacAddr;

use super::*;
use crate::error::Kind;

pub(super) const NETWORKS: [&str; 2] = ["10.77.1.0/24", "fd77:1::/64"];

fn kubernetes() -> Source {
    Source::new("kubernetes")
}

/// What a source says of this node, and of one peer.
pub(super) fn contents(cidrs: &[&str]) -> Contents {
    let route = |prefix: &str, via: Via| Route {
        prefix: prefix.parse().unwrap(),
        via,
        source: kubernetes(),
        preference: 100,
    };
    let path = Some(PathSpec {
        encap: EncapKind::Vxlan,
        vtep_mac: "0a:58:0a:4d:09:00".parse().unwrap(),
        mtu: None,
    });
    let own = "12:c6:65:89:b4:e3".parse().unwrap();
    let mut routes: Vec<Route> = cidrs.iter().map(|c| route(c, Via::Node)).collect();
    routes.push(route("10.77.9.0/24", Via::Peer("node9".into())));
    Contents {
        node: Some(ringway_cluster::Node {
            name: "node1".into(),
            cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            vtep_mac: own,
            vtep_mac_v6: own,
        }),
        peers: vec![Peer {
            name: "node9".into(),
            addresses: ["192.168.77.9".parse().unwrap()].into(),
            v4: path.clone(),
            v6: path,
            source: kubernetes(),
        }],
        routes,
    }
}

/// What the control plane has told, and how the source stands.
#[derive(Clone, Default)]
pub(super) struct Toy {
    told: Arc<Mutex<Vec<Local>>>,
    status: Arc<Mutex<Status>>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Toy {
    pub(super) fn sources(&self) -> Sources {
        let (told, status) = (self.told.clone(), self.status.clone());
        let notices = self.notices.clone();
        Sources {
            tell: Box::new(move |local| told.lock().unwrap().push(local)),
            status: Box::new(move || vec![status.lock().unwrap().clone()]),
            notice: Arc::new(move |notice| notices.lock().unwrap().push(notice)),
        }
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<Local> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Node {
    /// Its configuration where Kubernetes decides what it is.
    pub(super) fn decided(&self, more: &str) -> Config {
        let text = include_str!("../../../config/ringway.toml");
        let state = self.dir.path().join("state");
        let text = text.replace("pod_cidrs = [\"10.77.1.0/24\", \"fd77:1::/64\"]", "#");
        let text = text.replace("[node]", &format!("[node]\nstate_dir = {state:?}\n{more}"))
            + "\n[workers]\ncount = 1\npolling = \"interrupt\"\n[kubernetes]\nnode = \"node1\"\n";
        Config::parse(Path::new("t"), &text).unwrap()
    }

    fn start_decided(&self, toy: &Toy, saved: Option<Contents>) -> Control {
        let config = self.decided("");
        let saved = saved.into_iter().map(|all| (kubernetes(), all)).collect();
        let acquired = Acquired::open(&config, saved).unwrap();
        Control::assemble(config, acquired, toy.sources()).unwrap()
    }
}

impl Control {
    pub(super) fn learns(&mut self, change: Change) -> Result<(), ChangeError> {
        self.ask(|reply| Request::Change(kubernetes(), Box::new(change), reply))
    }

    fn cni_stands(&mut self) -> Result<Done, ControlError> {
        self.ask(Request::CniStatus)
    }
}

fn add(pod: &Pod, container: &str) -> Add {
    Add {
        attachment: Attachment {
            container_id: container.into(),
            ifname: "eth0".into(),
        },
        netns: pod.path().display().to_string(),
        network: "ringway".into(),
        ..Add::default()
    }
}

/// Global addresses of the node port.
pub(super) fn node_addresses(control: &mut Control) -> Vec<String> {
    let index = control.netlink.link("ringway0").unwrap().index;
    let all = control.netlink.addresses(index).unwrap();
    let all = all.iter().filter(|a| a.global);
    all.map(|a| a.ip.to_string()).collect()
}

#[test]
fn a_node_without_networks_waits_for_them_and_says_so() {
    in_netns(|| {
        let (node, pod, toy) = (Node::new(), Pod::new(), Toy::default());
        let mut control = node.start_decided(&toy, None);
        assert_eq!(node_addresses(&mut control), Vec::<String>::new());
        let first = toy.told();
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!((&*first[0].node.name, first[0].forwards), ("node1", false));
        assert_eq!(first[0].addresses.len(), 2);
        let health = control.health();
        assert_eq!(health.live(), Ok(()));
        // Each way of asking for a pod names what is waited for; a runtime tries again.
        let all = [
            control.cni_stands().unwrap_err(),
            control.cni_add(&add(&pod, "c1")).unwrap_err(),
            control
                .attach(&request(&pod, "a", &["10.77.1.2"]))
                .unwrap_err(),
        ];
        for error in all {
            assert_eq!(error.kind(), Kind::Later, "{error}");
            assert_eq!(
                error.to_string(),
                "node1 has no pod network yet: its Node object has no pod CIDR"
            );
            let remedy = error.remedy();
            let command = "kubectl get node node1 -o jsonpath={.spec.podCIDRs}";
            assert!(remedy.contains(command), "{remedy}");
        }
        assert_eq!(health.ready(), Err(control.no_network().to_string()));
        *toy.status.lock().unwrap() = Status {
            error: Some("Connection refused".into()),
            ..Status::default()
        };
        let away = control.cni_stands().unwrap_err().to_string();
        assert!(
            away.contains("Kubernetes does not answer: Connection refused"),
            "{away}"
        );

        // The networks come, and all of it works without another start.
        control
            .learns(Change::Replace(contents(&NETWORKS)))
            .unwrap();
        control.cni_stands().unwrap();
        assert_eq!(health.ready(), Ok(()));
        let addresses = node_addresses(&mut control);
        for ip in ["10.77.1.1", "fd77:1::1"] {
            assert!(addresses.contains(&ip.to_owned()), "{addresses:?}");
        }
        let told = toy.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].forwards);
        assert_eq!(
            (told[0].pod_mtu, told[0].port, told[0].vni),
            (1430, 8472, 1)
        );
        assert_eq!(told[0].node.vtep_mac.to_string(), "12:c6:65:89:b4:e3");
        let made = control.cni_add(&add(&pod, "c1")).unwrap();
        let ips: Vec<&str> = made.ips.iter().map(|ip| ip.address.as_str()).collect();
        assert_eq!(ips, ["10.77.1.2/24", "fd77:1::2/64"]);
        assert!(matches!(
            target(&control, "10.77.9.1"),
            Some(Target::Path(_))
        ));
        // Our own MAC address is in the paths to peers, whoever was first.
        let tables = control.publisher.current();
        let own: MacAddr = "12:c6:65:89:b4:e3".parse().unwrap();
        assert!(tables.paths.iter().all(|(_, path)| path.src_mac == own));
        control.tick();
        assert_eq!(toy.told(), []);
        let status = control.reconcile_status();
        assert_eq!(status.restored, 0, "{:?}", status.last_restored);
        control.stop();
    });
}

/// Who looks at the pod with kubectl sees why it does not start.
#[test]
fn a_pod_that_is_not_attached_is_noticed() {
    in_netns(|| {
        let (node, pod, toy) = (Node::new(), Pod::new(), Toy::default());
        let mut control = node.start_decided(&toy, None);
        let mut one = add(&pod, "c1");
        // Not of Kubernetes: there is nobody to tell.
        control.cni_add(&one).unwrap_err();
        assert_eq!(*toy.notices.lock().unwrap(), []);
        one.pod = Some(PodIdentity {
            namespace: "shop".into(),
            name: "web-1".into(),
            uid: "u".into(),
        });
        control.cni_add(&one).unwrap_err();
        // Two networks of two addresses each, of which pods have none left but one.
        control
            .learns(Change::Replace(contents(&["10.77.1.0/30"])))
            .unwrap();
        control.cni_add(&one).unwrap();
        let (other, mut second) = (Pod::new(), one.clone());
        second.netns = other.path().display().to_string();
        second.attachment.container_id = "c2".into();
        control.cni_add(&second).unwrap_err();
        let notices = toy.notices.lock().unwrap();
        let reasons: Vec<&str> = notices.iter().map(|n| n.reason).collect();
        assert_eq!(
            reasons,
            ["AttachFailed", "AddressesExhausted"],
            "{notices:?}"
        );
        assert!(matches!(&notices[0].about, Subject::Pod(pod) if pod.name == "web-1"));
        assert!(notices[0].note.contains("; to do: "), "{notices:?}");
        drop(notices);
        control.stop();
    });
}

/// As after a reboot of the API server, or of the node while it is away.
#[test]
fn pods_are_served_at_once_by_what_was_known_last() {
    in_netns(|| {
        let (node, pod, toy) = (Node::new(), Pod::new(), Toy::default());
        let mut control = node.start_decided(&toy, Some(contents(&NETWORKS)));
        control
            .attach(&request(&pod, "a", &["10.77.1.2", "fd77:1::2"]))
            .unwrap();
        control.stop();
        toy.told();
        let mut control = node.start_decided(&toy, Some(contents(&NETWORKS)));
        assert_eq!(control.pods.len(), 1);
        assert_eq!(control.health().ready(), Ok(()));
        assert!(toy.told()[0].forwards);
        for ip in ["10.77.1.2", "fd77:1::2"] {
            assert_eq!(target(&control, ip), Some(Target::Port(PortId(1))), "{ip}");
        }
        // The source comes, and says the same.
        let version = control.publisher.current().version;
        control
            .learns(Change::Replace(contents(&NETWORKS)))
            .unwrap();
        assert_eq!(control.publisher.current().version, version);
        control.stop();
    });
}

/// Nothing was saved: recorded pods wait, keep their addresses, and are served when their network is known.
#[test]
fn recorded_pods_wait_for_their_network() {
    in_netns(|| {
        let (node, toy) = (Node::new(), Toy::default());
        let (pod, other) = (Pod::new(), Pod::new());
        let mut control = node.start_decided(&toy, Some(contents(&NETWORKS)));
        let mut first = add(&pod, "c1");
        first.port_mappings = vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: String::new(),
        }];
        control.cni_add(&first).unwrap();
        control.cni_add(&add(&other, "c2")).unwrap();
        control.stop();

        let mut control = node.start_decided(&toy, None);
        assert_eq!((control.pods.len(), control.dormant.len()), (0, 2));
        let waiting = control.view().status.not_served;
        assert!(waiting[0].why.contains("no pod network yet"), "{waiting:?}");
        assert_eq!(node.saved().len(), 2);
        // One goes meanwhile.
        control.cni_del(&add(&other, "c2").attachment);
        assert_eq!(node.saved().len(), 1);
        // Networks of its own that are not theirs: it goes on to wait.
        control
            .learns(Change::Replace(contents(&["10.78.1.0/24"])))
            .unwrap();
        assert_eq!(control.dormant.len(), 1);
        let why = control.view().status.not_served[0].why.clone();
        assert!(
            why.contains("outside this node's pod networks (10.78.1.0/24)"),
            "{why}"
        );
        control
            .learns(Change::Replace(contents(&NETWORKS)))
            .unwrap();
        assert_eq!((control.pods.len(), control.dormant.len()), (1, 0));
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Port(PortId(1))));
        assert!(control.rules.has_host_ports());
        assert_eq!(control.view().pods[0].queues, 2);
        settle(&mut control);
        assert_gone(&other);
        // A network with pods stays, as that of a file does.
        let error = control.learns(Change::Replace(contents(&["10.78.1.0/24"])));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("10.77.1.0/24 still has pods: 1"), "{error}");
        control.stop();
    });
}

/// What was saved may not fit this node any more: as much as can be is in force, and the agent starts.
#[test]
fn what_cannot_be_of_the_saved_is_left_out() {
    in_netns(|| {
        let (node, toy) = (Node::new(), Toy::default());
        let mut saved = contents(&NETWORKS);
        let mut ours = saved.peers[0].clone();
        ours.name = "node8".into();
        // Another node had this node's address when it was saved.
        ours.addresses = ["192.168.77.1".parse().unwrap()].into();
        saved.peers.push(ours);
        saved.routes.push(Route {
            prefix: "10.77.8.0/24".parse().unwrap(),
            via: Via::Peer("node8".into()),
            source: kubernetes(),
            preference: 100,
        });
        let control = node.start_decided(&toy, Some(saved));
        let state = control.cluster.state();
        assert_eq!(state.node.cidrs.len(), 2);
        assert!(state.peers.contains_key("node9") && !state.peers.contains_key("node8"));
        assert!(matches!(
            target(&control, "10.77.9.1"),
            Some(Target::Path(_))
        ));
        assert_eq!(target(&control, "10.77.8.1"), None);
        control.stop();
    });
}

/// For Flannel's plugin: as soon as there is something to say, and again when somebody took it away.
#[test]
fn subnet_env_follows_the_node() {
    in_netns(|| {
        let (node, toy) = (Node::new(), Toy::default());
        let path = node.dir.path().join("run/subnet.env");
        let config = node.decided(&format!(
            "subnet_env = {path:?}\ncluster_cidrs = [\"10.77.0.0/16\"]"
        ));
        let acquired = Acquired::open(&config, Vec::new()).unwrap();
        let mut control = Control::assemble(config, acquired, toy.sources()).unwrap();
        assert!(!path.exists());
        control
            .learns(Change::Replace(contents(&NETWORKS[..1])))
            .unwrap();
        let expected = "FLANNEL_NETWORK=10.77.0.0/16\nFLANNEL_SUBNET=10.77.1.1/24\nFLANNEL_MTU=1430\n\
                        FLANNEL_IPMASQ=true\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        control.tick();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        control.stop();
    });
}

/// The file has a say in its peers, and none in the node.
#[test]
fn the_file_read_again_leaves_the_node_as_it_is() {
    in_netns(|| {
        let (node, toy) = (Node::new(), Toy::default());
        let mut control = node.start_decided(&toy, Some(contents(&NETWORKS)));
        let mut next = node.decided("cluster_cidrs = [\"10.77.0.0/16\", \"fd77::/16\"]");
        next.peers[0].mtu = Some(1400);
        let live = control.configure(Ok(Box::new(next))).outcome.unwrap();
        assert_eq!(live.len(), 2, "{live:?}");
        assert_eq!(control.this_node().cidrs.len(), 2);
        assert_eq!(control.cluster.state().peers.len(), 2);
        // One that decides itself waits for a restart, and its networks with it.
        let reloaded = control.configure(Ok(Box::new(node.config(1))));
        assert!(
            reloaded.waiting.iter().any(|d| d.key == "node.pod_cidrs"),
            "{reloaded:?}"
        );
        assert_eq!(
            &*control.this_node().vtep_mac.to_string(),
            "12:c6:65:89:b4:e3"
        );
        control.stop();
    });
}
