//! A node that was Flannel's: its overlay and its bridge, with a pod that stays.

use std::fs;
use std::os::fd::AsFd;

use ringway_cni::api::Attachment;
use ringway_kernel::testing::ip;

use super::cni::add;
use super::sources::{NETWORKS, Toy, contents, node_addresses};
use super::*;
use crate::error::Kind;
use crate::takeover::is_given_back;

const MAC: &str = "12:c6:65:89:b4:e3";

/// The node of [`Node`] as Flannel has left it, with host-local's books.
struct Former {
    node: Node,
    left: Pod,
}

impl Former {
    fn new() -> Self {
        let (node, left) = (Node::new(), Pod::new());
        ip(&format!(
            "link add flannel.1 address {MAC} type vxlan id 1 local 192.168.77.1 dstport 8472 nolearning"
        ));
        ip("link set flannel.1 up");
        ip("link add cni0 type bridge");
        ip("addr add 10.77.1.1/24 dev cni0");
        ip("addr add fd77:1::1/64 dev cni0 nodad");
        ip("link set cni0 up");
        let mut netlink = Netlink::open().unwrap();
        netlink.add_veth("veth7", left.netns().as_fd(), "eth0");
        ip("link set veth7 master cni0 up");
        let former = Self { node, left };
        fs::create_dir_all(former.books().join("cbr0")).unwrap();
        for at in ["10.77.1.2", "fd77:1::2"] {
            fs::write(former.book(at), "9f2c\r\neth0").unwrap();
        }
        former
    }

    fn books(&self) -> std::path::PathBuf {
        self.node.dir.path().join("books")
    }

    fn book(&self, ip: &str) -> std::path::PathBuf {
        self.books().join("cbr0").join(ip)
    }

    fn config(&self) -> Config {
        let mut config = self.node.config(1);
        config.node.takeover = true;
        config.cni.books = self.books();
        config
    }
}

fn has_link(name: &str) -> bool {
    Netlink::open().unwrap().link(name).is_ok()
}

fn addresses(status: &view::Status) -> Vec<String> {
    let left = status.left_pods.iter().flat_map(|pod| &pod.ips);
    left.map(ToString::to_string).collect()
}

#[test]
fn the_overlay_makes_way_its_mac_stays_and_pods_on_the_bridge_are_reached() {
    in_netns(|| {
        let (former, pod) = (Former::new(), Pod::new());
        let mut control = Control::start(former.config()).unwrap();
        assert!(!has_link("flannel.1"));
        assert_eq!(control.this_node().vtep_mac.to_string(), MAC);
        let snapshot = control.publisher.current();
        assert_eq!(snapshot.node.vtep_mac.to_string(), MAC);
        let node = Some(Target::Port(PortId::NODE));
        for at in ["10.77.1.2", "fd77:1::2"] {
            assert_eq!(target(&control, at), node, "{at}");
        }
        let status = control.view().status;
        assert_eq!(addresses(&status), ["10.77.1.2", "fd77:1::2"]);
        let [left] = &status.left_pods[..] else {
            panic!("{:?}", status.left_pods);
        };
        assert_eq!(left.container_id, "9f2c");
        assert!(left.remedy.contains("status.podIP=10.77.1.2"), "{left:?}");
        // Neither of its addresses is given out, nor taken by name.
        let added = control.cni_add(&add(&pod, "new")).unwrap();
        let given: Vec<&str> = added.ips.iter().map(|ip| ip.address.as_str()).collect();
        assert_eq!(given, ["10.77.1.3/24", "fd77:1::3/64"]);
        let taken = control.attach(&request(&Pod::new(), "b", &["10.77.1.2"]));
        let taken = taken.unwrap_err().to_string();
        assert!(
            taken.contains("9f2c") && taken.contains("bridge"),
            "{taken}"
        );
        // The runtime takes the container away, and our plugin gets its DEL.
        let attachment = Attachment {
            container_id: "9f2c".into(),
            ifname: "eth0".into(),
        };
        let done = control.cni_del(&attachment);
        assert!(done.note.unwrap().contains("network before"));
        assert!(!former.book("10.77.1.2").exists());
        assert!(addresses(&control.view().status).is_empty());
        assert_eq!(target(&control, "10.77.1.2"), Some(Target::Unreachable));
        assert!(has_link("cni0"), "its interface is still on it");
        drop(former.left);
        while has_link("veth7") {
            std::thread::sleep(Duration::from_millis(5));
        }
        control.follow_left(Instant::now());
        assert!(!has_link("cni0"));
        control.stop();
    });
}

