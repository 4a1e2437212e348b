//! The program itself, as a runtime starts it, with a small agent of the test's behind the socket.

mod node;
mod runtimes;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use node::{Node, added, call, refused, text};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn what_the_runtime_asks_for_reaches_the_agent() {
    let node = Node::answering(200, &added());
    let mut conf = node.conf("1.0.0");
    conf["mtu"] = 1400.into();
    conf["args"] = json!({"cni": {"ips": ["10.77.1.7"]}});
    conf["runtimeConfig"] = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 0, "containerPort": 81}],
        "dns": {"servers": ["10.96.0.10"]},
        "io.kubernetes.cri.pod-annotations": {
            "ringway.io/ips": "10.77.1.8", "ringway.io/mac": "0a:58:00:00:00:08",
            "kubernetes.io/egress-bandwidth": "10M",
        },
    });
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;IP=10.77.1.9;X=y";
    let (result, good) = call("ADD", &text(&conf), &[("CNI_ARGS", args)]);
    assert!(good, "{result}");
    assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]));
    assert_eq!(result["interfaces"][0]["sandbox"], "/run/netns/a");
    let (line, body) = node.asked().remove(0);
    assert_eq!(line, "POST /v1/cni/add");
    assert_eq!(body["containerId"], "c1");
    assert_eq!(
        body["ips"],
        json!(["10.77.1.8"]),
        "the annotation goes before args.cni"
    );
    assert_eq!(body["mac"], "0a:58:00:00:00:08");
    assert_eq!(body["bandwidth"]["egressRate"], 10_000_000);
    assert_eq!(body["mtu"], 1400);
    assert_eq!(body["pod"]["name"], "web");
    let ports = body["portMappings"].as_array().unwrap();
    assert_eq!((ports.len(), &ports[0]["protocol"]), (1, &json!("tcp")));
    conf["runtimeConfig"]["ips"] = json!(["10.77.1.6"]);
    call("ADD", &text(&conf), &[]);
    assert_eq!(
        node.asked()[1].1["ips"],
        json!(["10.77.1.6"]),
        "the capability goes before all"
    );
}

#[test]
fn an_agent_that_is_not_there_or_makes_no_sense() {
    let garbled = [
        String::new(),
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]".into(),
        "\0\0".into(),
        " ".into(),
    ];
    for answer in garbled {
        let node = Node::new(&answer);
        let conf = text(&node.conf("1.1.0"));
        refused(call("ADD", &conf, &[]), 11, "agent");
        refused(call("STATUS", &conf, &[]), 50, "agent");
        let gc = {
            let mut conf = node.conf("1.1.0");
            conf["cni.dev/valid-attachments"] = json!([]);
            text(&conf)
        };
        refused(call("GC", &gc, &[]), 11, "agent");
        for _ in 0..2 {
            assert_eq!(
                call("DEL", &conf, &[("CNI_NETNS", "")]),
                (Value::Null, true),
                "{answer:?}"
            );
        }
        assert_eq!(node.pending(), ["c1@eth0"]);
    }
}

#[test]
fn refusals_of_the_agent_are_passed_on_with_a_code() {
    let with = |status: u16, body: &Value| {
        let node = Node::answering(status, body);
        let conf = text(&node.conf("1.0.0"));
        (call("ADD", &conf, &[]), node)
    };
    let (answer, _node) = with(
        409,
        &json!({"error": "taken", "remedy": "another", "code": 101}),
    );
    refused(answer, 101, "taken");
    for (status, code) in [(400, 7), (404, 3), (409, 101), (503, 11), (507, 102)] {
        let (answer, _node) = with(status, &json!({"error": "no", "remedy": "do"}));
        refused(answer, code, "no");
        let (answer, _node) = with(status, &json!([""]));
        refused(answer, code, "HTTP");
    }
    // A DEL that is refused must be repeated.
    let node = Node::answering(
        500,
        &json!({"error": "disk", "remedy": "room", "code": 102}),
    );
    refused(call("DEL", &text(&node.conf("1.0.0")), &[]), 102, "disk");
    assert_eq!(node.pending(), [""; 0]);
}

