//! Another configuration while the agent runs.
//!
//! ```text
//! file ─ parse ─▶ live keys ─ Change::Replace ─▶ change.rs ─▶ in force
//!                 (others wait)                     │
//!                                                   └─▶ refused, as a whole: log, `ringway status`
//! ```
//!
//! What was in force stays so until the file is right again.

use std::path::{Path, PathBuf};

use ringway_cluster::Change;

use super::{ChangeError, Control};
use crate::underlay::Underlay;
use crate::view::ConfigStatus;
use ringway_config::{AUTO, Config, ConfigError, Difference, Problem, When};
use ringway_config::{differences, in_force};

/// Differences that are logged one by one.
const LOGGED: usize = 20;

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

impl Control {
    /// Takes what was read of the file: in force where that is possible, or all stays as it was.
    pub(super) fn configure(&mut self, read: Result<Box<Config>, ConfigError>) -> Reloaded {
        let outcome = read.and_then(|mut new| {
            // What the machine decided at the start stays decided.
            if new.underlay.interface == AUTO {
                let now = &self.config.underlay.interface;
                new.underlay.interface.clone_from(now);
            }
            self.state.takeover.complete(&mut new);
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
        if let Some(levels) = ringway_log::levels() {
            levels.configure(&next.log.level);
        }
        let addresses = match next.underlay.addresses == self.config.underlay.addresses {
            true => None,
            false => Some(Underlay::examine(
                &next,
                self.cluster.state(),
                &mut self.netlink,
            )?),
        };
        let all = Change::Replace(next.contents());
        let prepared = self.prepare_change(&Config::source(), all, Some(&next));
        let prepared = prepared.map_err(|e| in_file(e, &next))?;
        self.put_into_force(prepared, Some(next));
        if let Some(underlay) = addresses {
            self.take_outer_addresses(underlay);
        }
        Ok(())
    }
}

/// Where in the file it is.
fn in_file(error: ChangeError, config: &Config) -> ConfigError {
    let at = |key: &str, problem| ConfigError::at(&config.file, key, problem);
    let refused = |why: String| at("peers", Problem::Refused { why });
    match error {
        ChangeError::Underlay(unsuited) => unsuited.of(config),
        ChangeError::Pods(problem) => at("node.pod_cidrs", *problem),
        ChangeError::Cluster(e) => refused(e.to_string()),
        ChangeError::Refused(e) => refused(format!("{e:#}")),
    }
}
