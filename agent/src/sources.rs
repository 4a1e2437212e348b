//! The sources beside the configuration file: what each knew last, and the threads that follow what they read.
//!
//! ```text
//! prepare ─ what was saved ─▶ acquire, assemble (in force before any pod is restored)
//! start ─ a thread for each ── Change ──▶ control ── Local ──▶ the same thread
//! ```

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::bounded;
use ringway_cluster::flannel::{BackendConf, NetConf};
use ringway_cluster::source::{Apply, Local, State, Status};
use ringway_cluster::{Contents, Source};
use ringway_config::{Config, EncapKind, NetworkDefaults};
use ringway_control::takeover::Names;
use ringway_control::{Notice, Reply, Request, Requests};
use tokio::sync::watch;

/// How long a start waits for Flannel's `net-conf.json`, where none is on record.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes what an operator should know.
type Notify = Box<dyn Fn(Notice) + Send + Sync>;
/// Starts a source.
type Spawn = Box<
    dyn FnOnce(watch::Receiver<Local>, Apply, watch::Sender<Status>) -> io::Result<Started> + Send,
>;

/// A source at work.
pub struct Started {
    /// Ends it.
    pub stop: Box<dyn FnOnce() + Send>,
    /// Where it shows an operator what he should know, if it can.
    pub notify: Option<Notify>,
}

/// A source that is to be started.
pub struct Prepared {
    name: &'static str,
    contents: Option<Contents>,
    spawn: Spawn,
}

impl Prepared {
    /// One of this name, with what it knew last.
    pub fn new(name: &'static str, contents: Option<Contents>, spawn: Spawn) -> Self {
        Self {
            name,
            contents,
            spawn,
        }
    }
}

/// All of them, before the agent has anything.
pub struct Sources {
    prepared: Vec<Prepared>,
    /// Once control has said how this node is.
    local: Arc<OnceLock<watch::Sender<Local>>>,
    status: Vec<(watch::Sender<Status>, watch::Receiver<Status>)>,
    notify: Arc<OnceLock<Notify>>,
}

/// All of them, at work.
pub struct Running {
    stops: Vec<Box<dyn FnOnce() + Send>>,
}

impl Sources {
    /// These.
    pub fn new(prepared: Vec<Prepared>) -> Self {
        let status = prepared.iter().map(|source| {
            let state = match source.contents {
                Some(_) => State::Stale,
                None => State::Waiting,
            };
            watch::channel(Status {
                name: source.name.into(),
                state,
                ..Status::default()
            })
        });
        Self {
            status: status.collect(),
            prepared,
            local: Arc::default(),
            notify: Arc::default(),
        }
    }

    /// What each knew last.
    pub fn saved(&mut self) -> Vec<(Source, Contents)> {
        let all = self.prepared.iter_mut();
        all.filter_map(|source| Some((Source::new(source.name), source.contents.take()?)))
            .collect()
    }

    /// What the control plane has to do with them.
    pub fn for_control(&self) -> ringway_control::Sources {
        let (local, notify) = (self.local.clone(), self.notify.clone());
        let status: Vec<_> = self.status.iter().map(|(_, seen)| seen.clone()).collect();
        ringway_control::Sources {
            tell: Box::new(move |now| {
                let sender = local.get_or_init(|| watch::channel(now.clone()).0);
                sender.send_replace(now);
            }),
            status: Box::new(move || status.iter().map(|seen| seen.borrow().clone()).collect()),
            notice: Arc::new(move |notice| {
                // Before a source can, the log has to do.
                if let Some(notify) = notify.get() {
                    notify(notice);
                }
            }),
        }
    }

    /// Starts them, once control has said how this node is, as it does when it is assembled.
    ///
    /// # Errors
    /// It has not, or one cannot be started; those before it are stopped again.
    pub fn start(self, requests: &Requests) -> anyhow::Result<Running> {
        let mut running = Running { stops: Vec::new() };
        let Some(local) = self.local.get() else {
            anyhow::bail!("the control plane has not said how this node is");
        };
        for (source, (status, _)) in self.prepared.into_iter().zip(self.status) {
            let apply = apply(Source::new(source.name), requests.clone());
            let started = (source.spawn)(local.subscribe(), apply, status)
                .map_err(|e| anyhow::anyhow!("starting the source {}: {e}", source.name))?;
            running.stops.push(started.stop);
            if let Some(notify) = started.notify {
                // One of them at most can.
                let _ = self.notify.set(notify);
            }
        }
        Ok(running)
    }
}

