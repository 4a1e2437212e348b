use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use ringway_cni::api::{Add, Attachment};
use ringway_control::{Control, Request, Requests};
use ringway_kernel::testing::{Pod, in_netns};

use super::*;

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plugin"), "one").unwrap();
        Self { dir }
    }

    fn config(&self) -> Config {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let text = include_str!("../../../config/ringway.toml").replace(
            "[node]",
            &format!(
                "[node]\nstate_dir = {:?}\nsocket = {:?}",
                at("state"),
                at("sock")
            ),
        );
        Config::parse(Path::new("t"), &text).unwrap()
    }

    fn places(&self) -> Places {
        Places {
            plugin: self.dir.path().join("plugin"),
            bin_dir: self.dir.path().join("bin"),
            conf_dir: self.dir.path().join("net.d"),
            list: true,
        }
    }

    fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.dir.path()).unwrap();
                    all.push(name.display().to_string());
                }
            }
        }
        all.sort();
        all
    }
}

#[test]
fn what_lies_there_already_is_not_written_and_the_list_only_if_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let machine = Machine::new();
    let config = machine.config();
    let only = Places {
        list: false,
        ..machine.places()
    };
    let (installed, _) = install(&config, &only).unwrap();
    let binary = machine.dir.path().join("bin").join(PLUGIN);
    assert_eq!(installed.files, std::slice::from_ref(&binary));
    let inode = || fs::metadata(&binary).unwrap().ino();
    let before = inode();
    let list = machine.dir.path().join("net.d").join(CONFLIST);
    assert!(!list.exists());
    install(&config, &machine.places()).unwrap();
    assert!(list.exists());
    assert_eq!(inode(), before);
    // Given back, runtimes find no configuration; the plugin stays, and so does the record of both.
    let report = withdraw(&config, &machine.places());
    assert_eq!(report.done, [list.display().to_string()]);
    assert!(binary.exists() && !list.exists());
    fs::write(machine.dir.path().join("plugin"), "two").unwrap();
    install(&config, &machine.places()).unwrap();
    assert_ne!(inode(), before);
}

#[test]
fn files_are_written_whole_and_again() {
    let machine = Machine::new();
    let (config, places) = (machine.config(), machine.places());
    for text in ["one", "two, and longer"] {
        fs::write(&places.plugin, text).unwrap();
        let (installed, preferred) = install(&config, &places).unwrap();
        assert_eq!(preferred, [""; 0]);
        assert_eq!(installed.files.len(), 2);
        let plugin = places.bin_dir.join(PLUGIN);
        assert_eq!(fs::read_to_string(&plugin).unwrap(), text);
        let mode = fs::metadata(&plugin).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
    let expected = [
        "bin/ringway-cni",
        "net.d/05-ringway.conflist",
        "plugin",
        "state/installed.json",
    ];
    assert_eq!(machine.files(), expected);
    let list = fs::read_to_string(places.conf_dir.join(CONFLIST)).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let pending = machine.dir.path().join("state/cni-pending");
    assert_eq!(list["plugins"][0]["type"], "ringway-cni");
    assert_eq!(
        list["plugins"][0]["pendingDir"],
        pending.display().to_string()
    );
    assert_eq!(list["cniVersion"], "1.0.0");
}

/// Needs root for the interfaces that are looked for.
#[test]
fn dels_that_wait_go_along_and_what_is_no_file_of_the_plugins_is_named() {
    in_netns(|| {
        let machine = Machine::new();
        let (config, places) = (machine.config(), machine.places());
        let waiting = machine.dir.path().join("state/cni-pending");
        let leave = |names: &[&str]| {
            install(&config, &places).unwrap();
            fs::create_dir_all(&waiting).unwrap();
            for name in names {
                fs::write(waiting.join(name), "{}").unwrap();
            }
        };
        leave(&["c1-eth0", ".c2-eth0.tmp"]);
        let report = uninstall(&config, &places).unwrap();
        assert_eq!(report.left, [""; 0]);
        assert_eq!(machine.files(), ["plugin"]);
        assert!(!machine.dir.path().join("state").exists());
        leave(&["c1-eth0"]);
        fs::create_dir(waiting.join("somebody's")).unwrap();
        let report = uninstall(&config, &places).unwrap();
        assert!(
            report.left.iter().any(|left| left.contains("cni-pending")),
            "{report:?}"
        );
    });
}

#[test]
fn what_a_runtime_would_take_first_is_named() {
    let machine = Machine::new();
    let places = machine.places();
    fs::create_dir_all(&places.conf_dir).unwrap();
    for name in [
        "00-other.conf",
        "01-mine.conflist",
        "02-readme.txt",
        "10-flannel.conflist",
    ] {
        fs::write(places.conf_dir.join(name), "{}").unwrap();
    }
    let (_, preferred) = install(&machine.config(), &places).unwrap();
    assert_eq!(preferred, ["00-other.conf", "01-mine.conflist"]);
}

#[test]
fn without_a_plugin_nothing_is_written() {
    let machine = Machine::new();
    let mut places = machine.places();
    places.plugin = machine.dir.path().join("nowhere");
    let error = install(&machine.config(), &places).unwrap_err();
    assert!(matches!(error, InstallError::NoPlugin { .. }), "{error}");
    let beside = format!(
        "target/release/ringway-cni {}/",
        machine.dir.path().display()
    );
    assert!(error.to_string().contains(&beside), "{error}");
    assert_eq!(machine.files(), ["plugin"]);
}

#[test]
fn a_missing_loopback_is_said_with_where_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = lacks_loopback(folder.path()).unwrap();
    for words in ["loopback: containerd", "containernetworking-plugins"] {
        assert!(said.contains(words), "{said}");
    }
    fs::write(folder.path().join("loopback"), "").unwrap();
    assert_eq!(lacks_loopback(folder.path()), None);
}

