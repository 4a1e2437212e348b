//! A change of the desired state, put into force, whatever source it comes from.
//!
//! ```text
//! source ─ Change ─▶ Cluster ─ plan ─▶ prepared: checked, sockets opened, tables made
//!                       ▲                 │ refused               │ agreed
//!                       └── as it was ────┘                       ▼
//!                                     sockets ─ tables, published once ─ kernel ─ next hops
//! ```
//!
//! All that can be refused is refused before anything is in force; then the desired state is as it was, and so is
//! all the rest. Who receives by another encapsulation does so before anybody sends by it. A plan costs what it
//! changes: one route among 100,000 is with the workers in microseconds.

use std::net::IpAddr;
use std::time::Instant;

use ringway_cluster::{Change, ClusterError, Node, Plan, Source, Step, Via};
use ringway_config::ipam::AddressPool;
use ringway_config::{Config, EncapKind, Problem};
use ringway_tables::{Cidr, Snapshot};
use ringway_worker::{self as worker, Command};

use super::acquire::open_sockets;
use super::state;
use super::tables::{Known, Surroundings, accepted};
use super::{Control, Descriptors};
use crate::underlay::Unsuited;
use crate::view::SocketStatus;

/// Routes of a plan that are set one by one; of more all that is wanted is compared.
const ONE_BY_ONE: usize = 1000;
/// Names in a message.
const NAMED: usize = 3;

/// Why a change is refused. What was in force stays so.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It contradicts itself, or what other sources say.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// This node's underlay does not suit it.
    #[error(transparent)]
    Underlay(#[from] Unsuited),
    /// Pods would lose their network.
    #[error("{0}")]
    Pods(Box<Problem>),
    /// Sockets for an encapsulation, or the tables.
    #[error("{0:#}")]
    Refused(anyhow::Error),
}

impl ChangeError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            // The message says it.
            Self::Cluster(_) => "see the message".into(),
            Self::Underlay(unsuited) => unsuited.problem.remedy(),
            Self::Pods(problem) => problem.remedy(),
            Self::Refused(_) => {
                "correct what the source says, or detach the pods that are in its way".into()
            }
        }
    }
}

/// Everything that a change needs, made and not yet in force.
pub(super) struct PreparedChange {
    plan: Plan,
    sockets: NewSockets,
    tables: Snapshot,
}

/// Sockets for encapsulations that had none.
#[derive(Default)]
struct NewSockets {
    of_worker: Vec<Vec<worker::UnderlaySocket>>,
    descriptors: Descriptors,
    status: Vec<SocketStatus>,
}

impl Control {
    /// This node, as the sources want it.
    pub(super) fn this_node(&self) -> &Node {
        &self.cluster.state().node
    }

    /// Takes a change that a source tells of.
    ///
    /// # Errors
    /// It is refused, and all stays as it was.
    pub(super) fn change(&mut self, source: &Source, change: Change) -> Result<(), ChangeError> {
        let begin = Instant::now();
        match self.prepare_change(source, change, None) {
            Ok(prepared) => {
                let steps = prepared.plan.steps().len();
                self.put_into_force(prepared, None);
                let elapsed_us = begin.elapsed().as_micros() as u64;
                tracing::debug!(%source, steps, elapsed_us, "the cluster has changed");
                Ok(())
            }
            Err(e) => {
                tracing::warn!(%source, "the cluster stays as it was: {e}; to do: {}", e.remedy());
                Err(e)
            }
        }
    }

    /// Puts into force what was prepared, with `next` as the configuration, if there is another.
    pub(super) fn put_into_force(&mut self, prepared: PreparedChange, next: Option<Config>) {
        let PreparedChange {
            plan,
            sockets,
            mut tables,
        } = prepared;
        let other = next.is_some();
        if let Some(next) = next {
            self.config = next;
        }
        self.use_sockets(sockets);
        tables.accepted = accepted(&self.config, self.descriptors.encaps());
        if other || !plan.is_empty() {
            self.publish(tables);
        }
        self.follow_plan(&plan, other);
        self.tell_sources();
    }

