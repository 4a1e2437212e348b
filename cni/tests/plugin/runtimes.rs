//! What container runtimes really send: names as their Go structs have them, with tags and without.

use serde_json::{Value, json};

use crate::node::{Node, added, call, refused, text};

/// Sends an ADD with this `runtimeConfig`; what the agent was asked for.
fn asked(runtime: &str) -> Value {
    asked_with(runtime, "IgnoreUnknown=1")
}

fn asked_with(runtime: &str, args: &str) -> Value {
    let node = Node::answering(200, &added());
    let conf = with(&node.conf("1.0.0"), "runtimeConfig", runtime);
    let (answer, good) = call("ADD", &conf, &[("CNI_ARGS", args)]);
    assert!(good, "{runtime}: {answer}");
    let (line, body) = node.asked().remove(0);
    assert_eq!(line, "POST /v1/cni/add");
    body
}

/// The configuration with one more key, whose value may have keys twice.
fn with(conf: &Value, key: &str, value: &str) -> Vec<u8> {
    let text = conf.to_string();
    let open = text.strip_suffix('}').unwrap();
    format!("{open},{}:{value}}}", json!(key)).into_bytes()
}

fn port(host: u16, pod: u16, protocol: &str, ip: &str) -> Value {
    json!({"hostPort": host, "containerPort": pod, "protocol": protocol, "hostIP": ip})
}

#[test]
fn containerd_writes_its_keys_with_capitals() {
    // go-cni has no tags on PortMapping, BandWidth and DNS.
    let body = asked(
        r#"{"portMappings":[{"HostPort":18080,"ContainerPort":8080,"Protocol":"tcp","HostIP":""},
            {"HostPort":5353,"ContainerPort":53,"Protocol":"udp","HostIP":"192.0.2.1"}],
        "bandwidth":{"IngressRate":20000000,"IngressBurst":4294967295,"EgressRate":10000000000,"EgressBurst":4294967295},
        "dns":{"Servers":["10.96.0.10"],"Searches":["svc"],"Options":null},
        "cgroupPath":"/kubepods/pod1",
        "io.kubernetes.cri.pod-annotations":{"kubernetes.io/ingress-bandwidth":"20M"}}"#,
    );
    let ports = json!([
        port(18080, 8080, "tcp", ""),
        port(5353, 53, "udp", "192.0.2.1")
    ]);
    assert_eq!(body["portMappings"], ports);
    assert_eq!(
        body["bandwidth"],
        json!({"ingressRate": 20_000_000, "ingressBurst": u32::MAX, "egressRate": 10_000_000_000u64, "egressBurst": u32::MAX})
    );
    assert_eq!(body["ignored"], json!([]));
}

#[test]
fn cri_o_writes_them_small_and_a_burst_of_4_gib() {
    let body = asked_with(
        r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""}],
        "bandwidth":{"egressBurst":34359738359,"egressRate":10000000,"ingressBurst":0,"ingressRate":0},
        "aliases":{"ringway":["web"]},"cgroupPath":"/kubepods.slice/pod1",
        "io.kubernetes.cri.pod-annotations":{}}"#,
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;\
         K8S_POD_UID=u;IP=10.77.1.9;MAC=0a:58:00:00:00:09",
    );
    assert_eq!(body["portMappings"], json!([port(8080, 80, "tcp", "")]));
    assert_eq!(body["bandwidth"]["egressRate"], 10_000_000);
    assert_eq!(body["bandwidth"]["egressBurst"], 34_359_738_359u64);
    assert_eq!(
        (&body["ips"], &body["mac"]),
        (&json!(["10.77.1.9"]), &json!("0a:58:00:00:00:09"))
    );
    assert_eq!(body["ignored"], json!([]));
}

#[test]
fn podman_and_multus_write_as_the_conventions_have_it() {
    let podman = asked_with(
        r#"{"aliases":{"podman":["web","0123456789ab"]},"ips":["10.77.1.7","fd77:1::7"],
        "portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#,
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1",
    );
    assert_eq!(podman["ips"], json!(["10.77.1.7", "fd77:1::7"]));
    assert_eq!(podman["portMappings"], json!([port(8080, 80, "tcp", "")]));
    // Its `IgnoreUnknown` is a word, and what is empty is left out.
    let multus = asked_with(
        r#"{"portMappings":[{"hostPort":8080,"containerPort":80}],
        "bandwidth":{"ingressRate":2048,"ingressBurst":1600,"egressRate":4096,"egressBurst":1600},
        "ips":["10.77.1.8/24"],"mac":"0a:58:00:00:00:08",
        "CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/x.json"}"#,
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u;X=y",
    );
    assert_eq!(multus["ips"], json!(["10.77.1.8/24"]));
    assert_eq!(multus["mac"], "0a:58:00:00:00:08");
    assert_eq!(multus["portMappings"], json!([port(8080, 80, "tcp", "")]));
    assert_eq!(multus["bandwidth"]["egressBurst"], 1600);
    assert_eq!(multus["ignored"], json!([]));
}