/// A control plane in the current namespace, which serves requests.
struct Agent {
    requests: Requests,
    thread: JoinHandle<Result<(), String>>,
}

impl Agent {
    fn start(config: &Config) -> Self {
        let control = Control::start(config.clone()).unwrap();
        let (requests, inbox) = crossbeam_channel::unbounded();
        let thread = std::thread::spawn(move || control.run(&inbox));
        Self { requests, thread }
    }

    fn attach(&self, netns: &Path) {
        let add = Add {
            attachment: Attachment {
                container_id: "c1".into(),
                ifname: "eth0".into(),
            },
            netns: netns.display().to_string(),
            ..Add::default()
        };
        let (sender, answer) = crossbeam_channel::bounded(1);
        let reply = Box::new(move |added| sender.send(added).unwrap());
        self.requests.send(Request::CniAdd(add, reply)).unwrap();
        answer.recv().unwrap().unwrap();
    }

    fn stop(self) {
        self.requests.send(Request::Stop).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_state_directory_that_is_a_mount_stays_and_is_no_failure() {
    in_netns(|| {
        // Mounts of this thread alone.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).unwrap();
        let machine = Machine::new();
        let (config, places) = (machine.config(), machine.places());
        let state = &config.node.state_dir;
        fs::create_dir_all(state).unwrap();
        mount(Some("none"), state, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        install(&config, &places).unwrap();
        assert!(fs::read_dir(state).unwrap().count() > 0);
        let report = uninstall(&config, &places).unwrap();
        assert_eq!(report.left, [""; 0]);
        assert!(
            report.notes.iter().any(|n| n.contains("is a mount")),
            "{report:?}"
        );
        assert_eq!(fs::read_dir(state).unwrap().count(), 0);
        // A child that another test forks at this moment may hold it until its exec.
        nix::mount::umount2(state, nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn uninstalled_the_machine_is_as_before() {
    use ringway_kernel::netlink::{LinkChange, Netlink};
    use ringway_ports::tap::{self, TapOptions};

    in_netns(|| {
        let machine = Machine::new();
        let (config, places) = (machine.config(), machine.places());
        let pod = Pod::new();
        let _underlay = tap::create_persistent("eth0", &TapOptions::default()).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link("eth0").unwrap().index;
        for (ip, len) in [("192.168.77.1", 24), ("fd00:77::1", 64)] {
            netlink
                .add_address(index, ip.parse().unwrap(), len)
                .unwrap();
        }
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        netlink.change_link(index, &up).unwrap();
        let look = || {
            let run = |program: &str, args: &[&str]| {
                let out = std::process::Command::new(program).args(args).output();
                String::from_utf8(out.unwrap().stdout).unwrap()
            };
            let sysctls = ["ipv4", "ipv6"]
                .iter()
                .flat_map(|family| {
                    ringway_kernel::sysctl::matching(&format!("{family}/conf/*/forwarding"))
                })
                .map(|key| format!("{key}={}", ringway_kernel::sysctl::get(&key).unwrap()))
                .collect::<Vec<_>>();
            let links = run("ip", &["-br", "link"]);
            let routes = run("ip", &["route"]) + &run("ip", &["-6", "route"]);
            (links, routes, sysctls)
        };
        let before = look();
        install(&config, &places).unwrap();
        let agent = Agent::start(&config);
        agent.attach(&pod.path());
        let running = uninstall(&config, &places).unwrap_err();
        assert!(
            matches!(running, InstallError::AgentRuns { .. }),
            "{running}"
        );
        assert_ne!(look(), before);
        agent.stop();
        // What sources know last, and what was set aside of it.
        for name in [
            "kubernetes.json",
            "kubernetes.json.refused",
            "etcd.json.tmp",
        ] {
            fs::write(config.node.state_dir.join(name), "{}").unwrap();
        }
        let report = uninstall(&config, &places).unwrap();
        assert_eq!(report.left, [""; 0]);
        assert_eq!(report.pods, ["pod c1/eth0"]);
        assert_eq!(look(), before);
        assert_eq!(pod.netlink().links().unwrap().len(), 1, "only lo");
        assert_eq!(machine.files(), ["plugin"]);
        assert_eq!(uninstall(&config, &places).unwrap(), Report::default());
        assert_eq!(machine.files(), ["plugin"]);
    });
}

/// A namespace with a name, which is how a machine finds it.
struct Named(String);

impl Named {
    fn new(what: &str) -> Self {
        let name = format!("rw{}{what}", std::process::id());
        ip(&["netns", "add", &name]);
        Self(name)
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// Names of its interfaces.
    fn links(&self) -> Vec<String> {
        let netns = ringway_kernel::netns::Netns::open(&self.path()).unwrap();
        ringway_kernel::netns::run_in(&netns, links).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.0]);
    }
}

fn links() -> Vec<String> {
    let links = ringway_kernel::netlink::Netlink::open()
        .unwrap()
        .links()
        .unwrap();
    links.into_iter().map(|link| link.name).collect()
}

fn ip(words: &[&str]) {
    let status = std::process::Command::new("ip").args(words).status();
    assert!(status.unwrap().success(), "ip {words:?}");
}

#[test]
fn what_no_record_names_is_found_and_nothing_else_is_touched() {
    in_netns(|| {
        for loss in ["damaged", "gone"] {
            lose_the_record(loss);
        }
    });
}

/// Two installs, an agent with a pod, its record lost; beside them what is somebody else's.
fn lose_the_record(loss: &str) {
    use ringway_kernel::pod::interface::TAP_OWNER_UID;
    use ringway_ports::tap::{self, TapOptions};

    let machine = Machine::new();
    let (config, places) = (machine.config(), machine.places());
    fs::write(
        &places.plugin,
        "\x7fELF ringway-cni, CNI plugin of Ringway: and so on",
    )
    .unwrap();
    let pod = Named::new("p");
    let owned = TapOptions {
        owner_uid: Some(TAP_OWNER_UID),
        ..TapOptions::default()
    };
    // Of a second agent on this machine, with the same pod network, which is stopped just now.
    let theirs = Named::new("t");
    let netns = ringway_kernel::netns::Netns::open(&theirs.path()).unwrap();
    ringway_kernel::netns::run_in(&netns, || {
        tap::create_persistent("eth0", &owned).unwrap();
        ip(&["link", "set", "eth0", "alias", "ringway /another/state"]);
        ip(&["addr", "add", "10.77.1.9/24", "dev", "eth0"]);
    })
    .unwrap();
    let _underlay = tap::create_persistent("eth0", &TapOptions::default()).unwrap();
    tap::create_persistent("tap0", &TapOptions::default()).unwrap();
    ip(&["addr", "add", "192.168.77.1/24", "dev", "eth0"]);
    ip(&["addr", "add", "fd00:77::1/64", "dev", "eth0"]);
    ip(&["link", "set", "eth0", "up"]);
    let foreign = [
        (
            "10-flannel.conflist",
            r#"{"plugins": [{"type": "flannel"}]}"#,
        ),
        ("20-other.conf", r#"{"type": "bridge", "name": "ringway"}"#),
    ];
    fs::create_dir_all(&places.conf_dir).unwrap();
    for (name, text) in foreign {
        fs::write(places.conf_dir.join(name), text).unwrap();
    }
    let elsewhere = Places {
        bin_dir: machine.dir.path().join("bin2"),
        conf_dir: machine.dir.path().join("net2.d"),
        ..places.clone()
    };
    if loss == "damaged" {
        install(&config, &elsewhere).unwrap();
    }
    install(&config, &places).unwrap();
    let agent = Agent::start(&config);
    agent.attach(&pod.path());
    agent.stop();
    assert_eq!(
        (pod.links(), links()),
        (
            names(&["lo", "eth0"]),
            names(&["lo", "eth0", "tap0", "ringway0"])
        )
    );
    let state = &config.node.state_dir;
    if loss == "damaged" {
        let text = fs::read(state.join("state.json")).unwrap();
        fs::write(state.join("state.json"), &text[..text.len() / 2]).unwrap();
    } else {
        fs::remove_dir_all(state).unwrap();
    }

    let report = uninstall(&config, &places).unwrap();
    assert_eq!(report.left, [""; 0]);
    assert_eq!(
        (pod.links(), links()),
        (names(&["lo"]), names(&["lo", "eth0", "tap0"]))
    );
    assert_eq!(theirs.links(), ["lo", "eth0"]);
    let left = ["net.d/10-flannel.conflist", "net.d/20-other.conf", "plugin"];
    assert_eq!(machine.files(), left);
    match loss {
        "damaged" => assert!(report.notes[0].contains("ipv4/ip_forward=1"), "{report:?}"),
        _ => assert_eq!(report.notes, [""; 0]),
    }
    assert_eq!(uninstall(&config, &places).unwrap(), Report::default());
    // The next round begins as this one did.
    tap::delete("tap0").unwrap();
    drop(_underlay);
    tap::delete("eth0").unwrap();
}

#[test]
fn an_interface_in_use_stays_until_it_is_not() {
    use ringway_kernel::pod::interface::{TAP_OWNER_UID, alias};
    use ringway_ports::tap::{self, TapOptions};

    in_netns(|| {
        let machine = Machine::new();
        let (config, places) = (machine.config(), machine.places());
        for multi_queue in [false, true] {
            let options = TapOptions {
                owner_uid: Some(TAP_OWNER_UID),
                multi_queue,
            };
            let open = tap::create_persistent("renamed0", &options).unwrap();
            let alias = alias(&config.node.state_dir);
            ip(&["link", "set", "renamed0", "alias", &alias]);
            let report = uninstall(&config, &places).unwrap();
            assert!(
                report.left[0].contains("renamed0 of this node is in use"),
                "{report:?}"
            );
            // A process that has just ended has it open for a moment.
            let ends = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(100));
                drop(open);
            });
            let report = uninstall(&config, &places).unwrap();
            assert_eq!(report.left, [""; 0]);
            assert_eq!(links(), ["lo"]);
            ends.join().unwrap();
        }
    });
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_list_that_others_have_changed_stays_with_its_plugin() {
    let machine = Machine::new();
    let (config, places) = (machine.config(), machine.places());
    fs::write(&places.plugin, "CNI plugin of Ringway").unwrap();
    install(&config, &places).unwrap();
    fs::remove_dir_all(&config.node.state_dir).unwrap();
    let hand_made = places.conf_dir.join("01-mine.conflist");
    let text = r#"{"name": "mine", "plugins": [{"type": "ringway-cni"}, {"type": "tuning"}]}"#;
    fs::write(&hand_made, text).unwrap();
    let found = search::files(&config, &places);
    assert_eq!(found.ours, [places.conf_dir.join(CONFLIST)]);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(
        found
            .notes
            .iter()
            .all(|note| note.contains("01-mine.conflist"))
    );
}
