//! Looking after the node port: what somebody else changes on it is set again.
//!
//! Settings, link and addresses are looked at once a second; routes and neighbours, which may be many, when the
//! kernel tells of a change, and now and then although it has told of none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ringway_tables::PortId;

use super::Control;
use crate::api::ApiError;
use crate::api::view::NodePortStatus;
use crate::netlink::{Change, NetlinkError};
use crate::node::{self, Desired, Look};
use crate::pod::interface;

/// How often everything is looked at although nobody has told of a change.
const LOOK: Duration = Duration::from_secs(30);
/// Whole looks may take this part of the time at most: the routes of others have to be read, too.
const SHARE: u32 = 20;
/// Different texts that are kept from being logged again.
const SAID: usize = 256;

/// What is known of the node port.
#[derive(Debug)]
pub(super) struct NodePort {
    /// Index of its interface.
    index: u32,
    /// Somebody has changed something since the last whole look.
    told: bool,
    looked: Instant,
    /// What the last whole look took.
    cost: Duration,
    /// What was logged already.
    said: BTreeSet<String>,
    /// Things set again so far.
    mended: u64,
    last: Option<String>,
    /// What cannot be set.
    failure: Option<String>,
}

impl NodePort {
    /// One that has just been set up.
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            told: false,
            looked: Instant::now(),
            cost: Duration::ZERO,
            said: BTreeSet::new(),
            mended: 0,
            last: None,
            failure: None,
        }
    }

    /// Takes note of what the kernel tells.
    pub(super) fn hear(&mut self, changes: &[Change]) {
        self.told |= changes.iter().any(|change| match change {
            Change::Overrun | Change::Addresses | Change::Routes => true,
            Change::Link { index } | Change::Neighbour { index, .. } => *index == self.index,
        });
    }

    /// For `ringway status`.
    pub(super) fn status(&self) -> NodePortStatus {
        NodePortStatus {
            mended: self.mended,
            last_mended: self.last.clone(),
            failure: self.failure.clone(),
        }
    }

    /// Whether it is as it should be.
    pub(super) fn check(&self, interface: &str) -> Result<(), ApiError> {
        match &self.failure {
            None => Ok(()),
            Some(e) => Err(ApiError::internal(
                format!("{interface}, the node port, is not as it should be: {e}"),
                "see the error; it is tried again once a second",
            )),
        }
    }

    fn take(&mut self, interface: &str, look: Look) {
        for text in look.mended {
            self.mended += 1;
            if self.said.len() < SAID && self.said.insert(text.clone()) {
                tracing::warn!(
                    interface,
                    "somebody changed the node port; set again: {text}"
                );
            }
            self.last = Some(text);
        }
        let failure = (!look.failed.is_empty()).then(|| look.failed.join("; "));
        if failure != self.failure {
            match &failure {
                Some(e) => tracing::error!(interface, "the node port cannot be set right: {e}"),
                None => tracing::info!(interface, "the node port is as it should be again"),
            }
        }
        self.failure = failure;
    }
}

impl Control {
    /// Once a second.
    pub(super) fn look_at_node_port(&mut self) {
        let since = self.node_port.looked.elapsed();
        let told = self.node_port.told && since >= self.node_port.cost * SHARE;
        let whole = told || since >= LOOK;
        let desired = self.desired_node_port();
        let begin = Instant::now();
        let index = self.node_port.index;
        let before = &mut self.state.before;
        let look = match self.netlink.link_at(index) {
            Ok(None) => self.make_node_port(),
            _ => node::mend(&mut self.netlink, &desired, index, before, whole),
        };
        // A look that has found something is followed by a whole one: what was there may have gone along.
        self.node_port.told = !look.mended.is_empty() || (self.node_port.told && !whole);
        if whole {
            self.node_port.looked = Instant::now();
            self.node_port.cost = begin.elapsed();
        }
        if !look.mended.is_empty() {
            // What settings were before; logged if it fails, and tried again.
            let _ = self.save();
        }
        self.node_port.take(&desired.name, look);
    }

    fn desired_node_port(&self) -> Desired {
        let mtu = self.underlay.pod_mtu(&self.config);
        let pods = self.pods.values().flat_map(|pod| {
            let mac = pod.record.mac;
            pod.record.ips.iter().map(move |ip| (*ip, mac))
        });
        Desired::of(&self.config, mtu).with(pods, self.rules.has_host_ports())
    }

    /// Makes the node port again that somebody has deleted, or moved to another namespace.
    fn make_node_port(&mut self) -> Look {
        let mut look = Look::default();
        if let Some(queues) = self.take_from_workers(PortId::NODE) {
            interface::remove(&queues);
        }
        let mtu = self.underlay.pod_mtu(&self.config);
        let (config, workers) = (&self.config, self.config.workers.count);
        let before = &mut self.state.before;
        let made = node::setup(&mut self.netlink, config, mtu, workers, before);
        let index = self.netlink.link(&config.node.interface).map(|l| l.index);
        match (made, index) {
            (Ok(queues), Ok(index)) => {
                self.node_port.index = index;
                self.hand_to_workers(PortId::NODE, queues, None);
                look.mended.push("the interface, which was gone".into());
            }
            (Err(e), _) => look.failed.push(e.to_string()),
            (_, Err(e)) => look.failed.push(NetlinkError::to_string(&e)),
        }
        look
    }
}