#[test]
fn keys_are_matched_as_go_matches_them() {
    // Any case, with the two letters that Unicode folds to ASCII; of two the last counts, and null is nothing.
    let body = asked(
        "{\"PORTMAPPINGS\":[{\"ho\u{17f}tport\":1,\"HOSTPORT\":8080,\"hostPort\":null,\"containerPort\":80}],\
         \"Mac\":\"0a:58:00:00:00:01\",\"mac\":\"0a:58:00:00:00:02\",\"ips\":[\"10.77.1.7\"],\"IPS\":null,\
         \"bandwidth\":{\"ingressRate\":5000},\"Bandwidth\":{\"egressRate\":6000}}",
    );
    assert_eq!(body["portMappings"], json!([port(8080, 80, "tcp", "")]));
    assert_eq!(body["mac"], "0a:58:00:00:00:02");
    assert_eq!(body["ips"], json!([]));
    let bandwidth = &body["bandwidth"];
    assert_eq!(
        (&bandwidth["ingressRate"], &bandwidth["egressRate"]),
        (&json!(5000), &json!(6000))
    );
    for nothing in [
        "null",
        "{}",
        r#"{"portMappings":null,"bandwidth":null,"dns":null,"mac":null}"#,
    ] {
        let body = asked(nothing);
        assert_eq!(body["portMappings"], json!([]), "{nothing}");
        assert_eq!(body["bandwidth"], Value::Null, "{nothing}");
    }
}

#[test]
fn zeros_ask_for_nothing() {
    let body = asked(
        r#"{"bandwidth":{"IngressRate":0,"IngressBurst":0,"EgressRate":8000,"EgressBurst":0},
        "portMappings":[{"HostPort":0,"ContainerPort":80,"Protocol":"","HostIP":""},
            {"HostPort":81,"ContainerPort":80,"Protocol":"","HostIP":""}],
        "dns":{"Servers":null,"Searches":null,"Options":null},"mac":"","ips":[],"deviceID":"","ipRanges":[],
        "io.kubernetes.cri.pod-annotations":{"kubernetes.io/ingress-bandwidth":"20M",
            "kubernetes.io/egress-bandwidth":"30M","ringway.io/mac":"0a:58:00:00:00:03"}}"#,
    );
    assert_eq!(
        body["bandwidth"]["ingressRate"], 20_000_000,
        "the annotation's"
    );
    assert_eq!(body["bandwidth"]["egressRate"], 8000, "the capability's");
    assert_eq!(body["portMappings"], json!([port(81, 80, "tcp", "")]));
    assert_eq!(body["mac"], "0a:58:00:00:00:03");
}

#[test]
fn the_configuration_itself_is_matched_so_too() {
    let node = Node::answering(200, &added());
    let mut conf = node.conf("1.0.0");
    let keys = conf.as_object_mut().unwrap();
    for (from, to) in [
        ("cniVersion", "CNIVersion"),
        ("socket", "SOCKET"),
        ("name", "Name"),
    ] {
        let value = keys.remove(from).unwrap();
        keys.insert(to.into(), value);
    }
    conf["MTU"] = 1400.into();
    conf["DNS"] = json!({"NameServers": ["192.0.2.53"]});
    conf["Args"] = json!({"CNI": {"IPs": ["10.77.1.5"]}});
    conf["PrevResult"] = json!({
        "CNIVersion": "1.0.0", "Interfaces": [{"Name": "br0", "MAC": "x"}],
        "IPs": [{"Address": "192.0.2.2/24", "Interface": 0}], "Routes": [{"DST": "192.0.2.0/24"}],
        "DNS": {"NameServers": ["192.0.2.54"]},
    });
    let (result, good) = call("ADD", &text(&conf), &[]);
    assert!(good, "{result}");
    assert_eq!(result["interfaces"][0]["name"], "br0");
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    assert_eq!(
        result["ips"][0],
        json!({"address": "192.0.2.2/24", "interface": 0})
    );
    assert_eq!(result["ips"][1]["interface"], 1);
    assert_eq!(result["routes"][0]["dst"], "192.0.2.0/24");
    assert_eq!(result["dns"], json!({"nameservers": ["192.0.2.53"]}));
    let body = &node.asked()[0].1;
    assert_eq!(body["mtu"], 1400);
    assert_eq!(
        (&body["network"], &body["ips"]),
        (&json!("ringway"), &json!(["10.77.1.5"]))
    );

    let node = Node::answering(200, &json!({"released": []}));
    let gc = with(
        &node.conf("1.1.0"),
        "CNI.dev/Valid-Attachments",
        r#"[{"ContainerID":"a","IfName":"eth0"}]"#,
    );
    assert_eq!(call("GC", &gc, &[]), (Value::Null, true));
    assert_eq!(
        node.asked()[0].1["keep"],
        json!([{"containerId": "a", "ifname": "eth0"}])
    );
}

