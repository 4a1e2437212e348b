//! Sources beside the configuration file, as the control plane knows them.
//!
//! ```text
//! saved ──▶ in force before any pod is restored           (what each knew last)
//! Request::Change ──▶ change.rs                           (its news)
//! Local ◀── whenever something of this node is different  (what it tells others)
//! ```
//!
//! Where one of them decides what the node is, the agent may start without pod networks: `ringway0` stands without
//! addresses, ADD and STATUS name what is waited for, and recorded pods are served as soon as their network is known.

use std::sync::Arc;

use ringway_cluster::source::{Local, State, Status};
use ringway_cluster::{Change, Cluster, Contents, Route, Source, Via};
use ringway_cni::api::PodIdentity;
use ringway_config::{Config, Decider};
use ringway_tables::Snapshot;

use super::change::ChangeError;
use super::error::Kind;
use super::tables::{Known, Surroundings};
use super::{Control, ControlError};
use crate::underlay::Underlay;
use crate::view::SourceStatus;

/// What the control plane has to do with them.
pub struct Sources {
    /// Is told how this node is, whenever that is different.
    pub tell: Box<dyn Fn(Local) + Send>,
    /// How each stands.
    pub status: Box<dyn Fn() -> Vec<Status> + Send>,
    /// Takes what an operator should know of the node or of a pod.
    pub notice: Arc<dyn Fn(Notice) + Send + Sync>,
}

/// Something that an operator should know of, beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub about: Subject,
    /// In a word, as `AttachFailed`.
    pub reason: &'static str,
    /// What, and the remedy.
    pub note: String,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// This node.
    Node,
    /// A pod, as Kubernetes knows it.
    Pod(PodIdentity),
}

impl Notice {
    /// That a pod was not attached.
    pub(super) fn not_attached(pod: PodIdentity, error: &ControlError) -> Self {
        let reason = match error.kind() {
            Kind::Full => "AddressesExhausted",
            _ => "AttachFailed",
        };
        let note = format!("{error}; to do: {}", error.remedy());
        Self {
            about: Subject::Pod(pod),
            reason,
            note,
        }
    }
}

impl Default for Sources {
    /// There are none.
    fn default() -> Self {
        Self {
            tell: Box::new(drop),
            status: Box::new(Vec::new),
            notice: Arc::new(drop),
        }
    }
}

/// Puts into the desired state what a source knew last. Where all of it cannot be, as when another node has this
/// one's address now, as much as can: the node, then peer by peer.
pub(super) fn recall(
    cluster: &mut Cluster,
    (config, underlay): (&Config, &Underlay),
    source: &Source,
    contents: Contents,
) {
    let (peers, routes) = (contents.peers.len(), contents.routes.len());
    let mut recall = Recall {
        cluster,
        config,
        underlay,
        source,
    };
    match recall.take(Change::Replace(contents.clone())) {
        Ok(()) => tracing::info!(%source, peers, routes, "in force as it was known last"),
        Err(e) => {
            tracing::warn!(%source, "not all that was known last can be in force: {e}");
            recall.piece_by_piece(contents);
        }
    }
}

struct Recall<'a> {
    cluster: &'a mut Cluster,
    config: &'a Config,
    underlay: &'a Underlay,
    source: &'a Source,
}

