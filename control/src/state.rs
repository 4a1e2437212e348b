//! What survives the agent: `state.json` in the state directory.
//!
//! The TAPs of the pods are persistent, so after a restart the agent only has
//! to know which there are and how they were made: queue mode and header size
//! must be the same when a TAP is opened again. The file is written whole, to a
//! temporary name and renamed, before an attach is answered; a reader sees the
//! old state or the new one. It is not synced: its pods are of this boot, and
//! what a power cut loses went with them. A file from a newer version is refused
//! and left as it is. A file that cannot be understood is set aside.
//!
//! It holds the pods, the order in which addresses are given out, and what kernel settings were before the
//! agent changed them ([`Before`]).
//!
//! A pod is recorded as pending before anything of it is made. An agent that is
//! killed in between finds it there, and takes away what it had got to.
//!
//! The directory is locked for the agent's life (`lock`). One that cannot be written, full or read-only, is
//! read all the same; one that is taken away from a living agent is made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ringway_cni::api::{Attachment, Bandwidth, PodIdentity, PortMapping};
use ringway_kernel::before::Before;
use ringway_kernel::netns::Identity;
use ringway_packet::mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::takeover::Record;
use ringway_config::ipam::Order;

mod lock;

/// Version of the file's format this program writes.
pub const SCHEMA: u64 = 2;
const FILE: &str = "state.json";
const TEMPORARY: &str = "state.json.tmp";
const DAMAGED: &str = "state.json.damaged";

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Another agent holds the directory.
    #[error(
        "{dir} is in use by another ringway agent (pid {pid}); \
         stop it, or give this one another node.state_dir"
    )]
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// Written by a newer version.
    #[error(
        "{path} has schema {found}, this version knows up to {SCHEMA}; it was left as it is. \
         Run the newer version, or move the file away and create the pods again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
}

/// One attached pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// Which namespace that was.
    pub netns_id: Identity,
    /// Interface name inside.
    pub ifname: String,
    /// MAC address.
    #[serde(with = "text")]
    pub mac: MacAddr,
    /// Addresses, at most one per family.
    pub ips: Vec<IpAddr>,
    /// MTU in bytes.
    pub mtu: u16,
    /// The TAP was made with `IFF_MULTI_QUEUE`.
    pub multi_queue: bool,
    /// Queues open when it was recorded.
    pub queues: u16,
    /// Bytes of the vnet header.
    pub vnet_header_len: usize,
    /// Recorded, and not made yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Who asked for it, if that was a container runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<CniRecord>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
}

/// What a container runtime knows a pod by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CniRecord {
    /// Container and interface.
    pub attachment: Attachment,
    /// Name of the network configuration.
    pub network: String,
    /// Kubernetes' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
}

/// The order in which addresses are given out, by family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// IPv4.
    #[serde(default)]
    pub v4: Order,
    /// IPv6.
    #[serde(default)]
    pub v6: Order,
}

impl Orders {
    /// That of a family.
    pub fn of(&self, v6: bool) -> &Order {
        if v6 { &self.v6 } else { &self.v4 }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, v6: bool) -> &mut Order {
        if v6 { &mut self.v6 } else { &mut self.v4 }
    }
}

/// Everything in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the format.
    pub schema: u64,
    /// The boot in which it was written: namespaces do not survive one.
    pub boot_id: String,
    /// Pods by name.
    pub pods: BTreeMap<String, PodRecord>,
    /// Which addresses are next.
    #[serde(default)]
    pub ipam: Orders,
    /// What was changed on the machine.
    #[serde(default)]
    pub before: Before,
    /// What a take-over found, and whether the node is given back.
    #[serde(default, skip_serializing_if = "Record::is_empty")]
    pub takeover: Record,
}

impl State {
    /// No pods, this boot.
    pub fn new() -> Self {
        Self {
            schema: SCHEMA,
            boot_id: boot_id(),
            pods: BTreeMap::new(),
            ipam: Orders::default(),
            before: Before::default(),
            takeover: Record::default(),
        }
    }

    /// Takes a pod out; its addresses are the last to be given out again.
    pub fn forget(&mut self, name: &str) -> Option<PodRecord> {
        let record = self.pods.remove(name)?;
        for ip in &record.ips {
            self.ipam.of_mut(ip.is_ipv6()).released(*ip);
        }
        Some(record)
    }

