//! Clusters in network namespaces: nodes, pods, the wire between them.
//!
//! A [`Topology`] is two nodes joined by a veth pair, with pods as namespaces; each node's pod
//! network is Ringway's or the kernel's. Everything it makes goes when it is dropped, when a panic
//! unwinds, and when SIGINT, SIGTERM or SIGHUP ends the process (`signal`); what a SIGKILL leaves
//! is found by [`leftovers`]. Names begin with `rwlab-` and the process id, so runs do not meet.

mod agent;
mod cgroups;
mod cluster;
mod cni;
mod command;
mod config;
mod drops;
mod error;
mod kernel;
mod leftovers;
mod machine;
mod netns;
mod node;
mod page;
pub mod plan;
mod process;
mod registry;
mod router;
mod signal;
mod topology;
mod underlay;

pub use agent::{Agent, binary};
pub use cluster::Cluster;
pub use cni::{Cni, IFNAME, Refused};
pub use command::{installed, ip, run};
pub use config::{Crowd, Encap, Io, RingwayOptions, UnderlayFamily};
pub use drops::Drops;
pub use error::{LabError, Result};
pub use leftovers::{Leftover, leftovers, remove_leftovers};
pub use machine::{Inside, Machine};
pub use netns::Netns;
pub use node::{Node, NodeKind, Pod};
pub use page::Page;
pub use plan::Family;
pub use process::Process;
pub use registry::PREFIX;
pub use router::Router;
pub use signal::clean_up_on_signals;
pub(crate) use signal::end_on_signals;
pub use topology::Topology;
pub use underlay::{INTERFACE, LOWER, Mode, Wire};

use std::path::PathBuf;

/// A name space of its own for one topology: a prefix and a folder. Taken down when dropped.
pub struct Lab {
    prefix: String,
}

impl Lab {
    /// Needs root; installs the signal handler at the first call.
    pub fn open() -> Result<Lab> {
        require_root()?;
        clean_up_on_signals();
        let lab = Lab {
            prefix: registry::open(),
        };
        std::fs::create_dir_all(lab.folder())
            .map_err(LabError::io(format!("create {}", lab.folder().display())))?;
        Ok(lab)
    }

    /// What every name in it begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A name in it.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// Its folder for configuration, state, sockets and logs.
    pub fn folder(&self) -> PathBuf {
        registry::folder(&self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        registry::close(&self.prefix);
    }
}

/// [`LabError::NotRoot`] unless root.
pub fn require_root() -> Result<()> {
    match nix::unistd::geteuid() {
        uid if uid.is_root() => Ok(()),
        uid => Err(LabError::NotRoot { uid: uid.as_raw() }),
    }
}