    /// Makes everything that a change needs, with `next` as the configuration, if there is another.
    ///
    /// # Errors
    /// It is refused, and all stays as it was.
    pub(super) fn prepare_change(
        &mut self,
        source: &Source,
        change: Change,
        next: Option<&Config>,
    ) -> Result<PreparedChange, ChangeError> {
        let Control {
            cluster,
            config,
            underlay,
            publisher,
            workers,
            descriptors,
            path_mtus,
            next_hops,
            state: recorded,
            ..
        } = self;
        let config = next.unwrap_or(config);
        let before = cluster.state().node.clone();
        let known = |dst: IpAddr| {
            let learnt = path_mtus.get(dst).map(u32::from);
            let hop = next_hops.get(dst).and_then(|hop| hop.resolved());
            Known {
                mtu: learnt.into_iter().chain(next_hops.mtu(dst)).min(),
                next_hop: hop.map(|hop| (hop.mac, hop.src_mac)),
            }
        };
        cluster.update_if(source, change, |state, plan| {
            underlay.check_plan(config, state, &plan)?;
            keeps_pods(&before, &state.node, recorded)
                .map_err(|problem| ChangeError::Pods(problem.into()))?;
            let has: Vec<EncapKind> = descriptors.encaps().collect();
            let mut encaps = state.encaps(config.underlay.encap);
            encaps.retain(|kind| !has.contains(kind));
            let mut sockets = NewSockets::default();
            let mut tables = Snapshot::clone(&publisher.current());
            let around = Surroundings {
                config,
                underlay,
                known: &known,
            };
            around
                .apply(&mut tables, &plan, state)
                .map_err(ChangeError::Refused)?;
            for worker in workers.iter().filter(|_| !encaps.is_empty()) {
                let which = (encaps.as_slice(), worker.index());
                let (descriptors, status) = (&mut sockets.descriptors, &mut sockets.status);
                let opened = open_sockets(config, underlay, which, descriptors, status)
                    .map_err(ChangeError::Refused)?;
                sockets.of_worker.push(opened);
            }
            Ok(PreparedChange {
                plan,
                sockets,
                tables,
            })
        })
    }

    /// Those that are not in use any more stay, for what is on the way, until the next start.
    fn use_sockets(&mut self, mut new: NewSockets) {
        if new.of_worker.is_empty() {
            return;
        }
        for (worker, sockets) in self.workers.iter().zip(new.of_worker) {
            for socket in sockets {
                worker.send(Command::SetSocket(Box::new(socket)));
            }
        }
        self.descriptors
            .sockets
            .append(&mut new.descriptors.sockets);
        self.sockets.append(&mut new.status);
        // Their program knows the ports it began with; they are opened anew within a second.
        self.rings.close(&self.workers, &mut self.descriptors);
    }

    /// Has the kernel, the addresses to give out and the next hops follow. `other`: so does the configuration.
    fn follow_plan(&mut self, plan: &Plan, other: bool) {
        let node = |step: &Step| matches!(step, Step::SetNode(_));
        let peer = |step: &Step| matches!(step, Step::SetPeer(_) | Step::RemovePeer(_));
        let nodes = plan.steps().iter().any(node);
        let peers = plan.steps().iter().any(peer);
        let mtu = self.underlay.pod_mtu(&self.config, self.cluster.state());
        if other || nodes || mtu != self.node.port.spec().mtu {
            self.want_node();
        } else {
            self.want_routes(plan);
        }
        if other || nodes {
            self.pools = AddressPool::of_families(
                &self.cluster.state().node.cidrs,
                &self.config.ipam.ranges,
                &self.config.ipam.exclude,
            );
        }
        if other || nodes || peers {
            self.find_next_hops();
        }
        if nodes {
            self.restore_waiting();
        }
    }

    /// Has the kernel's routes and rules follow what a plan says of peers' prefixes.
    fn want_routes(&mut self, plan: &Plan) {
        let (mut added, mut removed): (Vec<Cidr>, Vec<Cidr>) = Default::default();
        for step in plan.steps() {
            match step {
                Step::SetRoute(route) if matches!(route.via, Via::Peer(_)) => {
                    added.push(route.prefix);
                }
                // What is this node's own now is no route to a peer any more.
                Step::SetRoute(route) => removed.push(route.prefix),
                Step::RemoveRoute(prefix) => removed.push(*prefix),
                Step::SetNode(_) | Step::SetPeer(_) | Step::RemovePeer(_) => {}
            }
        }
        match added.len() + removed.len() {
            0 => return,
            // One by one they would move the rest each time.
            n if n > ONE_BY_ONE => return self.want_node(),
            _ => {}
        }
        let before = &mut self.state.before;
        self.node
            .port
            .change_routes(&added, &removed, before, &mut self.ledger);
        self.want_rules_in_time();
    }
}

/// Pods keep their network and their gateway as long as they are there.
fn keeps_pods(now: &Node, next: &Node, recorded: &state::State) -> Result<(), Problem> {
    for cidr in now.cidrs.iter() {
        let lost = |ip: &IpAddr| {
            now.cidr_of(*ip) == Some(*cidr)
                && (next.cidr_of(*ip) != Some(*cidr) || next.gateway_of(*ip) != now.gateway_of(*ip))
        };
        let pods: Vec<&str> = recorded
            .pods
            .iter()
            .filter(|(_, record)| record.ips.iter().any(lost))
            .map(|(name, _)| name.as_str())
            .collect();
        if !pods.is_empty() {
            let more = if pods.len() > NAMED { ", …" } else { "" };
            let some = pods[..pods.len().min(NAMED)].join(", ");
            return Err(Problem::CidrInUse {
                value: cidr.to_string(),
                pods: format!("{} ({some}{more})", pods.len()),
            });
        }
    }
    Ok(())
}
