use super::*;

fn pod(n: u8) -> PodRecord {
    PodRecord {
        netns: format!("/run/netns/p{n}").into(),
        netns_id: Identity {
            dev: 4,
            ino: u64::from(n),
        },
        ifname: "eth0".into(),
        mac: MacAddr([10, 88, 10, 77, 1, n]),
        ips: vec![
            format!("10.77.1.{n}").parse().unwrap(),
            format!("fd77:1::{n}").parse().unwrap(),
        ],
        mtu: 1450,
        multi_queue: false,
        queues: 1,
        vnet_header_len: 10,
        pending: n.is_multiple_of(2),
        cni: n.is_multiple_of(3).then(|| CniRecord {
            attachment: attachment(n),
            network: "ringway".into(),
            pod: None,
        }),
        bandwidth: None,
        port_mappings: Vec::new(),
    }
}

fn attachment(n: u8) -> Attachment {
    Attachment {
        container_id: format!("c{n}"),
        ifname: "eth0".into(),
    }
}

fn state(pods: u8) -> State {
    let mut state = State::new();
    for n in 2..2 + pods {
        state.pods.insert(format!("p{n}/eth0"), pod(n));
    }
    state
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    assert_eq!(lock.load().unwrap(), State::new());
    let written = state(3);
    lock.save(&written).unwrap();
    assert_eq!(lock.load().unwrap(), written);
    assert!(!dir.path().join(TEMPORARY).exists());
}

#[test]
fn a_second_agent_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = StateDir::lock(dir.path()).unwrap();
    let refused = StateDir::lock(dir.path()).unwrap_err();
    let StateError::Locked { pid, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*pid, std::process::id().to_string());
    assert!(refused.to_string().contains(pid.as_str()));
    drop(held);
    StateDir::lock(dir.path()).unwrap();
}

#[test]
fn an_agent_that_is_gone_leaves_no_lock_with_its_child() {
    let dir = tempfile::tempdir().unwrap();
    let held = StateDir::lock(dir.path()).unwrap();
    // What a child has between fork and exec: the same open file.
    let child = held.lock.try_clone().unwrap();
    drop(held);
    StateDir::lock(dir.path()).unwrap();
    drop(child);
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    let newer = br#"{"schema": 3, "boots": ["x"], "pods": [1, 2]}"#;
    fs::write(dir.path().join(FILE), newer).unwrap();
    let refused = lock.load().unwrap_err();
    assert!(
        matches!(refused, StateError::Newer { found: 3, .. }),
        "{refused}"
    );
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), newer);
}

#[test]
fn a_torn_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    lock.save(&state(2)).unwrap();
    let whole = fs::read(dir.path().join(FILE)).unwrap();
    // The closing newline alone is no damage; neither is the last brace missing whole.
    for cut in [1, whole.len() / 2, whole.len() - 2] {
        fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
        assert_eq!(lock.load().unwrap(), State::new(), "cut at {cut}");
        let aside = fs::read(dir.path().join(DAMAGED)).unwrap();
        assert_eq!(aside, whole[..cut]);
        assert!(!dir.path().join(FILE).exists());
    }
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    lock.save(&state(2)).unwrap();
    fs::write(dir.path().join(TEMPORARY), b"{\"schema\": 1, \"bo").unwrap();
    assert_eq!(lock.load().unwrap(), state(2));
    lock.save(&state(1)).unwrap();
    assert_eq!(lock.load().unwrap(), state(1));
}

#[test]
fn pods_of_an_earlier_boot_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    let mut old = state(2);
    old.boot_id = "6f1c2e9a-0000-4000-8000-000000000000".into();
    lock.save(&old).unwrap();
    let now = lock.load().unwrap();
    assert_eq!((now.pods.len(), now.boot_id), (0, boot_id()));
    // Their addresses are the last to be given out again.
    let released: Vec<String> = now
        .ipam
        .v4
        .released
        .iter()
        .map(|ip| ip.to_string())
        .collect();
    assert_eq!(released, ["10.77.1.2", "10.77.1.3"]);
    assert_eq!(now.ipam.v6.released.len(), 2);
}

#[test]
fn a_file_of_the_version_before_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    let old = format!(
        r#"{{"schema": 1, "boot_id": "{}", "pods": {{"p2/eth0": {{
        "netns": "/run/netns/p2", "netns_id": {{"dev": 4, "ino": 2}}, "ifname": "eth0",
        "mac": "0a:58:0a:4d:01:02", "ips": ["10.77.1.2"], "mtu": 1450, "multi_queue": false,
        "queues": 1, "vnet_header_len": 10}}}}}}"#,
        boot_id()
    );
    fs::write(dir.path().join(FILE), old).unwrap();
    let state = lock.load().unwrap();
    assert_eq!(state.schema, SCHEMA);
    let record = &state.pods["p2/eth0"];
    assert!(!record.pending && record.cni.is_none());
    lock.save(&state).unwrap();
    assert_eq!(lock.load().unwrap(), state);
}

#[test]
fn what_a_power_cut_leaves_of_a_file_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::lock(dir.path()).unwrap();
    for left in [&b""[..], &[0; 300]] {
        fs::write(dir.path().join(FILE), left).unwrap();
        assert_eq!(lock.load().unwrap(), State::new());
        assert!(!dir.path().join(DAMAGED).exists());
    }
}

#[test]
fn a_container_finds_its_pod() {
    let mut state = state(5);
    assert_eq!(state.by_attachment(&attachment(3)), Some("p3/eth0"));
    assert_eq!(state.by_attachment(&attachment(4)), None);
    let other = Attachment {
        ifname: "net1".into(),
        ..attachment(3)
    };
    assert_eq!(state.by_attachment(&other), None);
    assert!(state.forget("p3/eth0").is_some());
    assert_eq!(state.by_attachment(&attachment(3)), None);
}

#[test]
fn only_root_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let lock = StateDir::lock(&dir).unwrap();
    lock.save(&State::new()).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(FILE)), 0o600);
}

#[test]
fn a_directory_that_is_taken_away_is_made_and_locked_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let mut held = StateDir::lock(&dir).unwrap();
    held.save(&state(1)).unwrap();
    assert!(!held.make_again().unwrap());
    for another in [false, true] {
        fs::remove_dir_all(&dir).unwrap();
        if another {
            fs::create_dir(&dir).unwrap();
        }
        assert!(!held.is_saved());
        assert!(held.make_again().unwrap());
        assert!(!held.make_again().unwrap());
        let refused = StateDir::lock(&dir).unwrap_err();
        assert!(matches!(refused, StateError::Locked { .. }), "{refused}");
        held.save(&state(1)).unwrap();
        assert_eq!(held.load().unwrap(), state(1));
    }
}