#[test]
fn a_restart_keeps_the_mac_and_the_pods_on_the_bridge() {
    in_netns(|| {
        let former = Former::new();
        Control::start(former.config()).unwrap().stop();
        let mut control = Control::start(former.config()).unwrap();
        assert_eq!(control.this_node().vtep_mac.to_string(), MAC);
        let node = Some(Target::Port(PortId::NODE));
        assert_eq!(target(&control, "10.77.1.2"), node);
        // A file that is read again says nothing of the MAC address.
        let reloaded = control.configure(Ok(Box::new(former.config())));
        assert!(reloaded.outcome.unwrap().is_empty() && reloaded.waiting.is_empty());
        assert_eq!(control.this_node().vtep_mac.to_string(), MAC);
        // Flannel is back beside the running agent, and is named for as long.
        ip("link add flannel.1 type vxlan id 1 local 192.168.77.1 dstport 8472 nolearning");
        control.follow_left(Instant::now());
        let named = |control: &Control| {
            let all = control.view().status.conditions;
            all.iter().any(|c| c.found.contains("flannel.1"))
        };
        assert!(named(&control));
        ip("link del flannel.1");
        control.follow_left(Instant::now());
        assert!(!named(&control));
        control.stop();
    });
}

#[test]
fn without_take_over_nothing_of_flannel_is_touched() {
    in_netns(|| {
        let former = Former::new();
        let mut config = former.config();
        config.node.takeover = false;
        let refused = Control::start(config).err().map(|e| format!("{e:#}"));
        // The kernel has the port.
        assert!(refused.unwrap().contains("8472"));
        assert!(has_link("flannel.1") && has_link("cni0"));
    });
}

#[test]
fn a_node_with_pods_is_given_back_only_when_they_do_not_count() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        let state_dir = node.config(1).node.state_dir;
        let refused = control.ask(|reply| Request::GiveBack(false, reply));
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("(1): a"), "{refused}");
        assert!(refused.remedy().contains("kubectl drain"));
        assert!(!is_given_back(&state_dir).unwrap());
        let pods = control.ask(|reply| Request::GiveBack(true, reply)).unwrap();
        assert_eq!(pods.len(), 1);
        // Whoever asks for one now would lose it in a moment.
        let late = control.attach(&request(&Pod::new(), "b", &["10.77.1.3"]));
        assert!(late.unwrap_err().to_string().contains("given back"));
        assert!(is_given_back(&state_dir).unwrap());
        control.stop();
        // Whoever starts it all the same means it.
        let control = node.start(1);
        assert!(!is_given_back(&state_dir).unwrap());
        control.stop();
    });
}

/// Prefix lengths of the IPv4 addresses of the bridge.
fn bridge_lengths() -> Vec<u8> {
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link("cni0").unwrap().index;
    let all = netlink.addresses(index).unwrap().into_iter();
    all.filter(|a| a.ip.is_ipv4())
        .map(|a| a.prefix_len)
        .collect()
}

#[test]
fn a_bridge_whose_pods_are_in_no_book_stays_and_so_does_the_overlay() {
    in_netns(|| {
        let former = Former::new();
        fs::remove_dir_all(former.books()).unwrap();
        let refused = Control::start(former.config())
            .err()
            .map(|e| format!("{e:#}"));
        let refused = refused.unwrap();
        assert!(
            refused.contains("veth7") && refused.contains("cni.books"),
            "{refused}"
        );
        assert!(has_link("flannel.1"));
        assert_eq!(bridge_lengths(), [24]);
    });
}

#[test]
fn while_nobody_knows_which_addresses_are_free_no_pod_is_attached() {
    in_netns(|| {
        let (former, pod, toy) = (Former::new(), Pod::new(), Toy::default());
        let books = former.books();
        let away = former.node.dir.path().join("away");
        fs::rename(&books, &away).unwrap();
        let mut config = former.node.decided("takeover = true");
        config.cni.books = books.clone();
        // Which networks are this node's, nobody has said yet.
        let acquired = Acquired::open(&config, Vec::new()).unwrap();
        let mut control = Control::assemble(config, acquired, toy.sources()).unwrap();
        let all = contents(&NETWORKS);
        control.learns(cluster::Change::Replace(all)).unwrap();
        let refused = control.cni_add(&add(&pod, "new")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Later);
        assert!(refused.to_string().contains("cni.books"), "{refused}");
        let shown = control.view().status.conditions;
        assert!(shown.iter().any(|c| c.what.contains("bridge")), "{shown:?}");
        assert_eq!(bridge_lengths(), [24]);
        assert!(node_addresses(&mut control).is_empty());
        fs::rename(&away, &books).unwrap();
        control.look_at_left(Instant::now() + Duration::from_secs(3));
        let shown = control.view().status.conditions;
        assert!(
            !shown.iter().any(|c| c.what.contains("bridge")),
            "{shown:?}"
        );
        assert_eq!(bridge_lengths(), [32]);
        assert!(!node_addresses(&mut control).is_empty());
        let added = control.cni_add(&add(&pod, "new")).unwrap();
        assert_eq!(added.ips[0].address, "10.77.1.3/24");
        // Somebody takes its address away: the pod on it is still there.
        ip("addr del 10.77.1.1/32 dev cni0");
        control.follow_left(Instant::now());
        assert_eq!(bridge_lengths(), [32]);
        assert_eq!(addresses(&control.view().status).len(), 2);
        control.stop();
    });
}
