//! `ringway log`: what the agent logs, for as long as somebody looks.

use std::time::Duration;

use super::Failure;
use super::client::Client;
use ringway_control::view::LogStatus;
use ringway_control::view::units::{amount, duration, parse_duration};

/// The word for what is logged when nobody asks for more.
const USUAL: &str = "usual";

/// What the agent is to log.
#[derive(clap::Args)]
pub(super) struct LogLevel {
    /// error, warn, info, debug, trace, a level for a part of the program, or usual
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    /// How long: 90s, 10m, 2h; without: until the agent ends
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, requires = "level")]
    time: Option<Duration>,
    #[command(flatten)]
    json: super::Json,
}

/// Asks the agent.
pub(super) fn run(client: &Client, wanted: &LogLevel) -> Result<(), Failure> {
    let json = wanted.json.json;
    let Some(level) = &wanted.level else {
        return client.print("/v1/log", json, show);
    };
    let mut body = serde_json::json!({});
    if level != USUAL {
        body["level"] = level.as_str().into();
    }
    if let Some(time) = wanted.time {
        body["seconds"] = time.as_secs().into();
    }
    client.post("/v1/log", &body, json, show)
}

fn show(log: &LogStatus) -> String {
    let mut text = format!("level   {}", log.level);
    if log.level != log.usual {
        text.push_str(&match log.usual_in_s {
            Some(left) => format!(", {} again in {}", log.usual, duration(left)),
            None => format!("; usual: {}", log.usual),
        });
    }
    text.push_str(&format!("\nformat  {}\n", log.format));
    for (lines, why) in [
        (log.lines_lost, "lost: they could not be written in time"),
        (
            log.lines_left_out,
            "left out: their place in the program logs too often",
        ),
    ] {
        if lines > 0 {
            text.push_str(&format!("lines   {} {why}\n", amount(lines)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_usual_is_said_with_its_end() {
        let mut log = LogStatus {
            level: "info".into(),
            usual: "info".into(),
            usual_in_s: None,
            format: "text".into(),
            lines_lost: 0,
            lines_left_out: 0,
        };
        assert_eq!(show(&log), "level   info\nformat  text\n");
        log.level = "debug".into();
        assert_eq!(show(&log), "level   debug; usual: info\nformat  text\n");
        (log.usual_in_s, log.lines_left_out) = (Some(90), 1234);
        assert_eq!(
            show(&log),
            "level   debug, info again in 1 min 30 s\nformat  text\nlines   1234 left out: their place in the program logs too often\n"
        );
    }
}
