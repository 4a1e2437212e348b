//! `[kubernetes]` and `[etcd]`: who decides what the node is.

use super::*;

const CIDRS: &str =
    "pod_cidrs = [\"10.77.1.0/24\", \"fd77:1::/64\"]   # the first address is the gateway\n";

/// The sample, whose node Kubernetes decides.
pub(super) fn with_kubernetes(lines: &str) -> String {
    with(CIDRS, "") + &format!("\n[kubernetes]\n{lines}\n")
}

/// The sample, whose node etcd decides.
pub(super) fn with_etcd(lines: &str) -> String {
    with(CIDRS, "") + &format!("\n[etcd]\n{lines}\n")
}

#[test]
fn an_empty_section_is_enough_and_gives_the_node_away() {
    let config = parse(&with_kubernetes("")).unwrap();
    assert_eq!(config.decider(), Decider::Kubernetes);
    let kubernetes = config.kubernetes.as_ref().unwrap();
    assert_eq!(
        (&kubernetes.kubeconfig, &kubernetes.api_server),
        (&None, &None)
    );
    assert_eq!(config.node_name(), kubernetes.node);
    // What the file says of peers stands; the node is not its to say.
    assert_eq!(config.contents().node, None);
    assert_eq!(config.contents().peers.len(), 1);
    let (cluster, _) = config.cluster().unwrap();
    let node = &cluster.state().node;
    assert_eq!((&*node.name, node.cidrs.len()), (config.node_name(), 0));
    assert_eq!(parse(SAMPLE).unwrap().decider(), Decider::File);
    let etcd = parse(&with_etcd("")).unwrap();
    assert_eq!(etcd.decider(), Decider::Etcd);
    let etcd = etcd.etcd.unwrap();
    assert_eq!(etcd.prefix, "/coreos.com/network");
    assert_eq!(etcd.endpoints, ["http://127.0.0.1:2379"]);
}

#[test]
fn the_node_object_may_have_another_name_than_the_node() {
    let config = parse(&with_kubernetes("node = \"n7.example\"")).unwrap();
    assert_eq!(
        (config.node.name.as_str(), config.node_name()),
        ("node1", "n7.example")
    );
    let unnamed = with_kubernetes("node = \"n7.example\"");
    let unnamed = unnamed.replace(
        "name = \"node1\"                                # default: hostname\n",
        "",
    );
    assert_eq!(parse(&unnamed).unwrap().node.name, "n7.example");
}

/// Until the source has said what the node is, addresses for its pods may be given anyhow.
#[test]
fn ranges_wait_for_the_networks() {
    let ranges = "\n[ipam]\nranges = [\"10.244.1.10-10.244.1.99\"]\n";
    let config = parse(&(with_kubernetes("") + ranges)).unwrap();
    assert_eq!(config.ipam.ranges.len(), 1);
    assert_eq!(
        parse(&format!("{SAMPLE}{ranges}")).unwrap_err().key,
        "ipam.ranges[0]"
    );
}

/// Each mistake: the text, the key, and words of the message.
#[test]
fn each_mistake_is_named_with_its_remedy() {
    let cidrs = |section: &str| format!("{SAMPLE}\n[{section}]\n");
    let cases = [
        (
            cidrs("kubernetes"),
            "node.pod_cidrs",
            "leave out node.pod_cidrs: Kubernetes gives it",
        ),
        (
            cidrs("etcd"),
            "node.pod_cidrs",
            "leave out node.pod_cidrs: etcd gives it",
        ),
        (
            with_kubernetes("").replace("[node]", "[node]\nvtep_mac = \"0e:00:00:00:00:09\""),
            "node.vtep_mac",
            "leave out node.vtep_mac: Kubernetes gives it",
        ),
        (with_kubernetes("[etcd]"), "etcd", "remove one of the two"),
        (with(CIDRS, ""), "node.pod_cidrs", "no pod network"),
        (with_kubernetes("node = \"a b\""), "kubernetes.node", "a b"),
        (
            with_kubernetes("kubeconfig = \"k\""),
            "kubernetes.kubeconfig",
            "absolute",
        ),
        (
            with_kubernetes("api_server = \"http://h\""),
            "kubernetes.api_server",
            "https://",
        ),
        (
            with_kubernetes("api_server = \"https://\""),
            "kubernetes.api_server",
            "https://",
        ),
        (
            with_kubernetes("api_server = \"https://u@h\""),
            "kubernetes.api_server",
            "without a user",
        ),
        (with_etcd("endpoints = []"), "etcd.endpoints", "2379"),
        (
            with_etcd("endpoints = [\"h:1\"]"),
            "etcd.endpoints[0]",
            "h:1",
        ),
        (
            with_etcd("prefix = \"net\""),
            "etcd.prefix",
            "begin the path with /",
        ),
        (
            with_etcd("cert_file = \"/c\""),
            "etcd.cert_file",
            "set etcd.key_file",
        ),
        (
            with_etcd("password_file = \"/p\""),
            "etcd.password_file",
            "set etcd.username",
        ),
        (with_etcd("ca_file = \"c\""), "etcd.ca_file", "absolute"),
        (
            adding("[node]", "subnet_env = \"/run/e\""),
            "node.subnet_env",
            "node.cluster_cidrs",
        ),
    ];
    for (text, key, words) in cases {
        let error = parse(&text).expect_err(&text);
        let message = error.to_string();
        assert_eq!(error.key, key, "{message}\n{text}");
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        assert!(error.line.is_some(), "{message}");
    }
}

