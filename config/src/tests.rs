use super::*;

mod sources;

const SAMPLE: &str = include_str!("../ringway.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/ringway/ringway.toml"), text)
}

/// The sample with one piece of text replaced by another.
fn with(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from:?} is not in the sample");
    SAMPLE.replacen(from, to, 1)
}

/// A line added to a section of the sample.
fn adding(section: &str, line: &str) -> String {
    with(section, &format!("{section}\n{line}"))
}

/// A second peer after the sample's.
fn peer(name: &str, address: &str, cidr: &str) -> String {
    format!(
        "{SAMPLE}\n[[peers]]\nname = {name:?}\naddresses = [{address:?}]\npod_cidrs = [{cidr:?}]\n"
    )
}

#[test]
fn the_sample_fits_a_screen_and_fills_in_every_default() {
    assert!(SAMPLE.lines().count() <= 24);
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.node.name, "node1");
    assert_eq!(config.node.interface, "ringway0");
    assert_eq!(config.node.state_dir, Path::new("/var/lib/ringway"));
    assert_eq!(config.node.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.node.vtep_mac.to_string(), "0a:58:0a:4d:01:00");
    assert_eq!(config.underlay.vxlan_port, 8472);
    assert_eq!(config.underlay.udp_port, 8285);
    assert_eq!(config.underlay.family, Family::Match);
    assert_eq!(config.workers.count, 1);
    assert_eq!(config.workers.polling, Polling::Adaptive);
    let peer = &config.peers[0];
    assert_eq!(peer.encap, EncapKind::Vxlan);
    assert_eq!(peer.vtep_mac.to_string(), "0a:58:0a:4d:02:00");
    assert_eq!(peer.vtep_mac_v6, peer.vtep_mac);
}

#[test]
fn both_ends_derive_the_same_vtep_mac() {
    let text = SAMPLE
        .replace("10.77.1.0", "X")
        .replace("10.77.2.0", "10.77.1.0")
        .replace('X', "10.77.2.0");
    let (a, b) = (parse(SAMPLE).unwrap(), parse(&text).unwrap());
    assert_eq!(a.peers[0].vtep_mac, b.node.vtep_mac);
    assert_eq!(b.peers[0].vtep_mac, a.node.vtep_mac);
}

