//! `ringway drops`: what was lost, where and why.
//!
//! ```text
//!   GET /v1/drops       ▶ look, another look ▶ rates ▶ blocks by reason, rows by pod or peer
//!   GET /v1/drops/last  ▶ frames
//!   reasons (built in)  ▶ --explain, without an agent
//! ```
//!
//! Counters only grow, so a rate is what they grew by between two looks of this command.

mod frames;
mod text;

use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::client::Client;
use super::signals::until_signal;
use super::{Failure, output};
use crate::{reasons, summary};
use ringway_control::view::units::duration;
use ringway_control::view::{Drops, rates};

/// Between the two looks of a single answer.
const GLANCE: Duration = Duration::from_millis(500);
/// Between two looks of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct DropsOptions {
    /// What to sort by
    #[arg(long, value_enum, value_name = "WHAT", default_value = "reason")]
    by: By,
    /// Look again every second, until interrupted
    #[arg(long)]
    watch: bool,
    /// Counters of the kernel that are zero, too
    #[arg(long)]
    all: bool,
    /// Show the last frames dropped, of REASON or of each: their first bytes
    #[arg(long, value_name = "REASON", num_args = 0..=1, conflicts_with_all = ["by", "watch", "all"])]
    last: Option<Option<String>>,
    /// Those bytes in hexadecimal
    #[arg(long, requires = "last")]
    hex: bool,
    /// Explain a reason or a counter: cause, remedy, where it is counted, an example
    #[arg(long, value_name = "REASON", conflicts_with_all = ["by", "watch", "all", "last"])]
    explain: Option<String>,
    #[command(flatten)]
    json: super::Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each reason with cause, remedy, and where it applied
    Reason,
    /// Each pod, and the node, with its reasons
    Pod,
    /// Each peer with its reasons
    Peer,
}

/// What `--explain` says, which needs no agent; none: it was not asked for.
pub(super) fn explained(options: &DropsOptions) -> Option<Result<(), Failure>> {
    let name = options.explain.as_deref()?;
    let known = reasons::explain(name).map_err(|near| {
        let near = near.join(", ");
        anyhow::anyhow!("there is no reason {name:?}\n  to do: take one of the nearest: {near}")
    });
    Some(known.map_err(Failure::from).and_then(|known| {
        output::print(&match options.json.json {
            true => format!("{:#}\n", serde_json::json!(known)),
            false => text::explained(&known),
        })
    }))
}

pub(super) fn run(client: &Client, options: &DropsOptions) -> Result<(), Failure> {
    let json = options.json.json;
    if let Some(reason) = &options.last {
        let path = match reason {
            Some(reason) => format!("/v1/drops/last?reason={}", escaped(reason)),
            None => "/v1/drops/last".into(),
        };
        return client.print(&path, json, |all: &Vec<_>| frames::text(all, options.hex));
    }
    let path = match options.all {
        true => "/v1/drops?all=true",
        false => "/v1/drops",
    };
    match (options.watch, json) {
        (true, _) => watch(client, path, options),
        (false, true) => client.print(path, true, |_: &Drops| String::new()),
        (false, false) => {
            let (first, began): (Drops, _) = (client.get(path)?, Instant::now());
            if text::is_empty(&first) {
                return output::print(&show(&first, options.by));
            }
            std::thread::sleep(GLANCE);
            let mut now = client.get(path)?;
            rates::enter(&mut now, &first, began.elapsed());
            output::print(&show(&now, options.by))
        }
    }
}

fn show(drops: &Drops, by: By) -> String {
    match by {
        By::Reason => text::by_reason(drops),
        By::Pod => text::by_place(drops, &["pod", "node"]),
        By::Peer => text::by_place(drops, &["peer"]),
    }
}

/// Looks again and again, until a signal or until nobody reads.
fn watch(client: &Client, path: &str, options: &DropsOptions) -> Result<(), Failure> {
    until_signal(async {
        let began = Instant::now();
        let mut before: Option<(Drops, Instant)> = None;
        loop {
            let mut now: Drops = client.get(path)?;
            let at = Instant::now();
            let seen = now.clone();
            if let Some((before, then)) = &before {
                rates::enter(&mut now, before, at - *then);
            }
            before = Some((seen, at));
            let block = match options.json.json {
                true => format!("{}\n", serde_json::json!(now)),
                false => block(&now, options.by, at - began),
            };
            if !output::print_on(&block)? {
                return Ok(());
            }
            tokio::time::sleep(PERIOD).await;
        }
    })
}

/// A look of `--watch`: the whole screen of a terminal, else lines after those before.
fn block(drops: &Drops, by: By, since: Duration) -> String {
    let screen = std::io::stdout().is_terminal().then(text::screen_rows);
    let clear = match screen {
        Some(_) => "\x1b[H\x1b[2J",
        None => "",
    };
    let rows = match by {
        By::Reason => text::rows_by_reason(drops),
        _ => show(drops, by),
    };
    let rows = text::at_most(&rows, screen.unwrap_or(text::ROWS));
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = summary::clock(time.map_or(0, |time| time.as_nanos() as u64));
    let since = duration(since.as_secs());
    format!("{clear}{time} UTC, {since} of watching\n{rows}\n")
}

/// A value in the query of a URL.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let bytes = value.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one() {
        assert_eq!(escaped("no_route"), "no_route");
        assert_eq!(escaped("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }
}
