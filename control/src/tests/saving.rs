//! A state directory that is full, read-only, or taken away.

use super::*;
use crate::state::{StateDir, StateError};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A node whose state directory is a small file system of its own, in mounts that go with the test.
fn on_a_small_file_system() -> Node {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let node = Node::new();
    let dir = node.dir.path().join("state");
    std::fs::create_dir(&dir).unwrap();
    let flags = MsFlags::empty();
    mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, Some("size=64k")).unwrap();
    node
}

/// Served, but nothing can be added until `cure`; then all is as ever.
fn serves_and_refuses_an_add(spoil: impl Fn(&Path), reason: &str, cure: impl Fn(&Path)) {
    let (node, pod, gone, other) = (on_a_small_file_system(), Pod::new(), Pod::new(), Pod::new());
    let dir = node.dir.path().join("state");
    let left = Pod::new();
    let attachment = Attachment {
        container_id: "left".into(),
        ifname: "eth0".into(),
    };
    let mut control = node.start(1);
    control
        .attach(&request(&pod, "a", &["10.77.1.2", "fd77:1::2"]))
        .unwrap();
    control
        .attach(&request(&gone, "gone", &["10.77.1.4"]))
        .unwrap();
    control
        .cni_add(&Add {
            attachment: attachment.clone(),
            netns: left.path().display().to_string(),
            ..Add::default()
        })
        .unwrap();
    control.stop();
    let pending = dir.join(PENDING).join("left@eth0");
    // On a full file system its removal would make the room that is missing.
    let leave = reason == "Read-only";
    if leave {
        std::fs::create_dir(dir.join(PENDING)).unwrap();
        std::fs::write(&pending, serde_json::to_vec(&attachment).unwrap()).unwrap();
    }
    spoil(&dir);

    let mut control = node.start(1);
    for ip in ["10.77.1.2", "fd77:1::2"] {
        let found = target(&control, ip);
        assert!(matches!(found, Some(Target::Port(_))), "{ip}: {found:?}");
    }
    let b = request(&other, "b", &["10.77.1.9"]);
    for _ in 0..2 {
        let refused = control.attach(&b).unwrap_err();
        let place = dir.join("state.json").display().to_string();
        for word in [place.as_str(), reason, "os error"] {
            assert!(
                refused.to_string().contains(word),
                "no {word:?}: {refused:?}"
            );
        }
        assert!(refused.remedy().contains("node.state_dir"), "{refused:?}");
        assert_eq!(refused.kind(), Kind::Later);
        assert_gone(&other);
        assert_eq!(target(&control, "10.77.1.9"), Some(Target::Unreachable));
    }
    // What the plugin left while no agent was there is applied, once.
    assert_eq!(control.pods.contains_key("left/eth0"), !leave);
    assert_eq!(control.cni.applied(&pending), leave);
    control.cni_del(&attachment);
    // A runtime that asks is told, and so is a person.
    assert!(
        control
            .cni_status()
            .unwrap_err()
            .to_string()
            .contains(reason)
    );
    let said = control.view().status.state_error.unwrap();
    assert!(said.contains(reason), "{said}");
    // A DEL succeeds.
    assert!(detach(&mut control, "gone").existed);
    control.tick();
    assert_eq!(node.saved(), ["a", "gone", "left/eth0"]);

    cure(&dir);
    control.tick();
    assert_eq!(node.saved(), ["a"]);
    assert!(!pending.exists() && !control.cni.applied(&pending));
    control.cni_status().unwrap();
    assert_eq!(control.view().status.state_error, None);
    control.attach(&b).unwrap();
    assert_eq!(node.saved(), ["a", "b"]);
    control.stop();
}

#[test]
fn a_full_state_directory_costs_an_add_only() {
    in_netns(|| {
        let fill = |dir: &Path| {
            let bytes = vec![1; 128 * 1024];
            std::fs::write(dir.join("ballast"), bytes).unwrap_err();
        };
        let empty = |dir: &Path| std::fs::remove_file(dir.join("ballast")).unwrap();
        serves_and_refuses_an_add(fill, "No space left", empty);
    });
}

#[test]
fn a_read_only_state_directory_costs_an_add_only() {
    in_netns(|| {
        let remount = |dir: &Path, flag: MsFlags| {
            let none: Option<&str> = None;
            let flags = MsFlags::MS_REMOUNT | flag;
            mount(none, dir, none, flags, Some("size=64k")).unwrap();
        };
        let read_only = |dir: &Path| remount(dir, MsFlags::MS_RDONLY);
        let writable = |dir: &Path| remount(dir, MsFlags::empty());
        serves_and_refuses_an_add(read_only, "Read-only", writable);
    });
}

#[test]
fn a_state_directory_taken_away_from_a_living_agent_is_made_again() {
    in_netns(|| {
        let (node, pod) = (Node::new(), Pod::new());
        let dir = node.dir.path().join("state");
        let mut control = node.start(1);
        control.attach(&request(&pod, "a", &["10.77.1.2"])).unwrap();
        for whole in [true, false] {
            if whole {
                std::fs::remove_dir_all(&dir).unwrap();
            } else {
                std::fs::remove_file(dir.join("state.json")).unwrap();
            }
            control.tick();
            assert_eq!(node.saved(), ["a"]);
            let refused = StateDir::lock(&dir).unwrap_err();
            assert!(matches!(refused, StateError::Locked { .. }), "{refused}");
        }
        control.stop();
    });
}