#[test]
fn a_node_may_have_several_networks_of_a_family() {
    let (own, peers) = (r#"["10.77.1.0/24""#, r#"["10.77.2.0/24""#);
    let config = parse(&with(peers, r#"["10.77.2.0/24", "10.77.9.0/28""#)).unwrap();
    let networks: Vec<_> = config.peers[0]
        .pod_cidrs
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(networks.starts_with(&["10.77.2.0/24".into(), "10.77.9.0/28".into()]));
    // Those of this node have a gateway each, but for borrowed addresses, which have the first one's.
    let config = parse(&with(
        own,
        r#"["10.77.1.0/24", "10.77.9.0/28", "10.77.2.9/32""#,
    ))
    .unwrap();
    let node = config.contents().node.unwrap();
    let gateway = |ip: &str| {
        node.gateway_of(ip.parse().unwrap())
            .map(|ip| ip.to_string())
    };
    for (ip, expected) in [
        ("10.77.1.9", "10.77.1.1"),
        ("10.77.9.9", "10.77.9.1"),
        ("10.77.2.9", "10.77.1.1"),
        ("fd77:1::9", "fd77:1::1"),
    ] {
        assert_eq!(gateway(ip).as_deref(), Some(expected), "{ip}");
    }
    assert_eq!(gateway("10.77.2.8"), None);
    let all: Vec<String> = node.gateways().map(|ip| ip.to_string()).collect();
    assert_eq!(all, ["10.77.1.1", "10.77.9.1", "fd77:1::1"]);
    // The first must have one.
    let error = parse(&with(own, r#"["10.77.2.9/32", "10.77.1.0/24""#)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("node.pod_cidrs[0]: 10.77.2.9/32"), "{text}");
    assert!(
        text.contains("/8 to /30, for a gateway and a pod"),
        "{text}"
    );
}

#[test]
fn networks_may_lie_in_one_another_and_are_one_nodes_each() {
    let inside = [
        ("\"10.77.2.0/24\"", "\"10.77.1.128/25\""),
        ("\"10.77.2.0/24\"", "\"10.77.1.9/32\""),
        ("\"fd77:2::/64\"", "\"fd77:1::/48\""),
        ("\"fd77:2::/64\"", "\"fd77:1::9/128\""),
    ];
    for (old, new) in inside {
        parse(&with(old, new)).unwrap_or_else(|e| panic!("{new}: {e}"));
    }
}

#[test]
fn a_key_is_live_if_its_new_value_is_in_force_and_only_then() {
    let old = parse(SAMPLE).unwrap();
    // Every key once more with another value.
    let text = SAMPLE
        .replace("10.77.1.0/24", "10.77.5.0/24")
        .replace("name = \"node1\"", "name = \"n9\"\ncluster_cidrs = [\"10.77.0.0/16\", \"fd77::/16\"]\ninterface = \"rw9\"\nstate_dir = \"/s\"\nsocket = \"/k\"\nsysctl_root = \"/y\"\nsubnet_env = \"/e\"\nvtep_mac = \"0e:00:00:00:00:09\"\nvtep_mac_v6 = \"0e:00:00:00:06:09\"\ntakeover = true")
        .replace("interface = \"eth0\"", "interface = \"eth9\"\naddresses = [\"192.168.77.1\"]\nvxlan_port = 4789\nudp_port = 9\nio = \"socket\"\nfamily = \"ipv4\"\nudp_checksum = \"on\"\ngro = \"keep\"\nunfinished_checksums = \"refuse\"\nxdp_busy_poll_us = 9\nsource_ports = 9\ndont_fragment = false\nlower_mtu = true\nprobes = 9")
        .replace("encap = \"vxlan\"", "encap = \"udp\"")
        .replace("vni = 1", "vni = 9")
        + "mtu = 1400\n[workers]\ncount = 2\ncpus = [0, 1]\npolling = \"spin\"\nidle_spin_us = 9\n[ipam]\nranges = [\"10.77.5.0/25\"]\nexclude = [\"10.77.5.9\"]\n[cni]\ninstall = true\nbin_dir = \"/b\"\nconf_dir = \"/c\"\nbooks = \"/o\"\n[egress]\nmasquerade = false\nmasquerade_exclude = [\"192.0.2.0/24\"]\naccept_forward = false\n[metrics]\nlisten = \"[::1]:9472\"\npeers = 9\ncert_file = \"/m\"\nkey_file = \"/n\"\n[agents]\nlisten = \"[::1]:9474\"\ncert_file = \"/p\"\nkey_file = \"/q\"\nca_file = \"/r\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
    let new = parse(&text).unwrap();
    let force = in_force(&old, &new);
    let now = differences(&old, &force);
    let all = differences(&old, &new);
    let told = |all: &[Difference]| -> Vec<String> { all.iter().map(|d| d.key.clone()).collect() };
    // Those of sources are of a test of their own.
    let of_file = |key: &str| {
        !["peers.", "kubernetes.", "etcd."]
            .iter()
            .any(|s| key.starts_with(s))
    };
    for doc in KEYS.iter().filter(|doc| of_file(doc.key)) {
        let differs = told(&all).contains(&doc.key.to_owned());
        assert!(differs, "{} is the same in this test", doc.key);
        let live = told(&now).contains(&doc.key.to_owned());
        assert_eq!(live, doc.when == When::Live, "{}", doc.key);
    }
    let of_peer: Vec<&Difference> = all.iter().filter(|d| d.key.starts_with("peers.")).collect();
    assert!(
        of_peer
            .iter()
            .any(|d| d.what == "peers.node2.mtu is 1400, was not there"),
        "{of_peer:?}"
    );
    assert!(of_peer.iter().all(|d| d.when == When::Live));
    assert_eq!(force.peers, new.peers);
    // What waits is what is left.
    let waiting = differences(&force, &new);
    assert!(
        waiting.iter().all(|d| d.when == When::Restart),
        "{waiting:?}"
    );
    assert_eq!(waiting.len() + now.len(), all.len());
    assert_eq!(differences(&old, &old), []);
    let third = "\n[[peers]]\nname = \"node3\"\naddresses = [\"192.168.77.3\"]\npod_cidrs = [\"10.77.3.0/24\"]\n";
    let more = parse(&format!("{SAMPLE}{third}")).unwrap();
    assert_eq!(differences(&old, &more)[0].what, "peers.node3 is new");
    assert_eq!(differences(&more, &old)[0].what, "peers.node3 is gone");
}

#[test]
fn what_show_prints_is_the_same_configuration() {
    let text = adding("encap = \"vxlan\"", "udp_checksum = \"off\"")
        + "mtu = 1400\nencap = \"udp\"\nvtep_mac_v6 = \"0e:00:00:00:06:02\"\n";
    let mut all = String::new();
    for text in [
        &text,
        &sources::with_kubernetes(""),
        &sources::with_etcd(""),
    ] {
        let config = parse(text).unwrap();
        let shown = show(&config);
        assert_eq!(parse(&shown).unwrap(), config);
        all += &shown;
    }
    let shown = all;
    // Every value line is annotated, and every key that is shown is documented.
    let mut section = String::new();
    for line in shown
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            continue;
        }
        assert!(
            line.ends_with("# restart") || line.ends_with("# live"),
            "{line}"
        );
        let key = format!("{section}.{}", line.split(' ').next().unwrap());
        assert!(KEYS.iter().any(|k| k.key == key), "{key} is not documented");
    }
    for key in KEYS {
        let name = key.key.split('.').nth(1).unwrap();
        assert!(shown.contains(&format!("\n{name} = ")), "{}", key.key);
    }
}

/// Each mistake: the text, the key it is reported at, and words of the message;
/// the line is the one that has the key.
#[test]
fn each_mistake_is_found_at_its_place() {
    let cidrs = r#"["10.77.1.0/24", "fd77:1::/64"]"#;
    let cases: Vec<(String, &str, &[&str])> = vec![
        // one value
        (
            with(cidrs, r#"["10.77.1.5/24"]"#),
            "node.pod_cidrs[0]",
            &["10.77.1.5/24", "10.77.1.0/24"],
        ),
        (
            with(cidrs, r#"["10.77.1.0"]"#),
            "node.pod_cidrs[0]",
            &["10.77.1.0"],
        ),
        (
            with(cidrs, r#"["fd77:1::/64", "10.77.1.0/31"]"#),
            "node.pod_cidrs[1]",
            &["/31", "/30"],
        ),
        (
            with(cidrs, r#"["fd77:1::/127"]"#),
            "node.pod_cidrs[0]",
            &["/126"],
        ),
        (
            with(cidrs, r#"["224.0.0.0/24"]"#),
            "node.pod_cidrs[0]",
            &["unicast"],
        ),
        (
            with(cidrs, r#"["127.0.0.0/24"]"#),
            "node.pod_cidrs[0]",
            &["unicast"],
        ),
        (with(cidrs, "[]"), "node.pod_cidrs", &["no pod network"]),
        (
            with(cidrs, r#"["10.77.1.0/24", "fd77:1::/64", "10.77.1.0/24"]"#),
            "node.pod_cidrs[2]",
            &["10.77.1.0/24 is this node's already"],
        ),
        (
            adding("[node]", "cluster_cidrs = [\"x\"]"),
            "node.cluster_cidrs[0]",
            &["x"],
        ),
        (
            adding("[node]", "cluster_cidrs = [\"10.78.0.0/16\"]"),
            "node.pod_cidrs[0]",
            &["10.78.0.0/16"],
        ),
        (
            adding("[node]", "cluster_cidrs = [\"10.77.1.0/24\"]"),
            "peers[0].pod_cidrs[0]",
            &["outside"],
        ),
        (with("\"node1\"", "\"no de\""), "node.name", &["no de"]),
        (with("\"node1\"", "\"\""), "node.name", &["empty"]),
        (
            adding("[node]", "interface = \"0123456789abcdef\""),
            "node.interface",
            &["15 bytes"],
        ),
        (
            adding("[node]", "interface = \"eth0\""),
            "underlay.interface",
            &["both"],
        ),
        (
            adding("[node]", "state_dir = \"state\""),
            "node.state_dir",
            &["absolute"],
        ),
        (
            adding("[node]", "socket = \"s\""),
            "node.socket",
            &["absolute"],
        ),
        (
            adding("[node]", &format!("socket = \"/{}\"", "s".repeat(107))),
            "node.socket",
            &["108", "107"],
        ),
        (
            adding("[node]", "vtep_mac = \"x\""),
            "node.vtep_mac",
            &["x"],
        ),
        (
            adding("[node]", "vtep_mac = \"01:00:5e:00:00:01\""),
            "node.vtep_mac",
            &["01:00:5e"],
        ),
        (
            adding("[node]", "vtep_mac_v6 = \"00:00:00:00:00:00\""),
            "node.vtep_mac_v6",
            &["00:00"],
        ),
        (
            with("\"eth0\"", "\"eth/0\""),
            "underlay.interface",
            &["eth/0"],
        ),
        (
            with("vni = 1", "vni = 0"),
            "underlay.vni",
            &["0 is out", "16777215"],
        ),
        (
            with("vni = 1", "vni = 16777216"),
            "underlay.vni",
            &["16777216"],
        ),
        (
            with("vni = 1", "vxlan_port = 0"),
            "underlay.vxlan_port",
            &["65535"],
        ),
        (
            with("vni = 1", "udp_port = 8472"),
            "underlay.udp_port",
            &["8472"],
        ),
        (
            with("vni = 1", "xdp_busy_poll_us = 10001"),
            "underlay.xdp_busy_poll_us",
            &["10001", "10000"],
        ),
        (
            with("vni = 1", "addresses = [\"192.168.77.300\"]"),
            "underlay.addresses[0]",
            &["192.168.77.300"],
        ),
        (
            with("vni = 1", "addresses = [\"192.168.77.1/24\"]"),
            "underlay.addresses[0]",
            &["/24"],
        ),
        (
            with("vni = 1", "addresses = [\"224.0.0.1\"]"),
            "underlay.addresses[0]",
            &["224.0.0.1"],
        ),
        (
            with("vni = 1", "addresses = [\"fe80::1\"]"),
            "underlay.addresses[0]",
            &["fe80::1"],
        ),
        (
            with(
                "vni = 1",
                "addresses = [\"192.168.77.1\", \"192.168.77.9\"]",
            ),
            "underlay.addresses",
            &["2 networks"],
        ),
        (
            with("vni = 1", "addresses = [\"192.168.77.2\"]"),
            "peers[0].addresses[0]",
            &["192.168.77.2", "this node"],
        ),
        (
            with("vni = 1", "addresses = [\"10.77.1.9\"]"),
            "underlay.addresses[0]",
            &["10.77.1.0/24"],
        ),
        (
            with("vni = 1", "family = \"ipv6\"\nudp_checksum = \"off\""),
            "underlay.udp_checksum",
            &["IPv4 only"],
        ),
        (
            with("vni = 1", "dont_fragment = false\nudp_checksum = \"off\""),
            "underlay.udp_checksum",
            &["dont_fragment", "auto"],
        ),
        (
            with("vni = 1", "source_ports = 65"),
            "underlay.source_ports",
            &["65 is out", "1 to 64"],
        ),
        (
            with("vni = 1", "source_ports = 0"),
            "underlay.source_ports",
            &["0 is out", "1 to 64"],
        ),
        (
            with("name = \"node2\"", "name = \"node2\"\nmtu = 575"),
            "peers[0].mtu",
            &["575 is out", "576 to 65535"],
        ),
        (
            with(
                "\"192.168.77.2\", \"fd00:77::2\"]",
                "\"fd00:77::2\"]\nmtu = 1279",
            ),
            "peers[0].mtu",
            &["1279 is out", "1280 to 65535"],
        ),
        (
            with("name = \"node2\"", "name = \"node2\"\nmtu = 65536"),
            "peers[0].mtu",
            &["65536 is out", "65535"],
        ),
        // peers
        (
            with("\"192.168.77.2\", \"fd00:77::2\"", ""),
            "peers[0].addresses",
            &["no address"],
        ),
        (
            with("\"192.168.77.2\"", "\"10.77.1.9\""),
            "peers[0].addresses[0]",
            &["10.77.1.0/24", "this node"],
        ),
        (
            with("\"192.168.77.2\"", "\"::ffff:1.2.3.4\""),
            "peers[0].addresses[0]",
            &["1.2.3.4"],
        ),
        (
            with("\"10.77.2.0/24\"", "\"10.77.1.0/24\""),
            "peers[0].pod_cidrs[0]",
            &["10.77.1.0/24 is this node's already", "longer prefix"],
        ),
        (
            with("\"fd77:2::/64\"", "\"fd77:2::/64\", \"fd77:2::/64\""),
            "peers[0].pod_cidrs[2]",
            &["fd77:2::/64 is node2's already"],
        ),
        (
            with("\"fd77:2::/64\"", "\"fd77::/15\""),
            "peers[0].pod_cidrs[1]",
            &["fd77::/15", "host bits"],
        ),
        (
            with("\"node2\"", "\"node1\""),
            "peers[0].name",
            &["this node"],
        ),
        (
            peer("node2", "192.168.77.3", "10.77.3.0/24"),
            "peers[1].name",
            &["node2"],
        ),
        (
            peer("node3", "192.168.77.2", "10.77.3.0/24"),
            "peers[1].addresses[0]",
            &["node2"],
        ),
        (
            peer("node3", "192.168.77.3", "10.77.2.0/24"),
            "peers[1].pod_cidrs[0]",
            &["10.77.2.0/24 is node2's already"],
        ),
        (
            peer("node3", "10.77.2.3", "10.77.3.0/24"),
            "peers[1].addresses[0]",
            &["10.77.2.0/24 of node2"],
        ),
        (
            with(cidrs, r#"["10.77.1.0/24"]"#),
            "peers[0].pod_cidrs[1]",
            &["IPv6", "node2"],
        ),
        (
            with("vni = 1", "addresses = [\"192.168.77.1\"]").replace("\"192.168.77.2\", ", ""),
            "peers[0].addresses",
            &["192.168.77.1", "fd00:77::2"],
        ),
        (
            with(
                "vni = 1",
                "addresses = [\"192.168.77.1\", \"fd00:77::1\"]\nfamily = \"ipv4\"",
            )
            .replace("\"192.168.77.2\", ", ""),
            "peers[0].addresses",
            &["ipv4"],
        ),
        // workers
        (
            format!("{SAMPLE}\n[workers]\ncount = 0"),
            "workers.count",
            &["1", "64"],
        ),
        (
            format!("{SAMPLE}\n[workers]\ncount = 2\ncpus = [1]"),
            "workers.cpus",
            &["1 processors for 2"],
        ),
        (
            format!("{SAMPLE}\n[workers]\ncount = 2\ncpus = [1, 1]"),
            "workers.cpus[1]",
            &["twice"],
        ),
        (
            format!("{SAMPLE}\n[metrics]\nlisten = \"9472\""),
            "metrics.listen",
            &["\"9472\"", "auto:9472"],
        ),
        (
            format!("{SAMPLE}\n[metrics]\nlisten = \"auto:0\""),
            "metrics.listen",
            &["auto:0"],
        ),
        (
            format!("{SAMPLE}\n[metrics]\nlisten = \"node1:9472\""),
            "metrics.listen",
            &["node1:9472"],
        ),
        (
            format!(
                "{SAMPLE}\n[agents]\nlisten = \"auto:9474\"\ncert_file = \"/c\"\nkey_file = \"/k\""
            ),
            "agents.listen",
            &["agents.ca_file is missing"],
        ),
        (
            format!("{SAMPLE}\n[agents]\nca_file = \"/c\""),
            "agents.ca_file",
            &["agents.listen is missing"],
        ),
        (
            format!("{SAMPLE}\n[agents]\nlisten = \"9474\""),
            "agents.listen",
            &["\"9474\""],
        ),
        (
            format!("{SAMPLE}\n[log]\nlevel = \"loud\""),
            "log.level",
            &["\"loud\" is no level", "info,ringway_control=debug"],
        ),
        (
            format!("{SAMPLE}\n[log]\nlevel = \"\""),
            "log.level",
            &["it is empty"],
        ),
        (
            format!("{SAMPLE}\n[log]\nformat = \"xml\""),
            "log.format",
            &["\"xml\"", "auto, text, json, journald"],
        ),
        (
            format!("{SAMPLE}\n[metrics]\nkey_file = \"/k\""),
            "metrics.key_file",
            &["metrics.cert_file is missing"],
        ),
        (
            format!("{SAMPLE}\n[workers]\nidle_spin_us = 1000001"),
            "workers.idle_spin_us",
            &["1000001"],
        ),
    ];
    for (text, key, words) in cases {
        let error = parse(&text).expect_err(&text);
        let message = error.to_string();
        assert_eq!(error.key, key, "{message}\n{text}");
        let value_line = text.lines().nth(error.line.unwrap() - 1).unwrap();
        let field = error.key.rsplit('.').next().unwrap();
        let field = field.split('[').next().unwrap();
        assert!(
            value_line.contains(field),
            "{message}: line is {value_line:?}"
        );
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert!(
            message.starts_with("/etc/ringway/ringway.toml:"),
            "{message}"
        );
        assert!(message.contains("\n  to do: "), "{message}");
    }
}

#[test]
fn syntax_and_unknown_keys_come_with_the_line() {
    let cases = [
        (adding("[node]", "colour = 1"), "colour"),
        (with("vni = 1", "vnii = 1"), "vnii"),
        (with("\"vxlan\"", "\"geneve\""), "geneve"),
        (with("vni = 1", "vni = 1\nvni = 2"), "vni"),
        (with("vni = 1", "vni = "), "vni ="),
        (with("[underlay]", "[underlay"), "underlay"),
        (with("[underlay]", "[overlay]"), "overlay"),
        (format!("{SAMPLE}\n[workers]\npolling = \"busy\""), "busy"),
        (format!("{SAMPLE}\nport = 1"), "port"),
        (String::new(), "node"),
    ];
    for (text, word) in cases {
        let error = parse(&text).expect_err(&text);
        assert!(matches!(*error.problem, Problem::Syntax { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(word), "{word:?} is not in {message:?}");
        assert!(error.line.is_some() || text.is_empty(), "{message}");
    }
}

/// Whatever stands where a number should: the range is told, at the line of the key.
#[test]
fn every_number_tells_its_range() {
    for (key, min, max) in number::RANGES {
        let (section, name) = key.split_once('.').unwrap();
        for wrong in [
            (min - 1).to_string(),
            (max + 1).to_string(),
            "99999999999999999999".into(),
            "1.5".into(),
            "\"1\"".into(),
            "true".into(),
            "1x".into(),
            "{ a = 1 }".into(),
        ] {
            let value = if key == "workers.cpus" {
                format!("[{wrong}]")
            } else {
                wrong.clone()
            };
            let line = format!("{name} = {value}");
            let text = match section {
                "workers" | "metrics" => format!("{SAMPLE}\n[{section}]\n{line}\n"),
                "peers" => with("name = \"node2\"", &format!("name = \"node2\"\n{line}")),
                _ => with("vni = 1", &line),
            };
            let error = parse(&text).expect_err(&text);
            let message = error.to_string();
            let number = text.lines().position(|l| l == line).unwrap() + 1;
            assert_eq!(error.line, Some(number), "{message}");
            assert!(message.contains(&format!("{min} to {max}")), "{message}");
            let told = wrong.trim_matches(['"', ' ']);
            assert!(
                message.contains(told) || wrong.starts_with('{'),
                "{message}"
            );
            assert!(
                !message.contains("u16") && !message.contains("i128"),
                "{message}"
            );
        }
    }
}

/// What somebody meant is found out, and the correction is what to write.
#[test]
fn corrections_are_offered_at_the_line() {
    let cidrs = r#"["10.77.1.0/24", "fd77:1::/64"]"#;
    let flag = |value: &str| format!("{SAMPLE}\n[egress]\nmasquerade = {value}\n");
    let cases = [
        (
            with("\"node1\"", "node1"),
            "node1 is not in quotes",
            "write name = \"node1\"",
        ),
        (
            with("\"node1\"", "nan1"),
            "nan1 is not in quotes",
            "write name = \"nan1\"",
        ),
        (
            with("\"node1\"", "\"node1"),
            "\"node1 is not in quotes",
            "write name = \"node1\"",
        ),
        (
            with("\"node1\"", "node1\""),
            "is not in quotes",
            "write name = \"node1\"",
        ),
        (
            with("\"node1\"", "“node1”"),
            "“node1” is not in quotes",
            "write name = \"node1\"",
        ),
        (
            with("\"eth0\"", "eth0"),
            "eth0 is not in quotes",
            "write interface = \"eth0\"",
        ),
        (
            with("\"vxlan\"", "vxlan"),
            "vxlan is not in quotes",
            "write encap = \"vxlan\"",
        ),
        (
            with("vni = 1", "addresses = fd00::1"),
            "fd00::1 is not in quotes",
            "write addresses = [\"fd00::1\"]",
        ),
        (
            with(cidrs, "[10.77.1.0/24, \"fd77:1::/64\"]"),
            "10.77.1.0/24 is not in quotes",
            "write pod_cidrs = [\"10.77.1.0/24\", \"fd77:1::/64\"]",
        ),
        (
            with(cidrs, "[\n10.77.1.0/24,\n]"),
            "10.77.1.0/24 is not in quotes",
            "write \"10.77.1.0/24\"",
        ),
        (
            with(cidrs, "\"10.77.1.0/24\""),
            "has to be a list",
            "write pod_cidrs = [\"10.77.1.0/24\"]",
        ),
        (
            with("vni = 1", "gro = on"),
            "on is not in quotes",
            "write gro = \"on\"",
        ),
        (
            flag("yes"),
            "yes is neither true nor false",
            "write true or false",
        ),
        (
            flag("True"),
            "True is neither true nor false",
            "write true or false",
        ),
        (
            flag("\"true\""),
            "\"true\" is neither true nor false",
            "write true or false",
        ),
        (
            flag("1"),
            "1 is neither true nor false",
            "write true or false",
        ),
        (
            with("vni = 1", "vni: 1"),
            "equals sign is missing",
            "write vni = 1",
        ),
        (
            with("\"node1\"", "\"node1\"\nsocket /a"),
            "equals sign",
            "write socket = \"/a\"",
        ),
        (
            with("[[peers]]", "[peers]"),
            "[peers] is not how",
            "write [[peers]]",
        ),
        (
            with("[[peers]]", "[peers]") + "\n[peers]\nname = \"c\"\n",
            "[peers] is not how",
            "write [[peers]]",
        ),
        (
            with("[[peers]]", "[peers]") + "\n[[peers]]\nname = \"c\"\n",
            "[peers] is not how",
            "write [[peers]]",
        ),
        (
            with("[node]", "[[node]]"),
            "[[node]] is not how",
            "write [node]",
        ),
        (
            with("[underlay]", "[[underlay]]"),
            "[[underlay]] is not how",
            "write [underlay]",
        ),
        (
            with("\"eth0\"", "\"lo\""),
            "lo leads to no other node",
            "underlay.interface",
        ),
    ];
    for (text, wrong, remedy) in cases {
        let error = parse(&text).expect_err(&text);
        let message = error.to_string();
        let (first, second) = message.split_once("\n  to do: ").unwrap();
        assert!(first.contains(wrong), "{wrong:?} is not in {message}");
        assert!(second.contains(remedy), "{remedy:?} is not in {message}");
        // The line that is named is the one to change.
        let line = text.lines().nth(error.line.unwrap() - 1).unwrap();
        let word = wrong.split(' ').next().unwrap();
        let key = remedy.split(' ').nth(1).unwrap_or_default();
        assert!(
            line.contains(word) || line.contains(key) || line.contains("masquerade"),
            "{message}: {line}"
        );
    }
}

/// A sentence says once what is wrong.
#[test]
fn no_message_says_a_thing_twice() {
    let cidrs = r#"["10.77.1.0/24", "fd77:1::/64"]"#;
    let ranges = |range: &str| format!("{SAMPLE}\n[ipam]\nranges = [{range:?}]\n");
    for (text, once) in [
        (with(cidrs, r#"["10.77.1.0"]"#), "is not a network"),
        (with(cidrs, r#"["10.77.1/24"]"#), "is not a network"),
        (with(cidrs, r#"["10.77.1.0/x"]"#), "is not a network"),
        (with(cidrs, r#"["10.77.1.0/33"]"#), "is not a network"),
        (with(cidrs, r#"["10.77.1.5/24"]"#), "10.77.1.5/24"),
        (ranges("10.77.1.x"), "10.77.1.x"),
        (ranges("10.77.1.0/x"), "10.77.1.0/x"),
        (ranges("10.77.1.9-10.77.1.3"), "10.77.1.9-"),
    ] {
        let message = parse(&text).expect_err(&text).to_string();
        let first = message.lines().next().unwrap();
        assert_eq!(first.matches(once).count(), 1, "{message}");
    }
}

#[test]
fn an_absent_file_says_which() {
    let error = Config::load(Path::new("/nonexistent/ringway.toml")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/nonexistent/ringway.toml: cannot be read"),
        "{text}"
    );
    assert!(text.contains("to do: create the file"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ringway.toml");
    std::fs::write(&file, b"name = \"\xe9\"").unwrap();
    let text = Config::load(&file).unwrap_err().to_string();
    assert!(text.contains("to do: save the file as UTF-8"), "{text}");
}

#[test]
fn thousands_of_peers_are_checked_in_a_moment() {
    let mut text = with("10.77.1.0/24", "10.0.0.0/24").replace("10.77.2.0/24", "10.0.1.0/24");
    for i in 2..4000u32 {
        let (a, b) = (i / 256, i % 256);
        text += &format!(
            "[[peers]]\nname = \"p{i}\"\naddresses = [\"172.16.{a}.{b}\"]\npod_cidrs = [\"10.{a}.{b}.0/24\"]\n"
        );
    }
    let started = std::time::Instant::now();
    assert_eq!(parse(&text).unwrap().peers.len(), 3999);
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    // What is somebody's far away in the file is found: a network, and the one that an address lies in.
    let last = |address: &str, cidr: &str| {
        format!(
            "{text}[[peers]]\nname = \"last\"\naddresses = [\"{address}\"]\npod_cidrs = [\"{cidr}\"]\n"
        )
    };
    let same = parse(&last("172.17.0.1", "10.7.7.0/24"))
        .map(drop)
        .unwrap_err();
    assert_eq!(same.key, "peers[3999].pod_cidrs[0]");
    let inside = parse(&last("10.7.7.9", "10.99.0.0/24"))
        .map(drop)
        .unwrap_err();
    assert_eq!(inside.key, "peers[3999].addresses[0]");
    assert!(inside.to_string().contains("10.7.7.0/24"), "{inside}");
    parse(&last("172.17.0.1", "10.7.7.128/26")).unwrap();
}

#[test]
fn networks_that_lie_in_another_nodes_are_named_with_both() {
    let more = |name: &str, ip: &str, cidrs: &str| {
        format!("\n[[peers]]\nname = \"{name}\"\naddresses = [\"{ip}\"]\npod_cidrs = [{cidrs}]\n")
    };
    let text = with(
        "pod_cidrs = [\"10.77.2.0/24\", ",
        "pod_cidrs = [\"10.77.2.0/24\", \"10.77.2.0/26\", ",
    ) + &more(
        "node3",
        "192.168.77.3",
        "\"10.77.2.128/25\", \"10.77.2.200/32\"",
    ) + &more(
        "node4",
        "192.168.77.4",
        "\"10.77.4.0/24\", \"10.77.1.9/32\"",
    );
    let found = nested(&parse(&text).unwrap());
    let said: Vec<String> = found.iter().map(|(key, p)| format!("{key}: {p}")).collect();
    // Its own network in its own is no matter: node2's /26, and node3's /32.
    assert_eq!(
        said,
        [
            "peers[1].pod_cidrs[0]: 10.77.2.128/25, which is node3's, lies in 10.77.2.0/24, which is node2's",
            "peers[2].pod_cidrs[1]: 10.77.1.9/32, which is node4's, lies in 10.77.1.0/24, which is this node's",
        ]
    );
    assert!(
        found[0].1.remedy().contains("borrowed"),
        "{}",
        found[0].1.remedy()
    );
    assert_eq!(nested(&parse(SAMPLE).unwrap()), []);
}
