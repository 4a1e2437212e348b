//! What was lost: `GET /v1/drops` and below.

use serde::{Deserialize, Serialize};

use super::DropCount;

/// `GET /v1/drops`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drops {
    /// Drops, most frequent first; reasons that never applied are left out.
    pub drops: Vec<Drop>,
    /// Frames ignored, by reason; not a fault.
    pub ignored: Vec<DropCount>,
    /// What the kernel lost, largest first; what is zero is left out unless `?all=true` asks for it.
    #[serde(default)]
    pub kernel: Vec<KernelLoss>,
    /// Counters of the kernel that could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// One reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drop {
    /// Name of the reason.
    pub reason: String,
    /// Frames dropped by their verdict.
    pub frames: u64,
    /// Packets lost after their verdict.
    pub lost_packets: u64,
    /// Frames and packets a second since the look before, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Milliseconds since the last frame that was kept of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ago_ms: Option<u64>,
    /// What was seen.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// At which pods and peers, most first.
    pub at: Vec<DropAt>,
}

/// Drops of one reason at a pod, the node or a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropAt {
    /// `pod`, `node` or `peer`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `from`: it sent them; `to`: they were on their way to it.
    pub direction: String,
    /// Packets on the wire.
    pub packets: u64,
    /// Packets a second since the look before, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

/// One counter of the kernel at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelLoss {
    /// Its name.
    pub counter: String,
    /// A pod, an interface, a socket, a worker.
    pub at: String,
    /// Packets, since the interface was made or the machine started.
    pub count: u64,
    /// A second since the look before, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What was seen.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// A frame in `GET /v1/drops/last`, the latest last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastDrop {
    /// Why it was dropped.
    pub reason: String,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// `pod`, `node`, `peer` or, from whom is not known, `underlay`.
    pub kind: String,
    /// Name of the pod or peer at the time.
    pub name: String,
    /// Bytes it had.
    pub length: u32,
    /// Packets on the wire that it stood for.
    pub packets: u16,
    /// What the bytes are: an Ethernet `frame`, an IP `packet`, or a `datagram` from the tunnel header on.
    pub contents: String,
    /// In a line.
    pub summary: String,
    /// First bytes, at most 128, in hexadecimal.
    pub bytes: String,
}

/// What is known of a reason, a counter of the kernel, or a reason to ignore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub reason: String,
    /// What was seen.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// Where on its way a packet is lost for it.
    pub stage: String,
    /// What counts it.
    pub counted: String,
    /// What leads to it.
    pub example: String,
}
