//! The node's kernel, kept as the configuration and the pods want it: the node port once a second and when the
//! kernel tells of a change; the rules beside it. What others change is set again, see
//! [`ringway_kernel::reconcile`].

use std::time::{Duration, Instant};

use ringway_kernel::node::{NodePort, Presence};
use ringway_kernel::reconcile::{self, PauseTooLong};
use ringway_tables::PortId;

use super::{Control, ControlError, desired};
use crate::view::{Condition, ReconcileStatus};

/// The part of the time that rules may take when routes change one by one.
const SHARE: u32 = 20;

/// The node port, and from which MTU of the underlay its own follows.
pub(super) struct Node {
    pub(super) port: NodePort,
    pub(super) outer_mtu: u32,
    pub(super) rules: Pace,
}

/// When the rules follow the routes: with ten thousand networks apart from each other the kernel takes a second
/// to set them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    due: bool,
    set: Option<Instant>,
    cost: Duration,
}

impl Pace {
    fn permits(&self, now: Instant) -> bool {
        let since = |set: Instant| now.saturating_duration_since(set);
        self.set.is_none_or(|set| since(set) >= self.cost * SHARE)
    }
}

impl Control {
    /// Once a second.
    pub(super) fn reconcile(&mut self) {
        let now = Instant::now();
        if self.node.outer_mtu != self.underlay.mtu {
            self.want_node();
        }
        if self.node.rules.due {
            self.want_rules_in_time();
        }
        self.want_pods();
        let kept = self.state.before.clone();
        let before = &mut self.state.before;
        match self.node.port.look(before, &mut self.ledger, now) {
            Presence::Present => {}
            Presence::Gone => self.make_node_port(now),
        }
        self.rules.look(&mut self.ledger, now);
        if self.state.before != kept {
            // Logged if it fails, and tried again.
            let _ = self.save();
        }
    }

    /// Hands what is asked of the node's kernel to it, at once: the node port with its routes, and
    /// the rules.
    pub(super) fn want_node(&mut self) {
        // What is on the bridge comes before what the node port takes from it.
        self.follow_left(Instant::now());
        if self.left.failure().is_some() {
            return;
        }
        let state = self.cluster.state();
        let mtu = self.underlay.pod_mtu(&self.config, state);
        let spec = desired::node_spec(&self.config, state, mtu);
        let before = &mut self.state.before;
        self.node.port.want(spec, before, &mut self.ledger);
        self.node.outer_mtu = self.underlay.mtu;
        self.want_rules();
    }

    /// The rules alone, at once or later: until then a connection that the node translates to pods of a new
    /// peer is masqueraded, which works as well.
    pub(super) fn want_rules_in_time(&mut self) {
        self.node.rules.due = true;
        if self.node.rules.permits(Instant::now()) {
            self.want_rules();
        }
    }

    fn want_rules(&mut self) {
        let begin = Instant::now();
        let accept_forward = self.config.egress.accept_forward;
        let rules = desired::rules(&self.config, self.cluster.state());
        if let Err(e) = self.rules.want(rules, accept_forward) {
            tracing::error!("the rules for the changed cluster cannot be set: {e}");
        }
        self.node.rules = Pace {
            due: false,
            set: Some(Instant::now()),
            cost: begin.elapsed(),
        };
    }

    /// Tells which pods the node's stack knows, and whether any has host ports.
    pub(super) fn want_pods(&mut self) {
        let pods = self.pods.values().flat_map(|pod| {
            let mac = pod.record.mac;
            pod.record.ips.iter().map(move |ip| (*ip, mac))
        });
        self.node.port.want_pods(pods);
        self.want_localnet();
    }

    /// Has packets to 127.0.0.1 come back by the node port while there are host ports.
    pub(super) fn want_localnet(&mut self) {
        let localnet = self.rules.has_host_ports();
        let before = &mut self.state.before;
        self.node
            .port
            .want_localnet(localnet, before, &mut self.ledger);
    }

    /// Makes the node port again that somebody has deleted, or moved to another namespace.
    fn make_node_port(&mut self, now: Instant) {
        let gone = self.node.port.gone();
        if !self.ledger.permits(&gone, now) {
            return;
        }
        if let Some(queues) = self.take_from_workers(PortId::NODE) {
            ringway_kernel::pod::interface::remove(&queues);
        }
        let before = &mut self.state.before;
        let workers = self.config.workers.count;
        match self.node.port.make_again(workers, before, &mut self.ledger) {
            Ok(queues) => {
                self.hand_to_workers(PortId::NODE, queues, None);
                self.ledger.restored(gone, now);
            }
            Err(e) => self.ledger.failed(&gone, e.to_string(), true, now),
        }
    }

    /// Leaves what others change as it is for so long.
    pub(super) fn pause_reconciling(
        &mut self,
        duration: Duration,
    ) -> Result<Duration, PauseTooLong> {
        self.ledger.pause(duration, Instant::now())?;
        tracing::warn!(
            seconds = duration.as_secs(),
            "reconciling is paused: what others change on this node stays"
        );
        Ok(duration)
    }

    /// Ends that; false if there was no pause.
    pub(super) fn resume_reconciling(&mut self) -> bool {
        let paused = self.ledger.resume();
        if paused {
            tracing::info!("reconciling is resumed: what others change on this node is restored");
            self.reconcile();
        }
        paused
    }

    /// For `ringway status`.
    pub(super) fn reconcile_status(&self) -> ReconcileStatus {
        ReconcileStatus {
            restored: self.ledger.restored_count(),
            last_restored: self.ledger.last_restored().map(str::to_owned),
            paused_s: self
                .ledger
                .paused(Instant::now())
                .map(|left| left.as_secs().max(1)),
        }
    }

    /// All that is not as it should be and stays so.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let now = Instant::now();
        let outdated = self.outer.condition(&self.underlay);
        let all = self.ledger.conditions(now).into_iter().chain(outdated);
        let all = all.chain(self.left.conditions());
        let all = all.chain(self.unreachable.conditions());
        let all = all.chain(self.bereft.conditions());
        let all = all.chain(self.peer_conditions());
        let all = all.chain(self.node.port.overrides());
        let all = all.chain(self.rules.conditions().iter().cloned());
        all.map(|condition| shown(condition, now)).collect()
    }

    /// Whether the node's kernel is as it should be, for a container runtime that asks.
    pub(super) fn check_node(&self) -> Result<(), ControlError> {
        let conditions = self.ledger.conditions(Instant::now());
        let Some(first) = conditions.first() else {
            return Ok(());
        };
        let more = match conditions.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        Err(ControlError::Node {
            why: format!("{first}{more}"),
        })
    }
}

fn shown(condition: reconcile::Condition, now: Instant) -> Condition {
    let since_s = now.saturating_duration_since(condition.since).as_secs();
    Condition {
        what: condition.what,
        wanted: condition.wanted,
        found: condition.found,
        why: condition.why,
        since_s,
    }
}
