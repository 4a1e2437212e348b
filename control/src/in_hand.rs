//! Work in pods' namespaces, beside the control thread.
//!
//! ```text
//! control:  check, record as pending ─┐                           ┌─ record, publish, workers, answer
//! attach:                             └ make it, tell the node ───┘
//! control:  unpublish, workers ───────┐                           ┌─ forget, answer, close
//! detach:                             └ untell, let it vanish ────┘
//! ```
//!
//! To make an interface or to take one away takes the kernel's lock for all interfaces of the machine (RTNL)
//! up to twenty times, and whoever else holds it holds it long: to take a namespace apart some ten
//! milliseconds, on a busy machine a hundred. Pods that are attached and detached at the same time wait for
//! it at the same time, each on a thread of its own, and the control thread does not wait.
//!
//! A pod that is in hand is recorded, so its addresses are nobody else's. What concerns it or its namespace
//! is put off until it is not in hand any more.

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

/// The pods in hand.
pub(super) struct InHand {
    pub(super) attaching: BTreeMap<String, Attaching>,
    pub(super) detaching: BTreeMap<String, Detaching>,
    /// Requests that were put off.
    put_off: Vec<Request>,
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

impl InHand {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = unbounded();
        Self {
            attaching: BTreeMap::new(),
            detaching: BTreeMap::new(),
            put_off: Vec::new(),
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
        let thread = std::thread::Builder::new().name("in hand".into());
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
                if let Some(attaching) = self.in_hand.attaching.remove(&name) {
                    self.attached(&name, attaching, made);
                }
            }
            Outcome::Removed(name, note) => {
                if let Some(detaching) = self.in_hand.detaching.remove(&name) {
                    self.detached(&name, detaching, note);
                }
            }
        }
    }

    /// Serves what was put off; what still has to wait is put off again.
    pub(super) fn serve_put_off(&mut self) {
        for request in std::mem::take(&mut self.in_hand.put_off) {
            self.serve(request);
        }
    }

    /// Until no pod is in hand for which `meant` holds.
    pub(super) fn await_in_hand(&mut self, meant: impl Fn(&InHand) -> bool) {
        while meant(&self.in_hand) {
            // The sender is ours, too.
            let Ok(outcome) = self.in_hand.outcomes.recv() else {
                return;
            };
            self.finish(outcome);
        }
    }

    /// Until no pod is in hand.
    pub(super) fn await_all_in_hand(&mut self) {
        self.await_in_hand(|in_hand| !in_hand.is_empty());
    }

    /// Puts a request off, if it concerns a pod in hand; otherwise it is returned.
    pub(super) fn put_off(&mut self, request: Request) -> Option<Request> {
        let waits = match &request {
            Request::Attach(attach, _) => {
                self.in_hand.has(&attach.name) || self.netns_in_hand(&attach.netns)
            }
            Request::Detach(Detach::Name(name), _) => self.in_hand.has(name),
            Request::Detach(Detach::Interface { netns, .. }, _) => self.netns_in_hand(netns),
            Request::CniAdd(add, _) => {
                self.attachment_in_hand(&add.attachment)
                    || self.netns_in_hand(Path::new(&add.netns))
            }
            Request::CniDel(attachment, _) => self.attachment_in_hand(attachment),
            Request::CniCheck(check, _) => self.attachment_in_hand(&check.attachment),
            _ => false,
        };
        if !waits {
            return Some(request);
        }
        self.in_hand.put_off.push(request);
        None
    }

    /// Whether a pod in hand is what a container runtime calls so.
    pub(super) fn attachment_in_hand(&self, attachment: &Attachment) -> bool {
        let name = self.state.by_attachment(attachment);
        name.is_some_and(|name| self.in_hand.has(name))
    }

    fn netns_in_hand(&self, netns: &Path) -> bool {
        self.records_in_hand().any(|record| record.netns == netns)
    }

    fn records_in_hand(&self) -> impl Iterator<Item = &PodRecord> {
        let names = self.in_hand.attaching.keys();
        let names = names.chain(self.in_hand.detaching.keys());
        names.filter_map(|name| self.state.pods.get(name))
    }
}