#[test]
fn a_del_is_accepted_whatever_version_its_configuration_names() {
    let id = "a".repeat(255);
    for answer in ["agent", "none"] {
        for version in [
            json!("0.1.0"),
            json!("0.2.0"),
            json!("0.3.0"),
            json!("9.9.9"),
            json!("x"),
            json!(7),
            Value::Null,
        ] {
            let node = match answer {
                "agent" => Node::answering(200, &json!({})),
                _ => Node::new(""),
            };
            let mut conf = node.conf("1.0.0");
            conf["cniVersion"] = version.clone();
            let all = [("CNI_CONTAINERID", id.as_str())];
            // A second one, for an id that begins as the first does.
            let other = format!("{}b", &id[1..]);
            for more in [
                &all[..],
                &[("CNI_CONTAINERID", other.as_str())],
                &all[..],
                &[],
            ] {
                let done = call("DEL", &text(&conf), more);
                assert_eq!(done, (Value::Null, true), "{answer} {version}");
            }
            match answer {
                "agent" => assert_eq!(node.asked().len(), 4),
                _ => assert_eq!(node.pending().len(), 3, "{:?}", node.pending()),
            }
            refused(
                call("ADD", &text(&conf), &[]),
                if version == 7 { 6 } else { 1 },
                "",
            );
        }
    }
    let node = Node::answering(200, &json!({}));
    let mut conf = node.conf("1.0.0");
    conf.as_object_mut().unwrap().remove("cniVersion");
    assert_eq!(call("DEL", &text(&conf), &[]), (Value::Null, true));
    assert_eq!(node.asked().len(), 1);
}

#[test]
fn a_gc_of_fifty_thousand_containers_reaches_the_agent() {
    let node = Node::answering(200, &json!({"released": []}));
    let all: Vec<Value> = (0..50_000)
        .map(|i| json!({"containerID": format!("{i:064x}"), "ifname": "eth0"}))
        .collect();
    let mut conf = node.conf("1.1.0");
    // libcni says it twice, by its new name and its old one.
    conf["cni.dev/valid-attachments"] = json!(all);
    conf["cni.dev/attachments"] = json!(all);
    assert_eq!(call("GC", &text(&conf), &[]), (Value::Null, true));
    assert_eq!(node.asked()[0].1["keep"].as_array().unwrap().len(), 50_000);
}

#[test]
fn a_del_works_with_a_configuration_that_is_wrong_elsewhere() {
    let node = Node::answering(200, &json!({}));
    let mut conf = node.conf("0.3.1");
    conf["mtu"] = "big".into();
    conf["runtimeConfig"] = json!({"portMappings": "x"});
    assert_eq!(call("DEL", &text(&conf), &[]), (Value::Null, true));
    refused(call("ADD", &text(&conf), &[]), 6, "not understood");
    assert_eq!(node.asked().len(), 1);
}

