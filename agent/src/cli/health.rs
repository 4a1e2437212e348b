//! `ringway health`: an answer for a supervisor's probe, in one line and by the exit status.

use clap::Subcommand;
use serde::Deserialize;

use super::client::{Client, ClientError};
use super::{Failure, output};

/// What is asked.
#[derive(Clone, Copy, Subcommand)]
pub(super) enum Probe {
    /// Does every worker have its heartbeat?
    Live,
    /// Are packets of pods forwarded?
    Ready,
}

#[derive(Deserialize)]
struct Well {}

/// Succeeds when it is so; else the reason is printed.
pub(super) fn probe(client: &Client, probe: Probe) -> Result<(), Failure> {
    let (name, path) = match probe {
        Probe::Live => ("live", "/v1/health/live"),
        Probe::Ready => ("ready", "/v1/health/ready"),
    };
    match client.get::<Well>(path) {
        Ok(Well {}) => output::print(&format!("{name}\n")),
        Err(Failure::Client(ClientError::Refused(refused))) => {
            Err(anyhow::anyhow!("not {name}: {}", refused.error).into())
        }
        Err(failure) => {
            let text = failure.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(anyhow::anyhow!("not {name}: {first}").into())
        }
    }
}
