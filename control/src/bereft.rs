//! Pods whose interface somebody deleted while they live on.
//!
//! Nothing is left to serve, so the pod is forgotten as if it had been detached; its runtime thinks that it has a
//! network all the same. It is named until its namespace is gone, or has a pod again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use ringway_config::names::deletion;
use ringway_kernel::netns::Identity;
use ringway_kernel::reconcile::Condition;

use super::{Control, Detach};
use crate::state::PodRecord;

/// Pods that are kept.
const MOST: usize = 256;

/// Those that are known, by name.
#[derive(Debug, Default)]
pub(super) struct Bereft(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    netns: PathBuf,
    netns_id: Identity,
    ifname: String,
    since: Instant,
}

impl Known {
    fn lives(&self) -> bool {
        Identity::of_path(&self.netns).is_ok_and(|now| now == self.netns_id)
    }
}

impl Bereft {
    /// A pod has lost its interface; of one that goes itself nothing is to be said.
    pub(super) fn note(&mut self, name: &str, record: &PodRecord, now: Instant) {
        let known = Known {
            netns: record.netns.clone(),
            netns_id: record.netns_id,
            ifname: record.ifname.clone(),
            since: now,
        };
        if self.0.len() < MOST && known.lives() {
            self.0.insert(name.to_owned(), known);
        }
    }

    /// It is detached, though nothing is left of it.
    pub(super) fn forget(&mut self, detached: &Detach) {
        self.0.retain(|name, known| match detached {
            Detach::Name(other) => name != other,
            Detach::Interface { netns, ifname } => (netns, ifname) != (&known.netns, &known.ifname),
        });
    }

    /// Each as a condition.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> + '_ {
        self.0.iter().map(|(name, known)| Condition {
            what: format!("pod {name}"),
            wanted: format!("attached by {} in {}", known.ifname, known.netns.display()),
            found: "without its interface, which somebody deleted".into(),
            why: format!(
                "make the pod anew ({}); until then it has no network",
                anew(name)
            ),
            since: known.since,
        })
    }
}

/// What makes a pod anew.
fn anew(name: &str) -> String {
    match name.split_once('/') {
        Some((namespace, pod)) => deletion(namespace, pod),
        None => format!("ringway detach --name {name}, and attach it again"),
    }
}

impl Control {
    /// Once a second: forgets those whose namespace is gone, or has a pod again.
    pub(super) fn forget_bereft(&mut self) {
        let pods = &self.pods;
        let serves = |known: &Known| {
            let its = (&known.netns_id, &known.ifname);
            let mut records = pods.values().map(|pod| &pod.record);
            records.any(|record| (&record.netns_id, &record.ifname) == its)
        };
        let over = |known: &Known| !known.lives() || serves(known);
        self.bereft.0.retain(|_, known| !over(known));
    }
}
