//! What the control thread is asked.

use std::net::IpAddr;
use std::path::PathBuf;

use ringway_packet::mac::MacAddr;

/// A pod to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Name of the pod, unique on the node.
    pub name: String,
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// Name the interface shall have.
    pub ifname: String,
    /// One address, or one of each family.
    pub ips: Vec<IpAddr>,
    /// MAC address; default: derived from the address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes; default: what the underlay leaves.
    pub mtu: Option<u16>,
}

/// A pod to detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detach {
    /// By its name.
    Name(String),
    /// By where its interface is.
    Interface {
        /// Path of the namespace.
        netns: PathBuf,
        /// Name of the interface.
        ifname: String,
    },
}
