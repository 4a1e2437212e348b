//! Jobs in pods' namespaces, beside the control thread.
//!
//! ```text
//! control:  check, record as pending ─┐                              ┌─ record, publish, workers, answer
//! attach:                             └ make interface, neighbours ──┘
//! control:  unpublish, workers ───────┐                              ┌─ forget, answer, close
//! detach:                             └ neighbours, let it vanish ───┘
//! ```
//!
//! Making or removing an interface takes the kernel's lock for all interfaces of the machine (RTNL) up to
//! twenty times. Others hold that lock long: taking a namespace apart some ten milliseconds, on a busy machine
//! a hundred. Pods that come and go at the same time wait for it at the same time, each on a thread of its own,
//! and the control thread does not wait.
//!
//! A pod with a job under way is recorded, so nobody else gets its addresses. Requests that concern it or its
//! namespace are deferred until the job is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ringway_cni::api::Attachment;
use ringway_kernel::pod::interface::{InterfaceError, Making};

use super::attach::Attaching;
use super::pods::Detaching;
use super::{Control, Detach, Request};
use crate::state::PodRecord;

/// Pods with a job under way.
pub(super) struct PodJobs {
    pub(super) attaching: BTreeMap<String, Attaching>,
    pub(super) detaching: BTreeMap<String, Detaching>,
    /// Requests that were put off.
    deferred: Vec<Request>,
    sender: Sender<Outcome>,
    outcomes: Receiver<Outcome>,
}

/// What has come of a pod's work.
pub(super) enum Outcome {
    /// The interface was made, or not.
    Made(String, Result<Making, InterfaceError>),
    /// It will vanish with its descriptors; what is worth knowing.
    Removed(String, Option<String>),
}

impl PodJobs {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = unbounded();
        Self {
            attaching: BTreeMap::new(),
            detaching: BTreeMap::new(),
            deferred: Vec::new(),
            sender,
            outcomes,
        }
    }

    /// Where outcomes come.
    pub(super) fn outcomes(&self) -> &Receiver<Outcome> {
        &self.outcomes
    }

    /// Whether work on this pod is going on.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attaching.contains_key(name) || self.detaching.contains_key(name)
    }

    fn is_empty(&self) -> bool {
        self.attaching.is_empty() && self.detaching.is_empty()
    }

    /// Does `work` on a thread of its own, in the namespace of the calling thread.
    pub(super) fn begin(&self, work: impl FnOnce() -> Outcome + Send + 'static) {
        let sender = self.sender.clone();
        let work = move || {
            // Nobody listens when the agent has ended; an interface that was made goes then.
            let _ = sender.send(work());
        };
        let slot = Arc::new(Mutex::new(Some(work)));
        let take = |slot: &Mutex<Option<_>>| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.take()
        };
        let theirs = slot.clone();
        let thread = std::thread::Builder::new().name("pod-job".into());
        let spawned = thread.spawn(move || {
            if let Some(work) = take(&theirs) {
                work();
            }
        });
        if let Err(e) = spawned {
            tracing::warn!("no thread for a pod's interface, others wait: {e}");
            if let Some(work) = take(&slot) {
                work();
            }
        }
    }
}

impl Control {
    /// Ends what a thread has begun.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Made(name, made) => {
                if let Some(attaching) = self.pod_jobs.attaching.remove(&name) {
                    self.attached(&name, attaching, made);
                }
            }
            Outcome::Removed(name, note) => {
                if let Some(detaching) = self.pod_jobs.detaching.remove(&name) {
                    self.detached(&name, detaching, note);
                }
            }
        }
    }

    /// Serves deferred requests; those that still have to wait are deferred again.
    pub(super) fn serve_deferred(&mut self) {
        for request in std::mem::take(&mut self.pod_jobs.deferred) {
            self.serve(request);
        }
    }

    /// Waits until `pending` no longer holds.
    pub(super) fn await_jobs(&mut self, pending: impl Fn(&PodJobs) -> bool) {
        while pending(&self.pod_jobs) {
            // The sender is ours, too.
            let Ok(outcome) = self.pod_jobs.outcomes.recv() else {
                return;
            };
            self.finish(outcome);
        }
    }

    /// Waits until no job is under way.
    pub(super) fn await_all_jobs(&mut self) {
        self.await_jobs(|pod_jobs| !pod_jobs.is_empty());
    }

    /// Defers a request that concerns a pod with a job under way; any other is returned.
    pub(super) fn defer(&mut self, request: Request) -> Option<Request> {
        let waits = match &request {
            Request::Attach(attach, _) => {
                self.pod_jobs.has(&attach.name) || self.is_netns_busy(&attach.netns)
            }
            Request::Detach(Detach::Name(name), _) => self.pod_jobs.has(name),
            Request::Detach(Detach::Interface { netns, .. }, _) => self.is_netns_busy(netns),
            Request::CniAdd(add, _) => {
                self.is_attachment_busy(&add.attachment)
                    || self.is_netns_busy(Path::new(&add.netns))
            }
            Request::CniDel(attachment, _) => self.is_attachment_busy(attachment),
            Request::CniCheck(check, _) => self.is_attachment_busy(&check.attachment),
            _ => false,
        };
        if !waits {
            return Some(request);
        }
        self.pod_jobs.deferred.push(request);
        None
    }

    /// Whether a pod with a job under way has this attachment.
    pub(super) fn is_attachment_busy(&self, attachment: &Attachment) -> bool {
        let name = self.state.by_attachment(attachment);
        name.is_some_and(|name| self.pod_jobs.has(name))
    }

    fn is_netns_busy(&self, netns: &Path) -> bool {
        self.busy_records().any(|record| record.netns == netns)
    }

    fn busy_records(&self) -> impl Iterator<Item = &PodRecord> {
        let names = self.pod_jobs.attaching.keys();
        let names = names.chain(self.pod_jobs.detaching.keys());
        names.filter_map(|name| self.state.pods.get(name))
    }
}
