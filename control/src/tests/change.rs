//! A second source beside the file: what it says is in force as if the file said it.

use ringway_cluster::{Change, ClusterError, Contents, EncapKind, PathSpec, Peer, Route, Via};
use ringway_encap::Encap;
use ringway_packet::addr::from_ip;

use super::*;

fn toy() -> Source {
    Source::new("toy")
}

fn peer(name: &str, address: &str, encap: EncapKind, mtu: [Option<u32>; 2]) -> Peer {
    let path = |mtu| {
        Some(PathSpec {
            encap,
            vtep_mac: "0a:58:0a:4d:09:00".parse().unwrap(),
            mtu,
        })
    };
    Peer {
        name: name.into(),
        addresses: [address.parse().unwrap()].into(),
        v4: path(mtu[0]),
        v6: path(mtu[1]),
        source: toy(),
    }
}

fn route(prefix: &str, peer: &str) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        via: Via::Peer(peer.into()),
        source: toy(),
        preference: 100,
    }
}

impl Control {
    fn hears(&mut self, change: Change) -> Result<(), ChangeError> {
        self.ask(|reply| Request::Change(toy(), Box::new(change), reply))
    }

    /// What a path to an address is like: encapsulation and MTU of the inner packet.
    fn path_to(&self, ip: &str) -> Option<(Encap, u16)> {
        let Some(Target::Path(id)) = target(self, ip) else {
            return None;
        };
        let tables = self.publisher.current();
        tables.path(id).map(|path| (path.encap, path.mtu))
    }

    fn refuses_change(&mut self, change: Change) -> ChangeError {
        let state = |c: &Control| (c.publisher.current().version, c.cluster.state().clone());
        let before = (state(self), self.sockets.len());
        let error = self.hears(change).unwrap_err();
        assert_eq!(before, (state(self), self.sockets.len()), "{error}");
        assert!(!error.remedy().is_empty());
        error
    }
}

fn kernel_routes(control: &mut Control) -> Vec<String> {
    let index = control.netlink.link("ringway0").unwrap().index;
    let routes = control.netlink.routes(index).unwrap();
    routes
        .iter()
        .map(|r| format!("{}/{}", r.destination, r.prefix_len))
        .collect()
}

#[test]
fn what_another_source_says_is_in_force_everywhere() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let all = Contents {
            node: None,
            peers: vec![peer(
                "other",
                "192.168.77.9",
                EncapKind::Udp,
                [Some(1400), None],
            )],
            routes: vec![route("10.79.0.0/16", "other"), route("fd79::/48", "other")],
        };
        let version = control.publisher.current().version;
        control.hears(Change::Replace(all)).unwrap();
        // Tables, in one publication, and sockets for its encapsulation before it.
        let tables = control.publisher.current();
        assert!(tables.version > version);
        assert_eq!(tables.accepted.len(), 2);
        assert!(
            control
                .sockets
                .iter()
                .any(|s| s.local == "192.168.77.1:8285")
        );
        // Each family has the MTU that its path has: 1,400 or the interface's 1,500, less 28.
        assert_eq!(control.path_to("10.79.3.4"), Some((Encap::Udp, 1372)));
        assert_eq!(control.path_to("fd79::4"), Some((Encap::Udp, 1472)));
        control.refresh_paths();
        assert_eq!(control.path_to("10.79.3.4"), Some((Encap::Udp, 1372)));
        assert_eq!(control.path_to("fd79::4"), Some((Encap::Udp, 1472)));
        // The kernel: routes, and nothing of it is masqueraded.
        let routes = kernel_routes(&mut control);
        assert!(routes.contains(&"10.79.0.0/16".into()) && routes.contains(&"fd79::/48".into()));
        assert!(control.rules_have("10.79.0.0/16"));
        assert_eq!(control.view().status.peers, 2);

        // News, one by one.
        control
            .hears(Change::SetRoute(route("10.79.5.0/24", "node2")))
            .unwrap();
        assert!(matches!(
            control.path_to("10.79.5.1"),
            Some((Encap::Vxlan { .. }, 1450))
        ));
        assert!(kernel_routes(&mut control).contains(&"10.79.5.0/24".into()));
        let later = peer("other", "192.168.77.9", EncapKind::Udp, [None, Some(1400)]);
        control.hears(Change::SetPeer(later)).unwrap();
        assert_eq!(control.path_to("10.79.3.4"), Some((Encap::Udp, 1472)));
        assert_eq!(control.path_to("fd79::4"), Some((Encap::Udp, 1372)));
        control
            .hears(Change::RemoveRoute("10.79.5.0/24".parse().unwrap()))
            .unwrap();
        assert_eq!(control.path_to("10.79.5.1"), Some((Encap::Udp, 1472)));
        assert!(!kernel_routes(&mut control).contains(&"10.79.5.0/24".into()));

        // The file is read again: what the other source says stays.
        let read = Box::new(node.config(1));
        control.configure(Ok(read)).outcome.unwrap();
        assert_eq!(control.path_to("10.79.3.4"), Some((Encap::Udp, 1472)));
        // It says nothing any more.
        control.hears(Change::Replace(Contents::default())).unwrap();
        assert_eq!(target(&control, "10.79.3.4"), None);
        assert!(
            !kernel_routes(&mut control)
                .iter()
                .any(|r| r.starts_with("10.79."))
        );
        assert!(!control.rules_have("10.79.0.0/16"));
        assert_eq!(control.view().status.peers, 1);
        control.reconcile();
        let status = control.reconcile_status();
        assert_eq!(status.restored, 0, "{:?}", status.last_restored);
        control.stop();
    });
}

