//! containerd on a node, unpacked and not installed, driven by its `ctr`.
//!
//! `ctr run --cni` makes the container, calls the plugin with ADD while the container's first process waits
//! (`CNI_NETNS` is `/proc/PID/ns/net`), then lets it go. How the container goes decides about DEL:
//! - without `--detach`, `ctr` itself waits for the container's end and then calls DEL, with no `CNI_NETNS`;
//! - with it, nobody does; [`Runtime::del`] calls the plugin in the runtime's place.
//!
//! runc gets control groups by its cgroupfs driver, in a group of the lab: no systemd is asked.

use super::cri::Cri;
use super::image::IMAGE;
use crate::harness::eventually;
use ringway_perf::lab::{Inside, LabError, Netns, Node, Process};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nothing that wants folders outside its root. No snapshot needs a file system that may be missing under a
/// temporary folder. What the CRI makes a pod of is the image that serves a page.
const CONFIG: &str = r#"version = 2
root = "ROOT"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "IMAGE"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#;

/// A container that serves a page.
pub(super) struct Container {
    /// Its id.
    pub(super) id: String,
    /// What the runtime calls its network namespace.
    netns: String,
    /// Its network namespace, by a name that does not keep it alive.
    pub(super) ns: Netns,
}

impl Container {
    /// What the agent calls it: `ctr` puts its own namespace in front.
    pub(super) fn pod(&self) -> String {
        format!("default-{}/eth0", self.id)
    }
}

/// A node's containerd. It and all its containers end with the node's machine.
pub(super) struct Runtime {
    inside: Inside,
    path: String,
    folder: PathBuf,
    cgroup: String,
    daemon: Option<Process>,
}

static EXECS: AtomicU32 = AtomicU32::new(0);

impl Runtime {
    /// Starts it on a node that has booted, with its files in `folder`.
    pub(super) fn start(
        node: &Node,
        inside: &Inside,
        packages: &Path,
        folder: &Path,
    ) -> Result<Runtime, LabError> {
        let root = folder.join(format!("containerd{}", node.number));
        std::fs::create_dir_all(&root).unwrap();
        let text = CONFIG.replace("ROOT", &root.join("root").display().to_string());
        let text = text.replace("IMAGE", IMAGE);
        std::fs::write(root.join("config.toml"), text).unwrap();
        let debs = packages.display();
        let mut runtime = Runtime {
            inside: inside.clone(),
            path: format!(
                "PATH={debs}/containerd/usr/bin:{debs}/runc/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            ),
            folder: root,
            // Named after the node's namespace, so that it is found and removed as that is.
            cgroup: format!("/{}", node.ns.name()),
            daemon: None,
        };
        runtime.launch()?;
        Ok(runtime)
    }

    /// Starts the daemon and waits until it answers.
    pub(super) fn launch(&mut self) -> Result<(), LabError> {
        let config = self.folder.join("config.toml");
        let command = self.command(
            "containerd",
            &["-c", &config.display().to_string()],
            "containerd.log",
        );
        self.daemon = Some(self.inside.start(command)?);
        eventually("containerd answers", Duration::from_secs(10), || {
            self.ctr(&["version"]).is_ok()
        });
        Ok(())
    }

    /// SIGTERM. Containers and their shims run on.
    pub(super) fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("it was started");
        assert!(
            daemon.stop(Duration::from_secs(5)),
            "containerd ignores SIGTERM"
        );
    }

    /// SIGKILL.
    pub(super) fn kill_daemon(&mut self) {
        self.daemon.take().expect("it was started").kill();
    }

    /// Loads an image.
    pub(super) fn import(&self, image: &Path) -> Result<(), LabError> {
        let image = image.display().to_string();
        self.ctr(&["image", "import", "--snapshotter", "native", &image])
            .map(drop)
    }

