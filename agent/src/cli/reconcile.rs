//! `ringway reconcile`: leaving what others change as it is, for maintenance.

use std::time::Duration;

use clap::Subcommand;

use super::Failure;
use super::client::Client;
use ringway_control::view::Paused;
use ringway_control::view::units::{duration, parse_duration};

/// What to do about what others change in the node's kernel.
#[derive(Subcommand)]
pub(super) enum ReconcileVerb {
    /// Leave it as it is for at most 24 hours
    #[command(
        after_help = "Pods are attached and detached as ever, and changes of the configuration apply.\n\
        `ringway status` shows what is left as it is. It ends by itself, and with the agent."
    )]
    Pause {
        /// How long: 90s, 10m, 2h, 1h30m
        #[arg(value_name = "DURATION", value_parser = parse_duration)]
        duration: Duration,
        #[command(flatten)]
        json: super::Json,
    },
    /// Restore it again from now on
    Resume(super::Json),
}

/// Asks the agent for it.
pub(super) fn run(client: &Client, verb: &ReconcileVerb) -> Result<(), Failure> {
    match verb {
        ReconcileVerb::Pause { duration, json } => {
            let body = serde_json::json!({ "seconds": duration.as_secs() });
            client.post("/v1/reconcile/pause", &body, json.json, paused)
        }
        ReconcileVerb::Resume(json) => {
            let body = serde_json::json!({});
            client.post("/v1/reconcile/resume", &body, json.json, resumed)
        }
    }
}

fn paused(answer: &Paused) -> String {
    format!(
        "what others change on this node stays for {}; `ringway reconcile resume` ends that\n",
        duration(answer.paused_s)
    )
}

fn resumed(answer: &Paused) -> String {
    match answer.was_paused {
        true => "reconciling is resumed: what others change on this node is restored\n".into(),
        false => "it was not paused\n".into(),
    }
}