impl Control {
    fn rules_have(&mut self, prefix: &str) -> bool {
        std::thread::sleep(Duration::from_millis(500));
        self.reconcile();
        let prefix = prefix.parse().unwrap();
        self.rules.desired().inside.contains(&prefix)
    }
}

#[test]
fn what_cannot_be_is_refused_as_a_whole() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        let ok = |name: &str, ip: &str| peer(name, ip, EncapKind::Udp, [None; 2]);
        // Of the model: another's peer, this node's name, a route to nobody.
        for change in [
            Change::SetPeer(ok("node2", "192.168.77.9")),
            Change::SetPeer(ok("node1", "192.168.77.9")),
            Change::SetRoute(route("10.79.0.0/16", "nobody")),
        ] {
            let error = control.refuses_change(change);
            assert!(matches!(error, ChangeError::Cluster(_)), "{error}");
        }
        // Of the underlay: our own address as a peer's or in its pods, a family we have none of, an MTU that
        // leaves too little.
        let whole = |peer: Peer, prefix: &str| {
            let routes = vec![route(prefix, &peer.name)];
            Change::Replace(Contents {
                node: None,
                peers: vec![peer],
                routes,
            })
        };
        for (change, word) in [
            (Change::SetPeer(ok("x", "192.168.77.1")), "192.168.77.1"),
            (whole(ok("x", "172.16.0.9"), "192.168.0.0/16"), "192.168."),
            (whole(ok("x", "172.16.0.9"), "0.0.0.0/0"), "0.0.0.0/0"),
            (
                Change::SetPeer(peer(
                    "x",
                    "192.168.77.9",
                    EncapKind::Udp,
                    [None, Some(1300)],
                )),
                "1280",
            ),
        ] {
            let error = control.refuses_change(change);
            assert!(error.to_string().contains(word), "{error}");
        }
        // Of the tables: the address of a pod of ours.
        let error = control.refuses_change(Change::SetRoute(route("10.77.1.2/32", "node2")));
        assert!(error.to_string().contains("pod a"), "{error}");
        // Of the pods: the network they are in. Only a source that says what the node is can do that.
        let mut own = control.this_node().clone();
        own.cidrs = ["10.78.1.0/24".parse().unwrap()].into();
        let contents = |node| Contents {
            node: Some(node),
            ..Contents::default()
        };
        let error = control.refuses_change(Change::Replace(contents(own.clone())));
        assert!(error.to_string().contains("(a)"), "{error}");
        own.cidrs = ["10.77.1.2/32".parse().unwrap()].into();
        let error = control.refuses_change(Change::Replace(contents(own)));
        assert!(
            matches!(error, ChangeError::Cluster(ClusterError::NoGateway { .. })),
            "{error}"
        );
        assert_eq!(
            control
                .publisher
                .current()
                .route(from_ip("10.77.1.2".parse().unwrap())),
            Some(Target::Port(PortId(1)))
        );
        control.stop();
    });
}

#[test]
fn many_routes_at_once_are_set_as_few_are() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let mut all = Contents {
            node: None,
            peers: vec![peer("other", "192.168.77.9", EncapKind::Vxlan, [None; 2])],
            routes: (0..1500)
                .map(|n| route(&format!("10.{}.{}.0/24", 80 + n / 256, n % 256), "other"))
                .collect(),
        };
        let before = kernel_routes(&mut control).len();
        control.hears(Change::Replace(all.clone())).unwrap();
        assert_eq!(kernel_routes(&mut control).len(), before + 1500);
        all.routes.truncate(10);
        control.hears(Change::Replace(all)).unwrap();
        assert_eq!(kernel_routes(&mut control).len(), before + 10);
        control.reconcile();
        assert_eq!(control.reconcile_status().restored, 0);
        control.stop();
    });
}

#[test]
fn a_source_may_say_what_the_nodes_own_networks_are() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        let mut own = control.this_node().clone();
        own.cidrs = own
            .cidrs
            .iter()
            .copied()
            .chain(["10.78.1.0/24".parse().unwrap()])
            .collect();
        let mut here = route("10.78.1.0/24", "");
        here.via = Via::Node;
        let all = Contents {
            node: Some(own),
            peers: Vec::new(),
            routes: vec![here],
        };
        control.hears(Change::Replace(all)).unwrap();
        assert_eq!(
            target(&control, "10.78.1.1"),
            Some(Target::Port(PortId::NODE))
        );
        assert!(kernel_routes(&mut control).contains(&"10.78.1.0/24".into()));
        let made = control.attach(&request(&pod, "a", &["10.78.1.7"])).unwrap();
        assert_eq!(made.ips, ["10.78.1.7/24"]);
        assert_eq!(made.gateways, ["10.78.1.1".parse::<IpAddr>().unwrap()]);
        assert!(
            control
                .view()
                .status
                .pod_cidrs
                .contains(&"10.78.1.0/24".into())
        );
        control.stop();
    });
}