impl Running {
    /// Stops them.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for stop in std::mem::take(&mut self.stops) {
            stop();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands changes to the control plane and waits until each is in force or refused.
fn apply(source: Source, requests: Requests) -> Apply {
    Box::new(move |change| {
        let ends = || "the agent is stopping".to_owned();
        let (sender, answer) = bounded(1);
        let reply: Reply<Result<(), ringway_control::ChangeError>> = Box::new(move |outcome| {
            let outcome = outcome.map_err(|e| format!("{e}; to do: {}", e.remedy()));
            let _ = sender.send(outcome);
        });
        let request = Request::Change(source.clone(), Box::new(change), reply);
        requests.send(request).map_err(|_| ends())?;
        answer.recv().map_err(|_| ends())?
    })
}

/// What the sources said last: read once, for two who need it.
pub struct Recorded {
    kubernetes: Option<ringway_kubernetes::Saved>,
    etcd: Option<ringway_etcd::Saved>,
}

impl Recorded {
    /// Flannel had the node since: what the API said of it then, the MAC address of its overlay above all, is old.
    pub fn forget_node(&mut self) {
        self.kubernetes = None;
    }
}

/// Names of the files in the state directory that they may leave.
pub fn files() -> impl Iterator<Item = String> {
    let all = [ringway_kubernetes::Settings::SAVED, etcd::SAVED];
    all.into_iter()
        .flat_map(|name| ["", ".tmp", ".refused", ".damaged"].map(|end| format!("{name}{end}")))
}

/// Reads it.
pub fn recorded(config: &Config) -> Recorded {
    let (kubernetes, etcd) = (config.kubernetes.as_ref(), config.etcd.as_ref());
    Recorded {
        kubernetes: kubernetes.and_then(|section| kubernetes::recorded(config, section)),
        etcd: etcd.and_then(|section| etcd::recorded(config, section)),
    }
}

/// The sources of a configuration, with what each knew last.
pub fn prepare(config: &Config, recorded: Recorded) -> Sources {
    let kubernetes = config.kubernetes.as_ref();
    let kubernetes =
        kubernetes.map(|section| kubernetes::prepare(config, section, recorded.kubernetes));
    let etcd = config.etcd.as_ref();
    let etcd = etcd.map(|section| etcd::prepare(config, section, recorded.etcd));
    Sources::new(kubernetes.into_iter().chain(etcd).collect())
}

/// What the cluster decides of its network where the file does not say: Flannel's, as it is on record or is said now,
/// for sockets have to be opened at its port. May ask, and wait a moment for the answer.
pub fn defaults(config: &Config, recorded: &Recorded) -> NetworkDefaults {
    let asked = match (&config.kubernetes, &config.etcd) {
        (Some(section), _) => kubernetes::net_conf(config, section, recorded.kubernetes.as_ref()),
        (None, Some(section)) => etcd::net_conf(config, section, recorded.etcd.as_ref()),
        (None, None) => Ok(None),
    };
    let text = asked.unwrap_or_else(|e| {
        tracing::info!("Flannel's net-conf.json is not known, the usual network is taken: {e}");
        None
    });
    // What is wrong with it is a problem of the source, which names it.
    let conf = text.and_then(|text| NetConf::parse(&text).ok());
    conf.map_or_else(NetworkDefaults::default, |conf| flannels(&conf))
}

fn flannels(conf: &NetConf) -> NetworkDefaults {
    let usual = NetworkDefaults {
        cluster_cidrs: conf.networks().collect(),
        ..NetworkDefaults::default()
    };
    match conf.backend {
        BackendConf::Vxlan { vni, port, .. } => NetworkDefaults {
            encap: EncapKind::Vxlan,
            vni,
            vxlan_port: port,
            ..usual
        },
        BackendConf::Udp { port } => NetworkDefaults {
            encap: EncapKind::Udp,
            udp_port: port,
            ..usual
        },
        BackendConf::Other(_) => usual,
    }
}

/// Names Flannel's pods on this node. It may take its time.
pub type FlannelPods = Arc<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// Who can be asked for Flannel's pods on this node, if anybody.
pub fn flannel_pods(config: &Config) -> Option<FlannelPods> {
    let kubernetes = config.kubernetes.as_ref()?;
    Some(kubernetes::flannel_pods(config, kubernetes))
}

/// Where a pod is that is not attached here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On that node.
    On(String),
    /// On this node, and not attached (yet).
    Here,
    /// With the network of that node, which no switch sees.
    NodesOwn(String),
    /// On no node yet.
    Unscheduled,
    /// It has ended.
    Ended,
    /// There is no pod of that name.
    Nowhere,
}

/// Says where a pod `namespace/name` is, as long as it takes to ask; `None`: that is not known.
pub type Whereabouts = Arc<dyn Fn(&str) -> Option<Place> + Send + Sync>;

/// Who says that, if anybody can.
pub fn whereabouts(config: &Config) -> Option<Whereabouts> {
    let kubernetes = config.kubernetes.as_ref()?;
    Some(kubernetes::whereabouts(config, kubernetes))
}

/// Who names pods of the network before, if that is of use and anybody can.
pub fn pod_names(config: &Config) -> Option<Names> {
    let kubernetes = config.kubernetes.as_ref()?;
    let useful = config.node.takeover;
    useful.then(|| kubernetes::pod_names(config, kubernetes))
}

/// Tells the cluster that this node has no network any more; its source has been stopped.
///
/// # Errors
/// It cannot be told, and what that means.
pub async fn give_up(config: &Config) -> Result<(), String> {
    match &config.kubernetes {
        Some(section) => kubernetes::give_up(config, section).await,
        None => Ok(()),
    }
}

mod etcd;
mod kubernetes;

#[cfg(test)]
mod tests;
