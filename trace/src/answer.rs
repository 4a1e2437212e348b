//! The shapes of the answer, which the command line reads, too.

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
