//! Another configuration while the agent runs.
//!
//! ```text
//! file ─ parse ─▶ what is in force now ─ Cluster ─▶ plan ─▶ tables ─ published once
//!                 (other keys wait)                     └─▶ kernel, sockets
//! ```
//!
//! All that can be refused is refused before anything is changed: then what was in force stays so, as a whole,
//! and the reason stands in the log and in `ringway status` until the file is right again.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ringway_cluster::{Change, Plan};
use ringway_tables::Snapshot;
use ringway_worker::{self as worker, Command};

use super::acquire::open_sockets;
use super::tables::{Known, Surroundings, accepted};
use super::{Control, Descriptors};
use crate::underlay::Underlay;
use crate::view::{ConfigStatus, SocketStatus};
use ringway_config::ipam::AddressPool;
use ringway_config::{Config, ConfigError, Difference, EncapKind, Problem, When};
use ringway_config::{differences, in_force};

/// Differences that are logged one by one.
const LOGGED: usize = 20;
/// Names in a message.
const NAMED: usize = 3;

/// What has come of reading the file again.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force now and was not before, or why all stays as it was.
    pub outcome: Result<Vec<Difference>, ConfigError>,
    /// What waits for the next start.
    pub waiting: Vec<Difference>,
}

/// What is known of the file.
#[derive(Debug)]
pub(super) struct Reload {
    file: PathBuf,
    error: Option<String>,
    waiting: Vec<Difference>,
    changes: u64,
}

impl Reload {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            error: None,
            waiting: Vec::new(),
            changes: 0,
        }
    }

    /// For `ringway status`.
    pub(super) fn status(&self) -> ConfigStatus {
        ConfigStatus {
            file: self.file.display().to_string(),
            error: self.error.clone(),
            needs_restart: self.waiting.iter().map(|d| d.what.clone()).collect(),
            changes: self.changes,
        }
    }
}

/// Sockets for encapsulations that had none.
#[derive(Default)]
struct NewSockets {
    of_worker: Vec<Vec<worker::UnderlaySocket>>,
    descriptors: Descriptors,
    status: Vec<SocketStatus>,
    encaps: Vec<EncapKind>,
}

impl Control {
    /// Takes what was read of the file: in force where that is possible, or all stays as it was.
    pub(super) fn configure(&mut self, read: Result<Box<Config>, ConfigError>) -> Reloaded {
        let outcome = read.and_then(|new| {
            let (live, waiting): (Vec<_>, Vec<_>) = differences(&self.config, &new)
                .into_iter()
                .partition(|d| d.when == When::Live);
            self.take(in_force(&self.config, &new))?;
            Ok((live, waiting))
        });
        match outcome {
            Ok((live, waiting)) => {
                self.log_accepted(&live, &waiting);
                let outcome = Ok(live);
                Reloaded { outcome, waiting }
            }
            Err(e) => {
                tracing::error!("the configuration stays as it was: {e}");
                self.reload.error = Some(e.to_string());
                Reloaded {
                    outcome: Err(e),
                    waiting: self.reload.waiting.clone(),
                }
            }
        }
    }

    fn log_accepted(&mut self, live: &[Difference], waiting: &[Difference]) {
        for change in live.iter().take(LOGGED) {
            tracing::info!("configuration: {}", change.what);
        }
        if live.len() > LOGGED {
            tracing::info!("configuration: {} more changes", live.len() - LOGGED);
        }
        for change in waiting.iter().filter(|d| !self.reload.waiting.contains(d)) {
            tracing::warn!(
                "configuration: {}; it takes effect at the next start of the agent",
                change.what
            );
        }
        if self.reload.error.take().is_some() {
            tracing::info!("the configuration file is right again");
        }
        self.reload.waiting = waiting.to_vec();
        self.reload.changes += u64::from(!live.is_empty());
    }

