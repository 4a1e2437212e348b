//! Another configuration for a running control plane.

use ringway_tables::Target;

use super::*;
use ringway_config::{ConfigError, Difference};

impl Node {
    /// The configuration with one piece of its text replaced, as a file that was read.
    fn read(&self, from: &str, to: &str) -> Result<Box<Config>, ConfigError> {
        let text = include_str!("../../../config/ringway.toml");
        assert!(text.contains(from), "{from}");
        let state = self.dir.path().join("state");
        let text = text
            .replace("[node]", &format!("[node]\nstate_dir = {state:?}"))
            .replace(from, to)
            + "\n[workers]\ncount = 1\npolling = \"interrupt\"\n";
        Config::parse(Path::new("t"), &text).map(Box::new)
    }
}

impl Control {
    fn takes(&mut self, read: Result<Box<Config>, ConfigError>) -> Vec<Difference> {
        self.configure(read).outcome.unwrap()
    }

    fn refuses(&mut self, read: Result<Box<Config>, ConfigError>) -> String {
        let before = (
            self.publisher.current().version,
            self.cluster.state().clone(),
        );
        let error = self.configure(read).outcome.unwrap_err().to_string();
        let after = (
            self.publisher.current().version,
            self.cluster.state().clone(),
        );
        assert_eq!(before, after, "something has changed: {error}");
        assert_eq!(self.reload.status().error.as_deref(), Some(error.as_str()));
        error
    }
}

/// What the node's kernel has of a prefix.
fn kernel_has(control: &mut Control, prefix: &str) -> bool {
    let prefix: ringway_tables::Cidr = prefix.parse().unwrap();
    let index = control.netlink.link("ringway0").unwrap().index;
    let routes = control.netlink.routes(index).unwrap();
    let same = |r: &ringway_kernel::netlink::Route| {
        (r.destination, r.prefix_len) == (prefix.network(), prefix.prefix_len())
    };
    routes.iter().any(same)
}

#[test]
fn peers_and_networks_change_in_one_publication_and_the_kernel_follows() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        let before = control.publisher.current().version;
        let cidrs = "\"10.77.2.0/24\", \"fd77:2::/64\"";
        let more = "\"10.77.2.0/24\", \"10.77.9.0/24\", \"10.77.1.9/32\"";
        let said = control.takes(node.read(cidrs, more));
        assert!(
            said[0].what.starts_with("peers.node2.pod_cidrs is"),
            "{said:?}"
        );
        assert_eq!(control.publisher.current().version, before + 1);
        for ip in ["10.77.9.7", "10.77.1.9"] {
            let target = target(&control, ip);
            assert!(matches!(target, Some(Target::Path(_))), "{ip}: {target:?}");
        }
        for (prefix, there) in [
            ("10.77.9.0/24", true),
            ("10.77.1.9/32", true),
            ("fd77:2::/64", false),
            ("10.77.2.0/24", true),
        ] {
            assert_eq!(kernel_has(&mut control, prefix), there, "{prefix}");
        }
        // A second network of our own, with its gateway.
        let own = "\"10.77.1.0/24\", \"fd77:1::/64\"";
        control.takes(node.read(own, &format!("{own}, \"10.78.1.0/24\", \"10.77.2.5/32\"")));
        assert_eq!(
            target(&control, "10.78.1.1"),
            Some(Target::Port(PortId::NODE))
        );
        assert!(
            kernel_has(&mut control, "10.78.1.0/24") && kernel_has(&mut control, "10.77.2.5/32")
        );
        assert!(!kernel_has(&mut control, "10.77.9.0/24"));
        let other = Pod::new();
        control
            .attach(&request(&other, "b", &["10.78.1.2"]))
            .unwrap();
        // It cannot go while a pod is in it.
        let error = control.refuses(node.read("vni = 1", "vni = 1"));
        assert!(
            error.contains("10.78.1.0/24 still has pods: 1 (b)"),
            "{error}"
        );
        control.detach(&Detach::Name("b".into())).unwrap();
        control.takes(node.read("vni = 1", "vni = 1"));
        assert!(
            !kernel_has(&mut control, "10.78.1.0/24") && !kernel_has(&mut control, "10.77.2.5/32")
        );
        assert_eq!(control.reload.status().error, None);
        control.reconcile();
        let status = control.reconcile_status();
        assert_eq!(status.restored, 0, "{:?}", status.last_restored);
        control.stop();
    });
}

#[test]
fn what_the_tables_refuse_leaves_nothing_behind() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        // A peer that has borrowed the address of a pod of ours.
        let cidrs = "\"10.77.2.0/24\"";
        let error = control.refuses(node.read(cidrs, "\"10.77.2.0/24\", \"10.77.1.2/32\""));
        assert!(
            error.contains("10.77.1.2") && error.contains("pod a"),
            "{error}"
        );
        let error = control.refuses(node.read("\"node2\"", "\"node1\""));
        assert!(error.contains("peers[0].name"), "{error}");
        let error = control.refuses(node.read("vni = 1", "addresses = [\"192.168.77.9\"]"));
        assert!(
            error.contains("does not have the address 192.168.77.9"),
            "{error}"
        );
        // Afterwards a right one is taken, and what waits is named.
        let reloaded = control.configure(node.read("vni = 1", "vni = 7"));
        assert_eq!(reloaded.outcome.unwrap(), []);
        assert_eq!(reloaded.waiting[0].what, "underlay.vni is 7, was 1");
        control.takes(node.read(cidrs, "\"10.77.2.0/24\", \"10.77.1.3/32\""));
        control.stop();
    });
}

#[test]
fn a_new_encapsulation_gets_sockets_and_keeps_them() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let sockets = |c: &Control| {
            c.sockets
                .iter()
                .map(|s| s.local.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(sockets(&control).len(), 2);
        control.takes(node.read("name = \"node2\"", "name = \"node2\"\nencap = \"udp\""));
        let all = sockets(&control);
        assert_eq!(all.len(), 4);
        assert!(
            all.iter().any(|local| local == "192.168.77.1:8285"),
            "{all:?}"
        );
        assert_eq!(control.publisher.current().accepted.len(), 2);
        control.takes(node.read("vni = 1", "vni = 1"));
        assert_eq!(sockets(&control), all);
        control.stop();
    });
}
