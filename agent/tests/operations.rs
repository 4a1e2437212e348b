//! docs/operations.md: what it tells people to type is there to be typed.
//!
//! Commands that need a cluster are not run here. What can be said without one is: verbs, files, targets and
//! labels that they name exist, and kustomizations render to what the text promises.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ringway, stderr};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/operations.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Blocks of code in one language.
fn blocks(language: &str) -> Vec<String> {
    let parts = PAGE.split("```").skip(1).step_by(2);
    let of_language = parts.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    of_language.map(str::to_owned).collect()
}

/// Lines of the shell blocks.
fn commands() -> Vec<String> {
    let lines = blocks("sh").concat();
    let lines = lines.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn verbs_files_and_targets_are_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let (mut verbs, mut files) = (0, 0);
    for line in commands() {
        if let Some(target) = line.strip_prefix("make ") {
            assert!(makefile.contains(&format!("\n{target}:")), "{line}");
        }
        if let Some((_, inside)) = line.split_once(" -- ringway ") {
            let mut words: Vec<&str> = inside.split(' ').collect();
            words.push("--help");
            let run = ringway(&words).output().unwrap();
            assert!(run.status.success(), "{line}: {}", stderr(&run));
            verbs += 1;
        }
        for word in line.split([' ', '"']).filter(|w| w.starts_with("deploy/")) {
            assert!(root().join(word).exists(), "{line}");
            files += 1;
        }
    }
    assert!(verbs >= 4 && files >= 5, "{verbs} verbs, {files} files");
}

/// The objects and labels that commands name are those of the manifests.
#[test]
fn names_are_those_of_the_manifests() {
    let folder = root().join("deploy");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let all = ["ringway.yaml", "uninstall.yaml", "prepull.yaml"]
        .map(read)
        .concat();
    for label in ["ringway-prepull", "ringway-uninstall"] {
        assert!(PAGE.contains(&format!("-l app.kubernetes.io/name={label}")));
        assert!(all.contains(&format!("app.kubernetes.io/name: {label}")));
    }
    let selector = read("beside-flannel/nodes.yaml");
    assert!(
        PAGE.contains("ringway.io/node=true") && selector.contains("ringway.io/node: \"true\"")
    );
    for (named, container) in [("-c agent", "agent"), ("`init-install-cni`", "install-cni")] {
        assert!(PAGE.contains(named) && all.contains(&format!("- name: {container}\n")));
    }
    let version = env!("CARGO_PKG_VERSION");
    for word in [
        format!("target/image/ringway-{version}-amd64.tar"),
        format!("localhost/ringway:{version}"),
        format!("newTag: {version}"),
    ] {
        assert!(PAGE.contains(&word), "{word}");
    }
}

/// `kubectl kustomize` of a text, beside a checkout named ringway.
fn render(text: &str) -> Option<Vec<Value>> {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        root().canonicalize().unwrap(),
        folder.path().join("ringway"),
    )
    .unwrap();
    std::fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
    let run = Command::new("kubectl")
        .arg("kustomize")
        .arg(folder.path())
        .output();
    let Ok(run) = run else {
        println!("SKIPPED: no kubectl to render what docs/operations.md shows");
        return None;
    };
    assert!(run.status.success(), "{text}\n{}", stderr(&run));
    let all: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(run.stdout).unwrap()).unwrap();
    Some(all)
}

#[test]
fn the_kustomizations_do_what_they_are_for() {
    let yaml = blocks("yaml");
    let [own, folders] = &yaml[..] else {
        panic!("{} blocks of YAML", yaml.len());
    };
    let Some(all) = render(own) else { return };
    let daemonset = all.iter().find(|one| one["kind"] == "DaemonSet").unwrap();
    let agent = &daemonset["spec"]["template"]["spec"]["containers"][0];
    let image = format!("registry.example/ringway:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(agent["image"], image);
    let config = all.iter().find(|one| one["kind"] == "ConfigMap").unwrap();
    let text = config["data"]["ringway.toml"].as_str().unwrap();
    let file: toml::Value = toml::from_str(text).unwrap();
    assert_eq!(
        file["node"]["cluster_cidrs"][0].as_str(),
        Some("10.244.0.0/16")
    );
    assert_eq!(
        file["node"]["sysctl_root"].as_str(),
        Some("/host/proc/sys/net")
    );

    // Both components are named there.
    for component in ["privileged", "hostpid"] {
        let path = format!("ringway/deploy/components/{component}");
        assert!(own.contains(&path));
        let with = own.replace("components: []", &format!("components: [{path}]"));
        assert_ne!(render(&with).unwrap(), all);
    }

    let (head, _) = own.split_once("components:").unwrap();
    let all = render(&format!("{head}{folders}")).unwrap();
    let daemonset = all.iter().find(|one| one["kind"] == "DaemonSet").unwrap();
    let volumes = daemonset["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let path = |name: &str| {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .unwrap();
        volume["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    assert!(path("cni-bin").starts_with("/var/lib/rancher/k3s/"));
    assert!(path("cni-conf").starts_with("/var/lib/rancher/k3s/"));
    assert_eq!(path("state"), "/var/lib/ringway");
}