#[test]
fn what_is_not_known_is_named_to_the_agent() {
    let node = Node::answering(200, &added());
    let mut conf = node.conf("1.0.0");
    conf["mtuu"] = 1400.into();
    conf["capabilities"] = json!({"mac": true});
    conf["runtimeConfig"] = json!({"portMapings": [], "portMappings": [
        {"hostPort": 80, "containerPort": 80, "hostIPs": ["192.0.2.1"]},
        {"hostPort": 81, "containerPort": 80, "hostIPs": ["192.0.2.1"]},
    ]});
    assert!(call("ADD", &text(&conf), &[]).1);
    let ignored = &node.asked()[0].1["ignored"];
    let expected = [
        "mtuu",
        "runtimeConfig.portMapings",
        "runtimeConfig.portMappings[].hostIPs",
    ];
    assert_eq!(*ignored, json!(expected));
}

#[test]
fn what_cannot_be_honoured_is_refused_with_key_and_value() {
    let node = Node::answering(200, &added());
    for (runtime, words) in [
        (
            r#"{"portMappings":[{"HostPort":70000,"ContainerPort":80}]}"#,
            "runtimeConfig.portMappings[0].hostPort: 70000",
        ),
        (
            r#"{"portMappings":[{"HostPort":-1,"ContainerPort":80}]}"#,
            "hostPort: -1",
        ),
        (
            r#"{"portMappings":[{"HostPort":80.5,"ContainerPort":80}]}"#,
            "hostPort: 80.5",
        ),
        (
            r#"{"portMappings":[{"HostPort":"80","ContainerPort":80}]}"#,
            "hostPort: \\\"80\\\"",
        ),
        (
            r#"{"portMappings":[{"HostPort":80,"ContainerPort":80,"HostIP":7}]}"#,
            "hostIP: 7",
        ),
        (
            r#"{"portMappings":{"HostPort":80}}"#,
            "runtimeConfig.portMappings: {",
        ),
        (
            r#"{"bandwidth":{"IngressRate":-5}}"#,
            "runtimeConfig.bandwidth.ingressRate: -5",
        ),
        (
            r#"{"bandwidth":{"IngressRate":18446744073709551616}}"#,
            "ingressRate: 1.8446744073709552e+19",
        ),
        (
            r#"{"bandwidth":"10M"}"#,
            "runtimeConfig.bandwidth: \\\"10M\\\"",
        ),
        (r#"{"mac":"x"}"#, "runtimeConfig.mac: \\\"x\\\""),
        (r#"{"mac":7}"#, "runtimeConfig.mac: 7"),
        (
            r#"{"ips":["10.77.1.300"]}"#,
            "runtimeConfig.ips: \\\"10.77.1.300\\\"",
        ),
        (
            r#"{"dns":"10.96.0.10"}"#,
            "runtimeConfig.dns: \\\"10.96.0.10\\\"",
        ),
        (
            r#"{"dns":{"Servers":"10.96.0.10"}}"#,
            "runtimeConfig.dns.servers: \\\"10.96.0.10\\\"",
        ),
        (
            r#"{"deviceID":"0000:03:02.0"}"#,
            "runtimeConfig.deviceID: \\\"0000:03:02.0\\\"",
        ),
        (
            r#"{"infinibandGUID":"c2:11"}"#,
            "runtimeConfig.infinibandGUID: \\\"c2:11\\\"",
        ),
        (
            r#"{"ipRanges":[[{"subnet":"10.9.0.0/16"}]]}"#,
            "runtimeConfig.ipRanges: [[{",
        ),
        (
            r#"{"io.kubernetes.cri.pod-annotations":{"a":1}}"#,
            "runtimeConfig.io.kubernetes.cri.pod-annotations.a: 1",
        ),
        (r#"[]"#, "runtimeConfig: []"),
    ] {
        let answer = call(
            "ADD",
            &with(&node.conf("1.0.0"), "runtimeConfig", runtime),
            &[],
        );
        let code = answer.0["code"].as_u64().unwrap();
        refused(answer, code, words);
        assert!(matches!(code, 2 | 6), "{runtime}: {code}");
    }
    assert_eq!(node.asked(), [], "nothing reaches the agent");
}