    /// The pod a container runtime means.
    pub fn by_attachment(&self, attachment: &Attachment) -> Option<&str> {
        let meant = |record: &PodRecord| {
            let cni = record.cni.as_ref();
            cni.is_some_and(|cni| cni.attachment == *attachment)
        };
        let found = self.pods.iter().find(|(_, record)| meant(record));
        found.map(|(name, _)| name.as_str())
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// The kernel's id of this boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The state of an agent that may not run, as it stands on disk; none if there is none, or it is damaged.
///
/// # Errors
/// It cannot be read.
pub fn peek(dir: &Path) -> Result<Option<State>, StateError> {
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error("reading", &path)(e)),
    }
}

/// The state directory, locked.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    /// The directory, open and locked.
    lock: File,
}

impl Drop for StateDir {
    /// Unlocks by name: a child that is just being made shares the open file until it begins its own
    /// program, so that closing it here would not.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl StateDir {
    /// Creates the directory if need be and locks it, waiting for an owner that was killed and has not ended.
    ///
    /// # Errors
    /// It cannot be made or opened, or a living agent has it.
    pub fn lock(dir: &Path) -> Result<Self, StateError> {
        Ok(Self {
            dir: dir.to_owned(),
            lock: locked(dir)?,
        })
    }

    /// Makes the directory again if somebody took it away or put another in its place; true if so. The state
    /// has to be saved then.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn make_again(&mut self) -> Result<bool, StateError> {
        let identity = |m: fs::Metadata| (m.dev(), m.ino());
        let there = fs::metadata(&self.dir).ok().map(identity);
        if there.is_some() && there == self.lock.metadata().ok().map(identity) {
            return Ok(false);
        }
        self.lock = locked(&self.dir)?;
        Ok(true)
    }

    /// Whether there is a state file.
    pub fn is_saved(&self) -> bool {
        self.dir.join(FILE).exists()
    }

    /// Reads the state; pods of an earlier boot are left out.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::new()),
            Err(e) => return Err(error("reading", &path)(e)),
        };
        // A power cut may leave a name without contents; what it stood for is gone.
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(State::new());
        }
        // The schema first: a newer file may have any other shape.
        let value = serde_json::from_slice::<serde_json::Value>(&bytes);
        if let Ok(value) = &value
            && let Some(found) = value.get("schema").and_then(serde_json::Value::as_u64)
            && found > SCHEMA
        {
            return Err(StateError::Newer { path, found });
        }
        let mut state = match value.and_then(serde_json::from_value::<State>) {
            Ok(state) => state,
            Err(e) => {
                let aside = self.dir.join(DAMAGED);
                fs::rename(&path, &aside).map_err(error("setting aside", &path))?;
                tracing::error!(
                    file = %aside.display(),
                    "the state file was damaged ({e}) and was set aside; its pods have to be created again"
                );
                return Ok(State::new());
            }
        };
        let now = boot_id();
        if state.boot_id != now {
            if !state.pods.is_empty() {
                let pods = state.pods.len();
                tracing::info!(pods, "the machine has rebooted: earlier pods are gone");
            }
            let names: Vec<String> = state.pods.keys().cloned().collect();
            for name in names {
                state.forget(&name);
            }
            state.boot_id = now;
            state.before = Before::default();
        }
        state.schema = SCHEMA;
        Ok(state)
    }

    /// Writes the state so that a crash at any moment leaves a whole file.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let temporary = self.dir.join(TEMPORARY);
        let path = self.dir.join(FILE);
        let mut bytes = serde_json::to_vec_pretty(state)
            .map_err(io::Error::from)
            .map_err(error("encoding", &path))?;
        bytes.push(b'\n');
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(error("creating", &temporary))?;
        file.write_all(&bytes).map_err(|e| {
            // What did not fit takes room from others.
            let _ = fs::remove_file(&temporary);
            error("writing", &temporary)(e)
        })?;
        fs::rename(&temporary, &path).map_err(error("renaming", &temporary))
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

/// The directory, made if need be, open and locked.
fn locked(dir: &Path) -> Result<File, StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(error("creating", dir))?;
    let directory = File::open(dir).map_err(error("opening", dir))?;
    lock::take(&directory).map_err(|refused| match refused {
        lock::Refused::Io(e) => error("locking", dir)(e),
        lock::Refused::Held(pid) => StateError::Locked {
            dir: dir.to_owned(),
            pid: pid.map_or("unknown".into(), |pid| pid.to_string()),
        },
    })?;
    Ok(directory)
}

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io {
        action,
        path,
        source,
    }
}

/// A value as its text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &impl ToString,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: std::str::FromStr>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is malformed")))
    }
}

#[cfg(test)]
mod tests;
