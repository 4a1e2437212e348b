//! `ringway reconcile`: leaving what others change as it is, for maintenance.

use std::time::Duration;

use clap::Subcommand;

use super::Failure;
use super::client::Client;
use super::units::duration;
use ringway_control::view::Paused;

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
        #[arg(value_name = "DURATION", value_parser = parse)]
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

/// `1h30m`: numbers, each with its unit.
fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 10m, 2h or 1h30m");
    let (mut total, mut number) = (0u64, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let part: u64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        let part = part.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if total == 0 || !number.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text| parse(text).map(|d| d.as_secs());
        for (text, expected) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("1h30m", 5400)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in [
            "",
            "10",
            "m",
            "0s",
            "1.5h",
            "-1m",
            "1d",
            "10m5",
            "99999999999999999999s",
        ] {
            let error = seconds(text).unwrap_err();
            assert!(error.contains("1h30m"), "{error}");
        }
    }
}