/// What a cluster's Flannel has goes before our defaults, and what the file says before both.
#[test]
fn the_cluster_may_have_other_defaults() {
    let network: Vec<Cidr> = vec!["10.244.0.0/16".parse().unwrap()];
    let cluster = NetworkDefaults {
        cluster_cidrs: network.clone(),
        encap: EncapKind::Udp,
        vni: 7,
        vxlan_port: 4789,
        udp_port: 9999,
    };
    let text = with_kubernetes("").replace("encap = \"vxlan\" ", "# ");
    let file = Path::new("t");
    let with = |text: &str| Config::parse_with(file, text, &cluster).unwrap().underlay;
    // The sample says vni = 1.
    let u = with(&text);
    assert_eq!(
        (u.encap, u.vni, u.vxlan_port, u.udp_port),
        (EncapKind::Udp, 1, 4789, 9999)
    );
    let node = |text: &str| Config::parse_with(file, text, &cluster).unwrap().node;
    assert_eq!(node(&text).cluster_cidrs, network);
    let own = text.replace("[node]", "[node]\ncluster_cidrs = [\"10.77.0.0/16\"]");
    assert_eq!(node(&own).cluster_cidrs[0].to_string(), "10.77.0.0/16");
    // Which networks that is, the cluster may say later.
    let env = text.replace("[node]", "[node]\nsubnet_env = \"/run/e\"");
    assert!(parse(&env).unwrap().node.subnet_env.is_some());
    let u = with(&text.replace("vni = 1", "vxlan_port = 8472"));
    assert_eq!((u.vni, u.vxlan_port), (7, 8472));
    let text = text.replace("vni = 1", "vxlan_port = 9999");
    let clash = Config::parse_with(file, &text, &cluster).unwrap_err();
    assert!(clash.to_string().contains("9999"), "{clash}");
}

#[test]
fn unknown_keys_of_the_sections_are_refused() {
    for text in [
        with_kubernetes("takeover = true"),
        with_etcd("token = \"x\""),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(matches!(*error.problem, Problem::Syntax { .. }), "{error}");
    }
    let brackets = parse(&with(CIDRS, "").replace("[node]", "[[kubernetes]]\n[node]"));
    let message = brackets.unwrap_err().to_string();
    assert!(message.contains("write [kubernetes]"), "{message}");
}

#[test]
fn files_that_are_named_come_with_their_keys() {
    let config = parse(&with_kubernetes("kubeconfig = \"/k\"")).unwrap();
    assert_eq!(files(&config), [("kubernetes.kubeconfig", "/k".into())]);
    let all = "ca_file = \"/a\"\ncert_file = \"/c\"\nkey_file = \"/k\"\nusername = \"u\"\npassword_file = \"/w\"";
    let keys: Vec<_> = files(&parse(&with_etcd(all)).unwrap())
        .iter()
        .map(|f| f.0)
        .collect();
    let expected = [
        "etcd.ca_file",
        "etcd.cert_file",
        "etcd.key_file",
        "etcd.password_file",
    ];
    assert_eq!(keys, expected);
    assert_eq!(files(&parse(SAMPLE).unwrap()), []);
}

/// A running agent keeps who decides, and with it the networks; all of it waits for a restart.
#[test]
fn another_decider_waits_for_a_restart() {
    let (file, api) = (parse(SAMPLE).unwrap(), parse(&with_kubernetes("")).unwrap());
    let force = in_force(&file, &api);
    assert_eq!(force.node.pod_cidrs, file.node.pod_cidrs);
    assert_eq!(
        (force.decider(), &force.node.vtep_mac),
        (Decider::File, &file.node.vtep_mac)
    );
    let back = in_force(&api, &file);
    assert_eq!(
        (back.decider(), back.node.pod_cidrs.len()),
        (Decider::Kubernetes, 0)
    );
    let told = differences(&file, &api);
    assert!(told.iter().any(|d| d.key == "node.pod_cidrs"));
    assert!(told.iter().all(|d| d.when == When::Restart), "{told:?}");
    let all = "node = \"x\"\nkubeconfig = \"/k\"\napi_server = \"https://h:6443\"";
    let other = parse(&with_kubernetes(all)).unwrap();
    let etcd = "endpoints = [\"http://h:1\"]\nprefix = \"/p\"\nca_file = \"/a\"\ncert_file = \"/c\"\nkey_file = \"/k\"\nusername = \"u\"\npassword_file = \"/w\"";
    let etcds = [
        parse(&with_etcd("")).unwrap(),
        parse(&with_etcd(etcd)).unwrap(),
    ];
    for (old, new, section) in [
        (&api, &other, "kubernetes."),
        (&etcds[0], &etcds[1], "etcd."),
    ] {
        let all = differences(old, new);
        for doc in KEYS.iter().filter(|doc| doc.key.starts_with(section)) {
            let found = all.iter().find(|d| d.key == doc.key);
            assert_eq!(found.map(|d| d.when), Some(When::Restart), "{}", doc.key);
        }
        assert_eq!(in_force(old, new).kubernetes, old.kubernetes);
        assert_eq!(in_force(old, new).etcd, old.etcd);
    }
}
