//! Why an interface could not be made.

use crate::netlink::NetlinkError;
use crate::netns::NetnsError;
use crate::sysctl::SysctlError;
use ringway_ports::tap::TapError;

/// Why an interface could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The name is in use inside the pod.
    #[error("TAP name taken: the namespace {netns} already has an interface {ifname}")]
    NameTaken {
        /// Path of the namespace.
        netns: String,
        /// The name.
        ifname: String,
    },
    /// The TAP.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// rtnetlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}
