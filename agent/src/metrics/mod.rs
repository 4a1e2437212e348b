//! The metrics, in OpenMetrics' text.
//!
//! ```text
//! workers' cells ─┐
//! control: View ──┴▶ Scrape, a Collector ──▶ Registry ──▶ text        families: one table of all names
//! ```
//!
//! Nothing is counted here, and nobody who counts knows of it: a scrape reads what the workers and the control
//! plane have anyway. What it says is bounded whatever the cluster is like:
//!
//! - of peers up to `metrics.peers` have series of their own; when there are more, the [`WORST`] with most drops
//!   have, and how all of them are spread is told by the `peers_by_…` families;
//! - a pod or a peer has the drop reasons that occurred, up to [`REASONS`], and `other` for the rest; the node has
//!   every reason from the start, also at 0;
//! - no series names both a pod and a peer;
//! - workers share the histograms.
//!
//! A pod that has gone has no series from the next scrape on. A few things are remembered between scrapes
//! ([`Memory`]), so that counters never fall.

mod chosen;
mod collect;
pub mod families;
mod family;
pub mod table;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use ringway_control::View;

pub use chosen::{Memory, REASONS, WORST};
pub use family::{Family, Kind, PREFIX};

/// What an answer says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that a scrape is made of.
pub struct Scrape {
    /// What the control plane and the workers say now.
    pub view: View,
    /// Packets of pods are forwarded.
    pub ready: bool,
    /// When the agent began to serve the node.
    pub started: SystemTime,
    /// Peers that have series of their own.
    pub peers: usize,
    /// What is remembered from scrape to scrape.
    pub memory: Arc<Mutex<Memory>>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Scrape {
    /// The text of it.
    pub fn text(self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

#[cfg(test)]
pub(crate) mod tests;
