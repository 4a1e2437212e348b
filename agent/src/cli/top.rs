//! `ringway top`: asks the agent for `ringway_top`, which shows it.
//!
//! ```text
//!   drawing, keys  ── Ask ──▶  asking: a thread; GET status, pods, peers, drops
//!   (this thread)  ◀─ News ──  signals: a thread
//! ```

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use ringway_top::{Ask, Live, Look, Model, News, Palette, plain};

use super::client::{Client, ClientError};
use super::signals::Ends;
use super::width::width;
use super::{Failure, output};
use crate::reasons;
use ringway_control::view::Explained;

/// Seconds that an interval may have.
const INTERVAL: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

#[derive(clap::Args)]
pub(super) struct Top {
    /// Seconds between two looks, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Print one interval as text, and end
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let within = seconds.filter(|seconds| INTERVAL.contains(seconds));
    within
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "not 0.1 to 3600 seconds".into())
}

pub(super) fn run(client: &Client, wanted: &Top) -> Result<(), Failure> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if wanted.once || dumb || !io::stdout().is_terminal() {
        return once(client, wanted.interval);
    }
    live(client, wanted.interval)
}

/// Two looks, as text.
fn once(client: &Client, interval: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    let mut model = Model::default();
    model.answered(look(client, false)?, Duration::ZERO);
    let first = began.elapsed();
    std::thread::sleep(interval);
    let second = look(client, false)?;
    model.answered(second, began.elapsed() - first);
    output::print(&plain(&model, width()))
}

/// All that is shown. Each counter is as old as its answer; those that take longest are last.
fn look(client: &Client, paths: bool) -> Result<Look, Failure> {
    let paths = paths.then(|| client.get("/v1/tables/paths")).transpose()?;
    Ok(Look {
        status: client.get("/v1/status")?,
        pods: client.get("/v1/pods")?,
        peers: client.get("/v1/tables/peers")?,
        drops: client.get("/v1/drops")?,
        paths,
    })
}

fn live(client: &Client, interval: Duration) -> Result<(), Failure> {
    // An agent that is not there at first is an error, as for every verb.
    let first = (look(client, false)?, Instant::now());
    let (asks, asked) = channel();
    let (say, news) = channel();
    let socket = client.socket().to_owned();
    let answers = say.clone();
    spawn("top-asking", move || {
        ask(&Client::new(socket), &asked, answers)
    })?;
    // Before the terminal is taken: a signal that nobody catches would leave it as it is then.
    let (caught, ready) = channel();
    spawn("top-signals", move || wait_for_signal(&say, &caught))?;
    let caught = ready.recv().context("catching signals")?;
    caught.context("catching signals")?;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    ringway_top::run(Live {
        first,
        interval,
        palette: Palette { colours },
        explain,
        asks,
        news,
    })?;
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name(name.into());
    let started = thread.spawn(work).context("starting a thread");
    started.map(drop).map_err(Failure::Other)
}

fn explain(name: &str) -> Option<Explained> {
    reasons::explain(name).ok()
}

/// Says when it ends, also by a panic.
struct Answers(Sender<News>);

impl Drop for Answers {
    fn drop(&mut self) {
        let _ = self.0.send(News::Broken);
    }
}

/// Asks whenever it is told to, until nobody does.
fn ask(client: &Client, asked: &Receiver<Ask>, say: Sender<News>) {
    let say = Answers(say);
    for Ask { paths } in asked {
        let news = match look(client, paths) {
            Ok(look) => News::Look(Box::new(look), Instant::now()),
            Err(why) => News::Away(in_a_line(&why), Instant::now()),
        };
        if say.0.send(news).is_err() {
            return;
        }
    }
}

/// Short enough for a line of 80 columns behind an age: which socket it is, is known.
fn in_a_line(why: &Failure) -> String {
    match why {
        Failure::Client(ClientError::Connect { source, .. } | ClientError::Io { source, .. }) => {
            source.to_string()
        }
        Failure::Client(ClientError::Refused(refused)) => refused.error.clone(),
        other => other.to_string().replace("\n  to do: ", "; to do: "),
    }
}

/// Says when they are caught, or why not, and when one came.
fn wait_for_signal(say: &Sender<News>, caught: &Sender<io::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let waited = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let ends = Ends::catch()?;
            let _ = caught.send(Ok(()));
            ends.wait().await;
            Ok(())
        })
    });
    let _ = match waited {
        Ok(()) => say.send(News::End).map_err(drop),
        Err(e) => caught.send(Err(e)).map_err(drop),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_requests::ApiError;

    #[test]
    fn an_interval_has_bounds() {
        assert_eq!(interval("1"), Ok(Duration::from_secs(1)));
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "0.05", "3601", "-1", "nan", "inf", "1s", ""] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reasons_are_explained_by_their_name() {
        assert_eq!(explain("no_route").unwrap().reason, "no_route");
        assert_eq!(explain("tap_tx_dropped").unwrap().reason, "tap_tx_dropped");
        assert!(explain("default/web").is_none());
    }

    #[test]
    fn a_failure_is_said_in_a_line() {
        let client = Client::new("/nonexistent/socket".into());
        let said = in_a_line(&look(&client, true).unwrap_err());
        assert_eq!(said, "No such file or directory (os error 2)");
        let refused = ClientError::Refused(ApiError::new(503, "given back", "take it"));
        assert_eq!(in_a_line(&refused.into()), "given back");
        let other = anyhow::anyhow!("something\n  to do: nothing");
        assert_eq!(in_a_line(&other.into()), "something; to do: nothing");
    }
}