impl Recall<'_> {
    fn piece_by_piece(&mut self, contents: Contents) {
        let (own, others): (Vec<Route>, Vec<Route>) = contents
            .routes
            .into_iter()
            .partition(|route| route.via == Via::Node);
        let node = Contents {
            node: contents.node,
            peers: Vec::new(),
            routes: own,
        };
        self.try_take("the node", Change::Replace(node));
        for peer in contents.peers {
            let name = peer.name.clone();
            self.try_take(&name, Change::SetPeer(peer));
        }
        for route in others {
            let prefix = route.prefix.to_string();
            self.try_take(&prefix, Change::SetRoute(route));
        }
    }

    fn try_take(&mut self, what: &str, change: Change) {
        if let Err(e) = self.take(change) {
            tracing::warn!(source = %self.source, "{what} is left out: {e}");
        }
    }

    /// The tables are asked, too: what they refuse must not keep the agent from starting.
    fn take(&mut self, change: Change) -> Result<(), ChangeError> {
        let around = Surroundings {
            config: self.config,
            underlay: self.underlay,
            known: &|_| Known::default(),
        };
        let whole = matches!(change, Change::Replace(_));
        self.cluster.update_if(self.source, change, |state, plan| {
            around.underlay.check_plan(around.config, state, &plan)?;
            if whole {
                let all = ringway_cluster::diff(&ringway_cluster::State::default(), state);
                let mut tables = Snapshot::default();
                around
                    .apply(&mut tables, &all, state)
                    .map_err(ChangeError::Refused)?;
            }
            Ok(())
        })
    }
}

impl Control {
    /// This node as it is in force.
    pub(super) fn local(&self) -> Local {
        let (config, state) = (&self.config, self.cluster.state());
        let encap = config.underlay.encap;
        Local {
            node: state.node.clone(),
            addresses: self.underlay.addresses(),
            encap,
            vni: config.underlay.vni,
            port: config.port(encap),
            pod_mtu: self.underlay.pod_mtu(config, state),
            forwards: !state.node.cidrs.is_empty(),
        }
    }

    /// Tells sources, and who asks for the node's health, what is different about it now.
    pub(super) fn tell_sources(&mut self) {
        let local = self.local();
        let ready = match local.forwards {
            true => Ok(()),
            false => Err(self.no_network().to_string()),
        };
        self.health.set_ready(ready);
        self.keep_subnet_env(&local);
        if self.told.as_ref() == Some(&local) {
            return;
        }
        let forwarded = self.told.as_ref().is_some_and(|told| told.forwards);
        if local.forwards && !forwarded {
            tracing::info!(
                node = %local.node.name, pod_cidrs = ?local.node.cidrs, mtu = local.pod_mtu,
                "packets of pods are forwarded"
            );
        }
        (self.sources.tell)(local.clone());
        self.told = Some(local);
    }

    /// The node has no pod network: what is waited for.
    pub(super) fn no_network(&self) -> ControlError {
        let (config, decider) = (&self.config, self.config.decider());
        let node = config.node_name().to_owned();
        let stands = (self.sources.status)();
        let away = stands.iter().find(|s| s.state != State::Current);
        let (why, remedy) = match (decider, away.and_then(|s| s.error.clone())) {
            (Decider::File, _) => (
                "nobody has given one".to_owned(),
                "set node.pod_cidrs".to_owned(),
            ),
            (_, Some(error)) => (
                format!("{} does not answer: {error}", decider.name()),
                "see `ringway status`; it is asked again by itself".to_owned(),
            ),
            (Decider::Kubernetes, None) => (
                "its Node object has no pod CIDR".to_owned(),
                format!(
                    "`kubectl get node {node} -o jsonpath={{.spec.podCIDRs}}` shows them; \
                     kube-controller-manager gives them with --allocate-node-cidrs and --cluster-cidr"
                ),
            ),
            (Decider::Etcd, None) => (
                "no subnet is leased in etcd".to_owned(),
                format!(
                    "`etcdctl get --prefix {}/` shows the configuration and the leases",
                    config.etcd.as_ref().map_or("", |etcd| &etcd.prefix)
                ),
            ),
        };
        ControlError::NoNetwork { node, why, remedy }
    }

    /// For `ringway status`.
    pub(super) fn source_status(&self) -> Vec<SourceStatus> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let shown = |status: Status| SourceStatus {
            confirmed_ago_s: status.confirmed_s.map(|at| now.saturating_sub(at)),
            name: status.name,
            state: status.state,
            error: status.error,
            problems: status.problems,
        };
        (self.sources.status)().into_iter().map(shown).collect()
    }
}