    /// A client of its CRI, which has an image of its own from `image`.
    pub(super) fn cri(&self, image: &Path) -> Result<Cri, LabError> {
        let image = image.display().to_string();
        self.ctr(&[
            "-n",
            "k8s.io",
            "image",
            "import",
            "--snapshotter",
            "native",
            &image,
        ])?;
        Ok(Cri::new(
            self.inside.path("/run/containerd/containerd.sock"),
        ))
    }

    /// Its group of control groups.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// `ctr run --detach --cni`.
    pub(super) fn run(&self, id: &str) -> Result<Container, LabError> {
        let cgroup = format!("{}/{id}", self.cgroup);
        self.ctr(&arguments(id, &cgroup, &["--detach"]))?;
        self.container(id)
    }

    /// `ctr run --rm --cni`: the process is `ctr`, which calls DEL when the container has ended.
    pub(super) fn run_attended(&self, id: &str) -> Result<(Container, Process), LabError> {
        let cgroup = format!("{}/{id}", self.cgroup);
        let command = self.command("ctr", &arguments(id, &cgroup, &["--rm"]), "ctr.log");
        let mut ctr = self.inside.start(command)?;
        // A task is listed from before its ADD.
        eventually(&format!("{id} serves"), Duration::from_secs(10), || {
            assert!(ctr.ended().is_none(), "ctr ended: {}", self.log());
            self.exec(id, &["wget", "-q", "-O", "-", "http://127.0.0.1/"])
                .is_ok()
        });
        Ok((self.container(id)?, ctr))
    }

    /// Runs a program of busybox inside; what it printed on stdout. That goes by a file: what `ctr task exec` passes
    /// on was empty once, of a program that had ended well, on a busy machine.
    pub(super) fn exec(&self, id: &str, words: &[&str]) -> Result<String, LabError> {
        let name = format!("exec{}", EXECS.fetch_add(1, Ordering::Relaxed));
        let script = format!("exec \"$@\" >/tmp/{name}");
        let mut all = vec!["task", "exec", "--exec-id", &name, id];
        all.extend(["busybox", "sh", "-c", &script, "sh"]);
        all.extend(words);
        self.ctr(&all)?;
        let pid = self.pid(id)?;
        let file = format!("/proc/{pid}/root/tmp/{name}");
        self.inside.run("cat", &[&file])
    }

    /// The addresses `ip` shows inside, with prefix length.
    pub(super) fn addresses(&self, container: &Container) -> Result<Vec<String>, LabError> {
        let shown = self.exec(
            &container.id,
            &["ip", "addr", "show", "dev", "eth0", "scope", "global"],
        )?;
        let lines = shown.lines().map(str::split_whitespace);
        let address = |mut words: std::str::SplitWhitespace<'_>| {
            let inet = matches!(words.next(), Some("inet" | "inet6"));
            inet.then(|| words.next().map(str::to_owned)).flatten()
        };
        let mut addresses: Vec<String> = lines.filter_map(address).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// The page from `address`, fetched by the container.
    pub(super) fn fetch(&self, container: &Container, address: IpAddr) -> Result<String, LabError> {
        let url = match address {
            IpAddr::V4(address) => format!("http://{address}/"),
            IpAddr::V6(address) => format!("http://[{address}]/"),
        };
        // wget's own limit (-T) crashes the static busybox of Debian 12.
        self.exec(
            &container.id,
            &["timeout", "5", "wget", "-q", "-O", "-", &url],
        )
    }

    /// `ctr task kill`.
    pub(super) fn kill(&self, id: &str) -> Result<(), LabError> {
        self.ctr(&["task", "kill", "--signal", "SIGKILL", id])
            .map(drop)
    }

    /// `ctr task kill`, `ctr task rm` and `ctr containers rm`.
    pub(super) fn remove(&self, id: &str) -> Result<(), LabError> {
        self.kill(id)?;
        eventually(&format!("{id} is removed"), Duration::from_secs(5), || {
            // It says what the container's end was, as an error.
            let _ = self.ctr(&["task", "rm", id]);
            self.ctr(&["task", "ls"])
                .is_ok_and(|tasks| !listed(&tasks, id))
        });
        self.forget(id)
    }

