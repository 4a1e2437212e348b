//! Looking after the node port: what somebody else changes on it is set again.
//!
//! Settings, link and addresses are looked at once a second; neighbours and routes, which may be many, when the
//! kernel tells of a change of theirs, and now and then although it has told of none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ringway_kernel::netlink::{Change, NetlinkError};
use ringway_kernel::node::{self, Desired, Look, Many};
use ringway_kernel::pod::interface;
use ringway_tables::PortId;

use super::{Control, desired};
use crate::api::ApiError;
use crate::api::view::NodePortStatus;

/// How often routes and neighbours are looked at although nobody has told of a change.
const LOOK: Duration = Duration::from_secs(30);
/// Looks at routes may take this part of the time at most, for those of others have to be read, too: when a
/// change was told, and when not.
const SHARE: u32 = 20;
const IDLE_SHARE: u32 = 1000;
/// Different texts that are kept from being logged again.
const SAID: usize = 256;

const ALL: Many = Many {
    neighbours: true,
    routes: true,
};

/// What is known of the node port.
#[derive(Debug)]
pub(super) struct NodePort {
    /// Index of its interface.
    index: u32,
    /// Its MTU, and that of the underlay from which it follows.
    mtu: u16,
    outer_mtu: u32,
    /// What somebody has changed since it was looked at last.
    told: Many,
    /// When routes were looked at last.
    looked: Instant,
    /// What that took.
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
    pub(super) fn new(index: u32, mtu: u16, outer_mtu: u32) -> Self {
        Self {
            index,
            mtu,
            outer_mtu,
            told: Many::default(),
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
        for change in changes {
            match change {
                Change::Overrun => self.told = ALL,
                // Addresses and the interface take routes and neighbours along.
                Change::Addresses => self.told = ALL,
                Change::Link { index } if *index == self.index => self.told = ALL,
                Change::Routes => self.told.routes = true,
                Change::Neighbour { index, .. } if *index == self.index => {
                    self.told.neighbours = true;
                }
                Change::Link { .. } | Change::Neighbour { .. } => {}
            }
        }
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
        if self.node_port.outer_mtu != self.underlay.mtu {
            // Asks for every peer's network.
            self.node_port.mtu = self.underlay.pod_mtu(&self.config);
            self.node_port.outer_mtu = self.underlay.mtu;
        }
        let port = &mut self.node_port;
        let since = port.looked.elapsed();
        let due = since >= LOOK.max(port.cost * IDLE_SHARE);
        let many = Many {
            neighbours: port.told.neighbours || due,
            routes: due || (port.told.routes && since >= port.cost * SHARE),
        };
        port.told.neighbours = false;
        port.told.routes &= !many.routes;
        let pods = self.pods.values().filter(|_| many.neighbours);
        let pods = pods.flat_map(|pod| {
            let mac = pod.record.mac;
            pod.record.ips.iter().map(move |ip| (*ip, mac))
        });
        let localnet = self.rules.has_host_ports();
        let spec = desired::node_spec(&self.config, port.mtu);
        let desired = Desired::of(&spec).with(pods, localnet);
        let begin = Instant::now();
        let before = &mut self.state.before;
        let look = match self.netlink.link_at(port.index) {
            Ok(None) => self.make_node_port(),
            _ => {
                let netlink = &mut self.netlink;
                node::mend(netlink, &desired, &spec, port.index, before, many)
            }
        };
        if many.routes {
            self.node_port.looked = Instant::now();
            self.node_port.cost = begin.elapsed();
        }
        if look != Look::default() {
            // What was changed may have taken more along; what failed is tried again.
            self.node_port.told = ALL;
        }
        if !look.mended.is_empty() {
            // What settings were before; logged if it fails, and tried again.
            let _ = self.save();
        }
        self.node_port.take(&desired.name, look);
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
        let made = node::setup(
            &mut self.netlink,
            &desired::node_spec(config, mtu),
            workers,
            before,
        );
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
