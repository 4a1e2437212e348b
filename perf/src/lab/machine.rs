//! A node as a machine of its own: besides its network namespace a mount and a process namespace, in which
//! its agent and a container runtime run together.
//!
//! A runtime names a network namespace by a path (`/proc/PID/ns/net`, or a file under `/run/netns`) and reads
//! its configuration from fixed places (`/etc/cni/net.d`, `/opt/cni/bin`, `/run/containerd`). So agent and
//! runtime have to see the same processes and files, and two nodes must not see each other's:
//!
//! ```text
//! network namespace of the node
//! └── mount and process namespace: init
//!     ├── ringway agent
//!     ├── containerd ── containerd-shim ── containers
//!     └── /run, /etc/cni, /opt/cni, /var/lib/cni, /proc of its own; all else is the machine's
//! ```
//!
//! When its init is killed the kernel kills everything else inside, shims and containers that have lost their
//! parents too, and the mounts go with them. That is how the lab ends it, and what stands for a reboot.

use super::cgroups;
use super::command;
use super::error::{LabError, Result};
use super::netns::Netns;
use super::process::Process;
use super::registry::names_in;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Waits, and for the children of others too: nobody else would in this process namespace.
const INIT: &str = "trap 'exit 0' TERM; sleep infinity & wait";

/// Overlays keep what the machine has in `/etc` and `/opt`, and take the new folders; a tmpfs in each hides
/// the machine's own plugins and configurations.
const MOUNTS: &str = "
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
for folder in etc opt var/lib; do
    mkdir -p /run/overlay/$folder/upper /run/overlay/$folder/work
    mount -t overlay overlay /$folder \
        -o lowerdir=/$folder,upperdir=/run/overlay/$folder/upper,workdir=/run/overlay/$folder/work
    mkdir -p /$folder/cni
    mount -t tmpfs tmpfs /$folder/cni
done
mkdir -p /run/netns /etc/cni/net.d /opt/cni/bin
";

/// The namespaces, and their init. Everything inside ends when it is dropped.
pub struct Machine {
    init: Process,
    inside: Inside,
}

impl Machine {
    /// Boots a machine in the node's network namespace.
    pub(super) fn boot(prefix: &str, ns: &Netns) -> Result<Machine> {
        let mut command = Command::new("sh");
        command
            .args(["-c", INIT])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The thread that starts it gets the mount namespace, and its next child the process namespace.
        let enter = || unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID);
        let init = Process::start_after(prefix, ns, command, || enter().map_err(io::Error::from))?;
        let inside = Inside {
            prefix: prefix.to_owned(),
            ns: ns.clone(),
            init: init.pid(),
            processes: processes_of(init.pid())
                .map_err(LabError::io("look at the machine's processes"))?,
        };
        let machine = Machine { init, inside };
        machine.inside.run("sh", &["-ec", MOUNTS])?;
        Ok(machine)
    }

    /// Where programs are started.
    pub fn inside(&self) -> &Inside {
        &self.inside
    }

    /// Kills everything inside at once, and removes what the kernel keeps of containers. A [`Process`] there that has not been waited for would keep the kernel
    /// from finishing it.
    pub fn power_off(mut self) {
        self.init.kill();
        let name = self.inside.ns.name();
        for group in cgroups::named(|group| group == name) {
            cgroups::remove(&group);
        }
    }
}

/// The inside of a [`Machine`], as a place to start programs in.
#[derive(Clone, Debug)]
pub struct Inside {
    prefix: String,
    ns: Netns,
    init: u32,
    /// The process namespace, as the kernel names it.
    processes: PathBuf,
}

impl Inside {
    /// Starts a program.
    pub fn start(&self, command: Command) -> Result<Process> {
        let enter = self.entrance()?;
        Process::start_after(&self.prefix, &self.ns, command, enter)
    }

    /// Runs a program to its end; what it printed on stdout.
    pub fn run<S: AsRef<str> + Sync>(&self, program: &str, args: &[S]) -> Result<String> {
        let enter = self.entrance()?;
        self.ns.run(|| {
            enter().map_err(LabError::io("enter the machine"))?;
            command::run(program, args)
        })?
    }

    /// Where a file of the inside is, seen from outside.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{file}", self.init))
    }

    /// Names of the programs that run inside, sorted.
    pub fn processes(&self) -> Vec<String> {
        let own = |pid: &String| {
            let pid = pid.parse().ok()?;
            (processes_of(pid).ok()? == self.processes).then_some(pid)
        };
        let pids = names_in(Path::new("/proc"), |_| true);
        let comm = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let mut names: Vec<String> = pids.iter().filter_map(own).filter_map(comm).collect();
        names
            .iter_mut()
            .for_each(|name| name.truncate(name.trim_end().len()));
        names.sort();
        names
    }

    /// A name for the network namespace of a process, whose id is as it is inside. It does not keep the
    /// namespace alive, and is gone with the lab.
    pub fn netns_of(&self, suffix: &str, pid: u32) -> Result<Netns> {
        let ns = Netns::named(&format!("{}{suffix}", self.prefix));
        // By the inside's own /proc, where the process has that id.
        let target = format!("/proc/{}/root/proc/{pid}/ns/net", self.init);
        let _ = std::fs::remove_file(ns.path());
        std::os::unix::fs::symlink(&target, ns.path())
            .map_err(LabError::io(format!("name {target} {}", ns.name())))?;
        Ok(ns)
    }

    /// What moves the calling thread, and the processes it starts, inside.
    fn entrance(&self) -> Result<impl FnOnce() -> io::Result<()> + Send + use<>> {
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", self.init);
            File::open(&path).map_err(LabError::io(format!("open {path}")))
        };
        let (mount, process) = (open("mnt")?, open("pid")?);
        Ok(move || {
            // A thread that shares its working directory cannot change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&process, CloneFlags::CLONE_NEWPID)?;
            setns(&mount, CloneFlags::CLONE_NEWNS)?;
            Ok(())
        })
    }
}

fn processes_of(pid: u32) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid"))
}