    /// `ctr containers rm` of one whose task is gone already.
    pub(super) fn forget(&self, id: &str) -> Result<(), LabError> {
        self.ctr(&["containers", "rm", id]).map(drop)
    }

    /// DEL in a runtime's place, for a container that was detached. Its namespace may be gone, and is named.
    pub(super) fn del(&self, container: &Container) -> Result<String, LabError> {
        let script = r#"
export CNI_COMMAND=DEL CNI_CONTAINERID="default-$1" CNI_NETNS="$3" CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin
exec /opt/cni/bin/ringway-cni <"$2"
"#;
        // What libcni makes of a list for one plugin: its own object, with the list's name and version.
        let list = self
            .inside
            .run("cat", &["/etc/cni/net.d/05-ringway.conflist"])?;
        let list: serde_json::Value = serde_json::from_str(&list).expect("a conflist is JSON");
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        let file = self.folder.join("del.json");
        std::fs::write(&file, plugin.to_string()).unwrap();
        let file = file.display().to_string();
        self.inside.run(
            "sh",
            &["-ec", script, "del", &container.id, &file, &container.netns],
        )
    }

    /// Ids of the containers it knows.
    pub(super) fn containers(&self) -> Result<String, LabError> {
        self.ctr(&["containers", "ls", "-q"])
    }

    /// Programs beside it.
    pub(super) fn inside(&self) -> &Inside {
        &self.inside
    }

    /// Control groups that containers have left, below the node's.
    pub(super) fn control_groups(&self) -> Vec<PathBuf> {
        let folders = |path: PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
        };
        let root = PathBuf::from("/sys/fs/cgroup");
        let hierarchies = folders(root.clone()).chain([root]);
        let group = self.cgroup.trim_start_matches('/');
        hierarchies
            .flat_map(|hierarchy| folders(hierarchy.join(group)))
            .collect()
    }

    /// What daemon and attending `ctr`s wrote.
    pub(super) fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let daemon = read("containerd.log");
        let lines: Vec<&str> = daemon.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("{}\n{end}", read("ctr.log"))
    }

    /// The process id of a container's first process, on its node.
    fn pid(&self, id: &str) -> Result<u32, LabError> {
        let tasks = self.ctr(&["task", "ls"])?;
        let pid = tasks.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(id))
                .then(|| words.next()?.parse().ok())
                .flatten()
        });
        Ok(pid.unwrap_or_else(|| panic!("{id} is not in: {tasks}")))
    }

    fn container(&self, id: &str) -> Result<Container, LabError> {
        let pid = self.pid(id)?;
        Ok(Container {
            id: id.to_owned(),
            netns: format!("/proc/{pid}/ns/net"),
            ns: self.inside.netns_of(id, pid)?,
        })
    }

    /// `ctr` with these words.
    pub(super) fn ctr(&self, words: &[&str]) -> Result<String, LabError> {
        let mut all = vec![self.path.as_str(), "ctr"];
        all.extend(words);
        self.inside.run("env", &all)
    }

    /// A program beside the daemon, to be started; what it prints goes into `log`.
    pub(super) fn command(&self, program: &str, words: &[&str], log: &str) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(log))
            .unwrap();
        let mut command = Command::new("env");
        command
            .arg(&self.path)
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- containerd of {} wrote last:\n{}\n---",
                self.cgroup,
                self.log()
            );
        }
    }
}

fn arguments<'a>(id: &'a str, cgroup: &'a str, how: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["run"];
    words.extend(how);
    words.extend([
        "--cni",
        "--snapshotter",
        "native",
        "--cgroup",
        cgroup,
        IMAGE,
        id,
    ]);
    words.extend(["httpd", "-f", "-p", "80", "-h", "/www"]);
    words
}

fn listed(table: &str, id: &str) -> bool {
    table
        .lines()
        .any(|line| line.split_whitespace().next() == Some(id))
}
