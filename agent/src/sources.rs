//! The sources beside the configuration file: what each knew last, and the threads that follow what they read.
//!
//! ```text
//! prepare ─ what was saved ─▶ acquire, assemble (in force before any pod is restored)
//! start ─ a thread for each ── Change ──▶ control ── Local ──▶ the same thread
//! ```

use std::io;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::bounded;
use ringway_cluster::source::{Apply, Local, State, Status};
use ringway_cluster::{Contents, Source};
use ringway_config::{Config, NetworkDefaults};
use ringway_control::{Notice, Reply, Request, Requests};
use tokio::sync::watch;

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

/// What the Kubernetes API said last, if it is a source: read once, for two who need it.
pub struct Recorded(Option<ringway_kubernetes::Saved>);

/// Reads it.
pub fn recorded(config: &Config) -> Recorded {
    let kubernetes = config.kubernetes.as_ref();
    Recorded(kubernetes.and_then(|section| kubernetes::recorded(config, section)))
}

/// The sources of a configuration, with what each knew last.
pub fn prepare(config: &Config, Recorded(recorded): Recorded) -> Sources {
    let kubernetes = config.kubernetes.as_ref();
    let kubernetes = kubernetes.map(|section| kubernetes::prepare(config, section, recorded));
    let etcd = config.etcd.as_ref();
    let etcd = etcd.map(|section| etcd::prepare(config, section));
    Sources::new(kubernetes.into_iter().chain(etcd).collect())
}

/// What the cluster decides of the network between its nodes where the file does not say. May ask, and wait a moment
/// for the answer.
pub fn defaults(config: &Config, Recorded(recorded): &Recorded) -> NetworkDefaults {
    let kubernetes = config.kubernetes.as_ref();
    kubernetes.map_or_else(NetworkDefaults::default, |section| {
        kubernetes::defaults(config, section, recorded.as_ref())
    })
}

mod etcd;
mod kubernetes;

#[cfg(test)]
mod tests;