#[test]
fn environment_and_versions_are_checked_before_anything_is_asked() {
    let node = Node::answering(200, &added());
    let conf = |version: &str| text(&node.conf(version));
    refused(
        call("ADD", &conf("1.0.0"), &[("CNI_NETNS", "")]),
        4,
        "CNI_NETNS",
    );
    refused(
        call("ADD", &conf("1.0.0"), &[("CNI_CONTAINERID", "../x")]),
        4,
        "CNI_CONTAINERID",
    );
    refused(
        call("ADD", &conf("1.0.0"), &[("CNI_IFNAME", "a/b")]),
        4,
        "CNI_IFNAME",
    );
    refused(call("FOO", &conf("1.0.0"), &[]), 4, "FOO");
    refused(call("ADD", &conf("0.2.0"), &[]), 1, "0.3.1");
    refused(call("CHECK", &conf("0.3.1"), &[]), 1, "0.4.0");
    refused(call("CHECK", &conf("0.4.0"), &[]), 7, "prevResult");
    refused(
        call("ADD", &conf("1.0.0"), &[("CNI_ARGS", "FOO=1")]),
        7,
        "FOO",
    );
    refused(call("ADD", b"", &[]), 6, "not understood");
    let mut bad = node.conf("1.0.0");
    bad["runtimeConfig"] =
        json!({"io.kubernetes.cri.pod-annotations": {"kubernetes.io/ingress-bandwidth": "fast"}});
    refused(call("ADD", &text(&bad), &[]), 2, "ingress-bandwidth");
    let (versions, good) = call("VERSION", b"", &[]);
    assert!(good);
    assert_eq!(
        versions["supportedVersions"],
        json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
    assert_eq!(node.asked(), []);
}

/// An IPAM plugin in a folder: a script that notes how it was called.
fn ipam(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("fake-ipam");
    let log = folder.join("calls");
    let text = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {}\ncat >/dev/null\n{script}\n",
        log.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    log
}

#[test]
fn another_ipam_plugin_gives_the_addresses() {
    let gives = r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.77.1.50/24","gateway":"10.77.1.1"}],"routes":[{"dst":"10.96.0.0/12"}]}' || true"#;
    let fails = r#"echo '{"code":42,"msg":"none left"}'; exit 1"#;
    let crashes = "echo panic; exit 3";
    let path = |node: &Node| format!("/nowhere:{}:/bin:/usr/bin", node.dir.path().display());
    let conf = |node: &Node| {
        let mut conf = node.conf("1.0.0");
        conf["ipam"] = json!({"type": "fake-ipam"});
        text(&conf)
    };
    let run = |node: &Node, verb: &str| {
        let path = path(node);
        call(
            verb,
            &conf(node),
            &[("CNI_PATH", &path), ("PATH", "/bin:/usr/bin")],
        )
    };
    let calls = |log: &Path| std::fs::read_to_string(log).unwrap().replace('\n', " ");

    let node = Node::answering(200, &added());
    let log = ipam(node.dir.path(), gives);
    assert!(run(&node, "ADD").1);
    let body = &node.asked()[0].1;
    assert_eq!(body["delegated"][0]["address"], "10.77.1.50/24");
    assert_eq!(body["routes"][0]["dst"], "10.96.0.0/12");
    assert!(run(&node, "DEL").1);
    assert_eq!(calls(&log), "ADD DEL ");

    // What the agent refuses is given back.
    let node = Node::answering(409, &json!({"error": "taken", "remedy": "x"}));
    let log = ipam(node.dir.path(), gives);
    refused(run(&node, "ADD"), 101, "taken");
    assert_eq!(calls(&log), "ADD DEL ");

    for (script, code, words) in [(fails, 42, "none left"), (crashes, 102, "panic")] {
        let node = Node::answering(200, &added());
        let log = ipam(node.dir.path(), script);
        refused(run(&node, "ADD"), code, words);
        assert_eq!(calls(&log), "ADD DEL ");
        assert_eq!(node.asked(), [], "the agent is not asked");
    }
    let node = Node::answering(200, &added());
    refused(run(&node, "ADD"), 4, "fake-ipam");
}

#[test]
fn it_starts_in_a_few_milliseconds() {
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let begin = Instant::now();
            assert!(call("VERSION", b"", &[]).1);
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("start to end: median {:?}", times[10]);
    // The bound is for a debug build on a busy machine.
    assert!(times[10] < Duration::from_millis(50), "{:?}", times[10]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the configuration, the answer is JSON with a code, and nothing panics.
    #[test]
    fn no_configuration_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), verb in 0usize..6, key in "[a-zA-Z]{1,12}") {
        let verbs = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let mut conf = json!({"cniVersion": "1.1.0", "socket": socket, "pendingDir": dir.path().join("pending")});
        conf[key] = String::from_utf8_lossy(&bytes).into_owned().into();
        for stdin in [bytes.clone(), text(&conf)] {
            // Without the keys of the second one a DEL would write where the defaults say.
            if verbs[verb] == "DEL" && stdin == bytes {
                continue;
            }
            let (answer, good) = call(verbs[verb], &stdin, &[]);
            prop_assert!(good || answer["code"].as_u64().is_some_and(|code| code > 0), "{}", answer);
        }
    }
}

/// stdout of a full disk, and of a pipe that nobody reads any more.
fn broken_outputs() -> [(&'static str, Stdio); 2] {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    [("full", full.unwrap().into()), ("no reader", writer.into())]
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_no_panic() {
    for command in ["VERSION", "ADD", ""] {
        for (what, stdout) in broken_outputs() {
            let mut plugin = Command::new(env!("CARGO_BIN_EXE_ringway-cni"));
            plugin.arg("--help").env("CNI_COMMAND", command);
            let output = plugin
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(Stdio::piped())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {what}: {said}");
            assert!(
                said.contains("cannot be written"),
                "{command} {what}: {said}"
            );
            assert!(!said.contains("panicked"), "{command} {what}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_said_on_stderr_decides_nothing() {
    for (command, code) in [("VERSION", 0), ("", 1)] {
        for (what, stderr) in broken_outputs() {
            let mut plugin = Command::new(env!("CARGO_BIN_EXE_ringway-cni"));
            plugin.env("CNI_COMMAND", command).stdin(Stdio::null());
            let output = plugin
                .stderr(stderr)
                .stdout(Stdio::piped())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{command} {what}");
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(answer["cniVersion"].is_string(), "{answer}");
        }
    }
}