    /// Puts a configuration into force that differs in live keys only.
    fn take(&mut self, next: Config) -> Result<(), ConfigError> {
        if next == self.config {
            return Ok(());
        }
        let at = |key: &str, problem| ConfigError::at(&next.file, key, problem);
        let addresses = match next.underlay.addresses == self.config.underlay.addresses {
            true => None,
            false => Some(Underlay::examine(&next, &mut self.netlink)?),
        };
        let checked = self.underlay.check(&next);
        checked.map_err(|(key, problem)| at(&key, problem))?;
        self.keeps_pods(&next)
            .map_err(|problem| at("node.pod_cidrs", problem))?;

        let refused = |why: String| at("peers", Problem::Refused { why });
        let change = Change::Replace(next.contents());
        let plan = self.cluster.update(&Config::source(), change);
        let plan = plan.map_err(|e| refused(e.to_string()))?;
        let prepared = self.sockets_for(&next).and_then(|sockets| {
            let tables = self.tables_with(&next, &plan)?;
            Ok((sockets, tables))
        });
        let (sockets, mut tables) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => {
                let before = Change::Replace(self.config.contents());
                if let Err(e) = self.cluster.update(&Config::source(), before) {
                    tracing::error!("the previous configuration is refused now: {e}");
                }
                return Err(refused(format!("{e:#}")));
            }
        };
        // From here on nothing is refused. Who receives by another encapsulation does so before anybody sends.
        self.use_sockets(sockets);
        tables.accepted = accepted(&self.config, &self.encaps);
        self.config = next;
        self.publisher.publish(tables);
        self.want_node();
        let config = &self.config;
        self.pools = AddressPool::of_families(
            &config.node.pod_cidrs,
            &config.ipam.ranges,
            &config.ipam.exclude,
        );
        self.find_next_hops();
        if let Some(underlay) = addresses {
            self.take_outer_addresses(underlay);
        }
        Ok(())
    }

    /// Pods keep their network and their gateway as long as they are there.
    fn keeps_pods(&self, next: &Config) -> Result<(), Problem> {
        for cidr in &self.config.node.pod_cidrs {
            let lost = |ip: &IpAddr| {
                self.config.pod_cidr_of(*ip) == Some(*cidr)
                    && (next.pod_cidr_of(*ip) != Some(*cidr)
                        || next.gateway_of(*ip) != self.config.gateway_of(*ip))
            };
            let pods: Vec<&str> = self
                .state
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

    /// The tables as the plan has them, not published.
    fn tables_with(&self, config: &Config, plan: &Plan) -> anyhow::Result<Snapshot> {
        let mut tables = Snapshot::clone(&self.publisher.current());
        let around = Surroundings {
            config,
            underlay: &self.underlay,
            known: &|dst| self.known(dst),
        };
        around.apply(&mut tables, plan, self.cluster.state())?;
        Ok(tables)
    }

    /// What is known of the way to an outer address.
    fn known(&self, dst: IpAddr) -> Known {
        let learnt = self.path_mtus.get(dst).map(u32::from);
        let hop = self.next_hops.get(dst).and_then(|hop| hop.resolved());
        Known {
            mtu: learnt.into_iter().chain(self.next_hops.mtu(dst)).min(),
            next_hop: hop.map(|hop| (hop.mac, hop.src_mac)),
        }
    }

    /// Opens sockets for encapsulations that were not in use. Those that are not in use any more keep theirs,
    /// for what is on the way, until the next start.
    fn sockets_for(&self, next: &Config) -> anyhow::Result<NewSockets> {
        let mut new = NewSockets::default();
        let has = |kind: &EncapKind| self.encaps.contains(kind);
        new.encaps = next
            .encaps()
            .into_iter()
            .filter(|kind| !has(kind))
            .collect();
        if new.encaps.is_empty() {
            return Ok(new);
        }
        for worker in &self.workers {
            let which = (new.encaps.as_slice(), worker.index());
            let (descriptors, status) = (&mut new.descriptors, &mut new.status);
            let sockets = open_sockets(next, &self.underlay, which, descriptors, status)?;
            new.of_worker.push(sockets);
        }
        Ok(new)
    }

    fn use_sockets(&mut self, mut new: NewSockets) {
        if new.encaps.is_empty() {
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
        self.encaps.append(&mut new.encaps);
        // Their program knows the ports it began with; they are opened anew within a second.
        self.rings.close(&self.workers, &mut self.descriptors);
    }
}
