//! The manifests under deploy/: what they must say so that an agent can live in the pod, and no more than that.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{output, ringway, stderr};
use serde_json::{Value, json};

/// kubectl has kustomize built in.
const KUSTOMIZE: [&str; 2] = ["kubectl", "kustomize"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{e}"));
    all.into_iter().filter(|one| !one.is_null()).collect()
}

fn shipped() -> Vec<Value> {
    documents(&read("ringway.yaml"))
}

#[track_caller]
fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = all
        .iter()
        .filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two {kind} {name}");
    first
}

fn daemonset(all: &[Value]) -> &Value {
    &find(all, "DaemonSet", "ringway")["spec"]
}

fn agent(spec: &Value) -> &Value {
    let containers = spec["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

/// Every container, those that run before the agent included.
fn containers(spec: &Value) -> Vec<&Value> {
    let pod = &spec["template"]["spec"];
    let lists = ["initContainers", "containers"].into_iter();
    lists
        .flat_map(|list| pod[list].as_array().unwrap())
        .collect()
}

fn strings(value: &Value) -> Vec<&str> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|one| one.as_str().unwrap()).collect()
}

#[test]
fn one_file_is_the_parts() {
    let kustomization = documents(&read("base/kustomization.yaml"));
    let mut parts = String::new();
    for part in strings(&kustomization[0]["resources"]) {
        parts.push_str(&format!("---\n{}", read(&format!("base/{part}"))));
    }
    let whole = read("ringway.yaml");
    let (head, rest) = whole.split_at(whole.find("---\n").unwrap());
    assert!(head.lines().all(|line| line.starts_with("# ")), "{head}");
    assert_eq!(rest, parts, "run scripts/manifests.sh");
}

#[test]
fn the_pod_runs_on_every_node_and_is_never_two() {
    let all = shipped();
    let namespace = &find(&all, "Namespace", "ringway")["metadata"]["labels"];
    assert_eq!(
        namespace["pod-security.kubernetes.io/enforce"],
        "privileged"
    );
    let spec = daemonset(&all);
    let strategy =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    assert_eq!(spec["updateStrategy"], strategy);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["hostPID"], Value::Null);
    assert_eq!(pod["serviceAccountName"], "ringway");
    assert_eq!(
        spec["selector"]["matchLabels"],
        spec["template"]["metadata"]["labels"]
    );
    for container in containers(spec) {
        assert_eq!(
            container["ports"],
            Value::Null,
            "a port is a host port here"
        );
        assert_eq!(container["resources"]["limits"], Value::Null);
    }
    let requests = &agent(spec)["resources"]["requests"];
    assert!(requests["cpu"].is_string() && requests["memory"].is_string());
}

