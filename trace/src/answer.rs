//! The shapes of the answer, which the command line reads, too.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `POST /v1/trace`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// One for each frame: a sender may have to ask for its neighbour first, and a datagram may have several.
    pub traces: Vec<Trace>,
    /// Frames that are not shown.
    #[serde(default)]
    pub more: usize,
}

/// What became of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What the frame is and where it comes in.
    pub input: String,
    /// What the pipeline saw, matched and decided.
    pub steps: Vec<Line>,
    /// The end.
    pub verdict: Verdict,
    /// What happens after it.
    #[serde(default)]
    pub after: Vec<Line>,
    /// Where to look.
    #[serde(default)]
    pub next: Vec<Next>,
    /// What the agent of the node says that it goes to, where agents ask each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub across: Option<Across>,
    /// What it is asked with.
    #[serde(skip)]
    pub half: Option<Half>,
}

/// The other half of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Across {
    /// The node.
    pub node: String,
    /// What becomes of the packet there.
    #[serde(default)]
    pub traces: Vec<Trace>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the other half is asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// The peer, whose name is its node's.
    pub peer: String,
    /// Its outer address.
    pub address: IpAddr,
    /// What it is sent, with an Ethernet header, in hexadecimal.
    pub frame: String,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Of what.
    pub step: String,
    /// What.
    pub says: String,
}

/// What becomes of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `delivered`, `tunnelled`, `answered`, `ignored` or `dropped`.
    pub verdict: String,
    /// To whom: `pod NAME`, `node`, `peer NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why it is dropped or ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What that means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Where to look next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Where, or what for.
    pub what: String,
    /// The command.
    pub command: String,
}

/// A line of `POST /v1/trace` with `live`: what a worker has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Live {
    /// A frame.
    Trace(Box<Trace>),
    /// Nothing has been seen for a while; it goes on.
    Waiting {
        /// Frames still to come.
        left: u32,
    },
}