#[test]
fn the_image_is_this_version_and_comes_from_nowhere() {
    let name = format!("localhost/ringway:{}", env!("CARGO_PKG_VERSION"));
    let mut images: Vec<String> = Vec::new();
    for all in [shipped(), documents(&read("uninstall.yaml"))] {
        for one in &all {
            let pod = match one["kind"].as_str().unwrap() {
                "DaemonSet" => &one["spec"]["template"]["spec"],
                "Pod" => &one["spec"],
                _ => continue,
            };
            for list in ["initContainers", "containers"] {
                let all = pod[list].as_array().into_iter().flatten();
                images.extend(all.map(|c| c["image"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert_eq!(images, [&*name, &*name, &*name]);
}

/// The least there is, and SECURITY.md says of each what for.
#[test]
fn privileges_are_the_documented_ones() {
    let all = shipped();
    let spec = daemonset(&all);
    let pod = &spec["template"]["spec"]["securityContext"];
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
    let documented = std::fs::read_to_string(folder().join("../SECURITY.md")).unwrap();
    let granted = |container: &Value| {
        let context = &container["securityContext"];
        assert_eq!(context["privileged"], Value::Null);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        let add = strings(&context["capabilities"]["add"]);
        for capability in &add {
            let row = format!("| `CAP_{capability}` |");
            assert!(documented.contains(&row), "{row} is not in SECURITY.md");
        }
        add.join(" ")
    };
    assert_eq!(granted(agent(spec)), "IPC_LOCK NET_ADMIN NET_RAW SYS_ADMIN");
    let install = containers(spec)[0];
    assert_eq!(granted(install), "DAC_OVERRIDE");
}

/// Which folder of the node is where in a container, and how it is mounted.
fn mounts(spec: &Value, container: &Value) -> BTreeMap<String, (String, Value)> {
    let volumes = spec["volumes"].as_array().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    mounts
        .map(|mount| {
            let volume = volumes.iter().find(|v| v["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume {}", mount["name"]));
            let path = volume["hostPath"]["path"].as_str().unwrap_or("");
            let at = mount["mountPath"].as_str().unwrap().to_owned();
            (at, (path.to_owned(), mount["mountPropagation"].clone()))
        })
        .collect()
}

/// Agent, plugin and runtime name the same files: each has the path in the container that it has on the node.
#[test]
fn what_agent_and_plugin_share_is_mounted_where_it_is_on_the_node() {
    let all = shipped();
    let pod = &daemonset(&all)["template"]["spec"];
    let (install, agent) = (&pod["initContainers"][0], &pod["containers"][0]);
    let same = |at: &BTreeMap<String, (String, Value)>, paths: &[&str]| {
        for path in paths {
            assert_eq!(at[*path].0, *path);
        }
    };
    let of_agent = mounts(pod, agent);
    let shared = ["/var/lib/ringway", "/run/ringway", "/run/netns"];
    same(&of_agent, &shared);
    same(&of_agent, &["/dev/net/tun", "/run/xtables.lock"]);
    assert_eq!(of_agent["/run/netns"].1, "HostToContainer");
    let of_install = mounts(pod, install);
    same(&of_install, &["/var/lib/ringway", "/opt/cni/bin"]);
    let runtimes = ["/opt/cni/bin", "/etc/cni/net.d", "/var/lib/cni/networks"];
    same(&of_agent, &runtimes);

    // What the configuration leaves at its default lies in them.
    let config = ringway_config::Config::parse(
        Path::new("ringway.toml"),
        "[node]\npod_cidrs = [\"10.77.1.0/24\"]\n[underlay]\n",
    );
    let config = config.unwrap();
    let (node, cni) = (config.node, config.cni);
    let folders = [cni.bin_dir, cni.conf_dir, cni.books];
    assert_eq!(folders, runtimes.map(std::path::PathBuf::from));
    assert_eq!(node.state_dir, Path::new(shared[0]));
    assert_eq!(node.socket.parent(), Some(Path::new(shared[1])));

    let file = find(&all, "ConfigMap", "ringway");
    let text = file["data"]["ringway.toml"].as_str().unwrap();
    let file: toml::Value = toml::from_str(text).unwrap();
    // Only who forwards may have runtimes call the plugin.
    assert_eq!(file["cni"]["install"].as_bool(), Some(true));
    assert!(strings(&install["command"]).contains(&"--plugin-only"));
    let root = file["node"]["sysctl_root"].as_str().unwrap();
    assert_eq!(of_agent[root].0, "/proc/sys/net");
    assert_eq!(of_agent["/etc/ringway"].0, "", "the ConfigMap");
    assert_eq!(
        Path::new("/etc/ringway/ringway.toml"),
        Path::new(ringway_config::DEFAULT_FILE)
    );
}

/// The policy looks at our ServiceAccount, and there is a binding that denies.
#[test]
fn the_admission_policy_is_in_force_for_our_account_alone() {
    let all = shipped();
    let policy = &find(&all, "ValidatingAdmissionPolicy", "ringway-own-node")["spec"];
    assert_eq!(policy["failurePolicy"], "Fail");
    let rules = policy["matchConstraints"]["resourceRules"]
        .as_array()
        .unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["operations"], json!(["UPDATE"]));
    assert_eq!(rules[0]["resources"], json!(["nodes", "nodes/status"]));
    let conditions = policy["matchConditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1);
    let account = find(&all, "ServiceAccount", "ringway");
    let user = format!(
        "request.userInfo.username == \"system:serviceaccount:{}:{}\"",
        account["metadata"]["namespace"].as_str().unwrap(),
        account["metadata"]["name"].as_str().unwrap()
    );
    assert_eq!(conditions[0]["expression"], user);
    let binding = &find(&all, "ValidatingAdmissionPolicyBinding", "ringway-own-node")["spec"];
    assert_eq!(binding["policyName"], "ringway-own-node");
    assert_eq!(binding["validationActions"], json!(["Deny"]));
    // Every variable is used, and every one that is used is there.
    let text = policy.to_string();
    for variable in policy["variables"].as_array().unwrap() {
        let name = format!("variables.{}", variable["name"].as_str().unwrap());
        assert!(text.contains(&name), "{name} is not used");
    }
}

/// Each account that is granted something is ours, each role that is bound is there.
#[test]
fn roles_are_bound_to_our_account() {
    let mut all = shipped();
    all.extend(documents(&read("beside-flannel/flannel-config.yaml")));
    let mut bound = Vec::new();
    for one in &all {
        let (of, kind) = match one["kind"].as_str().unwrap() {
            "ClusterRoleBinding" => (one, "ClusterRole"),
            "RoleBinding" => (one, "Role"),
            _ => continue,
        };
        let subject =
            json!([{"kind": "ServiceAccount", "name": "ringway", "namespace": "ringway"}]);
        assert_eq!(of["subjects"], subject);
        assert_eq!(of["roleRef"]["kind"], kind);
        // Where the binding is, and nowhere else.
        let there: Vec<Value> = all
            .iter()
            .filter(|one| one["metadata"]["namespace"] == of["metadata"]["namespace"])
            .cloned()
            .collect();
        let role = find(&there, kind, of["roleRef"]["name"].as_str().unwrap()).clone();
        bound.push(role["metadata"].clone());
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
        }
    }
    let roles = all.iter().filter(|one| {
        let kind = one["kind"].as_str().unwrap();
        kind == "Role" || kind == "ClusterRole"
    });
    assert_eq!(bound.len(), roles.count());
    let cluster = find(&all, "ClusterRole", "ringway")["rules"].to_string();
    assert!(!cluster.contains("configmaps"), "of one namespace, by name");
}

/// `kubectl kustomize`, or `None` where there is no kubectl.
fn render(overlay: &str) -> Option<Vec<Value>> {
    let run = Command::new(KUSTOMIZE[0])
        .args(&KUSTOMIZE[1..])
        .arg(folder().join(overlay))
        .output();
    let run = match run {
        Ok(run) => run,
        Err(_) => {
            println!("SKIPPED: no kubectl to render deploy/{overlay}");
            return None;
        }
    };
    assert!(run.status.success(), "{overlay}: {}", stderr(&run));
    Some(documents(&String::from_utf8(run.stdout).unwrap()))
}

fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by_key(|one| format!("{}{}", one["kind"], one["metadata"]));
    all
}

#[test]
fn alone_is_the_one_file() {
    if let Some(all) = render("alone") {
        assert_eq!(sorted(all), sorted(shipped()));
    }
}

#[test]
fn beside_flannel_each_node_has_one_of_the_two() {
    let patch =
        &documents(&read("beside-flannel/kube-flannel-ds.yaml"))[0]["spec"]["template"]["spec"];
    let terms = &patch["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    // Terms are alternatives, expressions are not.
    assert_eq!(terms.as_array().unwrap().len(), 1);
    let off = json!({"key": "ringway.io/node", "operator": "NotIn", "values": ["true"]});
    let expressions = terms[0]["matchExpressions"].as_array().unwrap();
    assert!(expressions.contains(&off), "{expressions:?}");

    let Some(all) = render("beside-flannel") else {
        return;
    };
    let spec = daemonset(&all);
    let selector = &spec["template"]["spec"]["nodeSelector"];
    assert_eq!(selector["ringway.io/node"], "true");
    let roles = all.iter().filter(|one| one["kind"] == "Role");
    let places: Vec<&str> = roles
        .map(|role| {
            assert_eq!(
                role["rules"][0]["resourceNames"],
                json!(["kube-flannel-cfg"])
            );
            role["metadata"]["namespace"].as_str().unwrap()
        })
        .collect();
    assert_eq!(places, ["kube-flannel", "kube-system"]);
    assert_eq!(all.len(), shipped().len() + 2);
}

#[test]
fn components_change_what_they_are_for_and_nothing_else() {
    let before = shipped();
    let ours = agent(daemonset(&before));
    for (overlay, capabilities, privileged, host_pid) in [
        ("privileged", Value::Null, json!(true), Value::Null),
        (
            "hostpid",
            json!([
                "IPC_LOCK",
                "NET_ADMIN",
                "NET_RAW",
                "SYS_ADMIN",
                "SYS_PTRACE"
            ]),
            Value::Null,
            json!(true),
        ),
    ] {
        let Some(all) = render(overlay) else { return };
        let spec = daemonset(&all);
        let mut agent = agent(spec).clone();
        let context = agent["securityContext"].take();
        assert_eq!(context["privileged"], privileged, "{overlay}");
        assert_eq!(context["capabilities"]["add"], capabilities, "{overlay}");
        assert_eq!(spec["template"]["spec"]["hostPID"], host_pid, "{overlay}");
        let mut plain = ours.clone();
        plain["securityContext"].take();
        assert_eq!(agent, plain, "{overlay}");
    }
}

/// Certificates come where the configuration's example looks, and a node without goes on.
#[test]
fn the_component_agents_mounts_what_the_configuration_names() {
    let Some(all) = render_with_component("agents") else {
        return;
    };
    let spec = daemonset(&all);
    let mut agent = agent(spec).clone();
    let mounts = agent["volumeMounts"].as_array_mut().unwrap();
    let own = mounts
        .iter()
        .position(|one| one["name"] == "agents")
        .unwrap();
    let mount = mounts.remove(own);
    assert_eq!(agent, *self::agent(daemonset(&shipped())));
    let place = mount["mountPath"].as_str().unwrap();
    let config = read("base/config.yaml");
    for file in ["{node}.crt", "{node}.key", "ca.crt"] {
        assert!(
            config.contains(&format!("_file = \"{place}/{file}\"")),
            "{file}"
        );
    }
    let volumes = spec["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|one| one["name"] == "agents").unwrap();
    assert_eq!(volume["secret"]["secretName"], "ringway-agents");
    assert_eq!(volume["secret"]["optional"], true);
}

/// `deploy/alone` with that component, or `None` where there is no kubectl.
fn render_with_component(name: &str) -> Option<Vec<Value>> {
    let folder = tempfile::tempdir().unwrap();
    let deploy = self::folder().canonicalize().unwrap();
    std::os::unix::fs::symlink(deploy, folder.path().join("deploy")).unwrap();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [deploy/alone]\n\
         components: [deploy/components/{name}]\n"
    );
    std::fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
    render(folder.path().to_str().unwrap())
}

/// What the source says that it asks of the API server, as `verb resource`.
fn asked() -> BTreeSet<String> {
    let source = include_str!("../../cluster/kubernetes/src/lib.rs");
    let rows = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "));
    // Below the head of the table and its line.
    let rows = rows.skip_while(|row| !row.starts_with("Verb")).skip(1);
    rows.flat_map(|row| {
        let mut cells = row.split(" | ");
        let verbs = cells.next().unwrap().split(", ");
        let resource = cells.next().unwrap().split(' ').next().unwrap();
        verbs.map(move |verb| format!("{verb} {resource}"))
    })
    .collect()
}

/// The audit of a real server says the same, where there is one (`cluster/kubernetes/tests/source/real.rs`).
#[test]
fn roles_grant_what_the_source_asks_and_no_more() {
    let mut all = shipped();
    all.extend(documents(&read("beside-flannel/flannel-config.yaml")));
    let rules = all
        .iter()
        .flat_map(|one| one["rules"].as_array().into_iter().flatten());
    let granted: BTreeSet<String> = rules
        .flat_map(|rule| {
            let resources = strings(&rule["resources"]).into_iter();
            let verbs = |resource| {
                let verbs = strings(&rule["verbs"]).into_iter();
                verbs.map(move |verb| format!("{verb} {resource}"))
            };
            resources.flat_map(verbs).collect::<Vec<_>>()
        })
        .collect();
    assert!(granted.len() > 5, "{granted:?}");
    assert_eq!(granted, asked());
}

/// What the ConfigMap says is a configuration, and leaves the cluster to Kubernetes.
#[test]
fn the_configuration_is_complete() {
    let all = shipped();
    let file = find(&all, "ConfigMap", "ringway");
    let text = file["data"]["ringway.toml"].as_str().unwrap();
    let config = ringway_config::Config::parse(Path::new("ringway.toml"), text);
    let config = config.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.decider(), ringway_config::Decider::Kubernetes);
    assert_eq!(config.underlay.interface, ringway_config::AUTO);
}

/// Every command of a container is one of this program's.
#[test]
fn containers_run_verbs_that_there_are() {
    let all = shipped();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    for container in containers(daemonset(&all)) {
        commands.push(strings(&container["command"]));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            commands.push(strings(&container[probe]["exec"]["command"]));
        }
    }
    commands.retain(|command| !command.is_empty());
    assert_eq!(commands.len(), 5);
    for command in commands {
        assert_eq!(command[0], "/usr/local/bin/ringway");
        let mut words = command[1..].to_vec();
        words.push("--help");
        let run = ringway(&words).output().unwrap();
        assert!(run.status.success(), "{command:?}: {}", stderr(&run));
    }
    assert!(output(&["agent", "--help"]).contains("--wait"));
}
