//! `ringway agent`: from start to stop.
//!
//! ```text
//! (take-over: Flannel leaves) ─▶ acquire (lock, underlay, sockets, node port) ─▶ assemble (tables, workers, pods)
//!                             ─▶ serve (control, API, file) ─▶ (give-back: all of it goes, idle)
//! ```
//!
//! main thread: tokio, the API socket and the signals. `control` thread: all
//! else. Whichever ends first ends the process: a signal in order, a failed or
//! hanging worker at once and with the reason, since its queues are dead and a
//! supervisor can start a new process faster than anything could be repaired.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::unbounded;
use ringway_kernel::netlink::Netlink;
use sd_notify::NotifyState;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{oneshot, watch};

use super::{Failure, kernel, output, privileges, settings, signals, takeover};
use crate::api::agents;
use crate::api::scrape::{self, Scrapes};
use crate::api::serve::{self, GiveBack};
use crate::install::{self, Places};
use crate::sources;
use ringway_config::{Config, NODE_IP, NetworkDefaults};
use ringway_control::config_file::{self, Reloads, Said};
use ringway_control::processors;
use ringway_control::underlay::Underlay;
use ringway_control::{Acquired, Control, Reloaded, Request, Requests};

/// How often an underlay that is not ready is looked at again.
const WAIT_PERIOD: Duration = Duration::from_millis(250);
/// Time for workers and open requests to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(2);

pub(super) fn run(file: &Path, socket: Option<&Path>, wait: bool) -> Result<(), Failure> {
    privileges::check()?;
    let (mut config, text) = Config::load_text(file)?;
    if let Some(socket) = socket {
        config.node.socket = socket.to_owned();
    }
    processors::check(&config)?;
    settings(&config)?;
    ringway_log::install(config.log.format, &config.log.level)
        .context("starting the thread of the log")?;
    kernel::check();
    raise_descriptor_limit();
    let recorded = sources::recorded(&config);
    let defaults = sources::defaults(&config, &recorded);
    if defaults != NetworkDefaults::default() {
        // The text is the same: what it says is right, and what it does not say is the cluster's.
        let socket = config.node.socket;
        config = Config::parse_with(file, &text, &defaults)?;
        config.node.socket = socket;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the API")?;
    let follow = |requests| {
        let said = Said {
            socket: socket.map(Path::to_owned),
            defaults: defaults.clone(),
        };
        config_file::follow(file.to_owned(), text.clone(), said, requests)
    };
    let outcome = runtime.block_on(serve_until_stopped(&config, recorded, wait, follow));
    output::finish_log();
    Ok(outcome?)
}

/// Every queue of every pod is a descriptor, and every worker has its sockets: the usual soft limit of
/// 1,024, which is there for programs that use select(2), would end at a hundred pods and eight workers.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
}

/// Waits for the underlay's interface and address. Any other mistake is for the start to tell.
async fn await_underlay(config: &Config) -> anyhow::Result<()> {
    let mut netlink = Netlink::open()?;
    let (cluster, _) = config.cluster()?;
    let mut told = String::new();
    loop {
        let problem = match Underlay::examine(config, cluster.state(), &mut netlink) {
            Err(e) if e.problem.may_pass() => e,
            _ => return Ok(()),
        };
        let why = problem.problem.to_string();
        if why != told {
            tracing::warn!("waiting for the underlay: {problem}");
            supervisor(&[NotifyState::Status(&format!(
                "waiting for the underlay: {why}"
            ))]);
            told = why;
        }
        tokio::time::sleep(WAIT_PERIOD).await;
    }
}

/// Tells systemd, if that has started us (sd_notify(3)). Nothing depends on it.
fn supervisor(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(false, states);
}

/// Until somebody wants the agent to stop.
async fn stop_wanted(signals: &mut UnboundedReceiver<i32>) {
    while let Some(number) = signals.recv().await {
        if matches!(number, libc::SIGTERM | libc::SIGINT) {
            tracing::info!("{}: stopping", signals::name(number));
            return;
        }
    }
}

/// Why serving ended.
enum Ended {
    /// Somebody wanted the agent to stop.
    Stopped,
    /// The node is given back.
    GivenBack,
}

async fn serve_until_stopped(
    config: &Config,
    recorded: sources::Recorded,
    wait: bool,
    follow: impl Fn(Requests) -> std::io::Result<Reloads>,
) -> anyhow::Result<()> {
    // Before anything is made, so that an early signal is not lost.
    let mut signals = signals::catch().context("catching signals")?;
    let mut recorded = Some(recorded);
    loop {
        if wait {
            tokio::select! {
                ready = await_underlay(config) => ready?,
                () = stop_wanted(&mut signals) => return Ok(()),
            }
        }
        // The last to be waited for: Flannel may come back, and its overlay is removed next.
        let pods = sources::flannel_pods(config);
        let flannel_was_here = takeover::overlay(config)?.is_some();
        if !takeover::await_node(config, pods, stop_wanted(&mut signals)).await? {
            return Ok(());
        }
        // What was read at the start is old once the node was given back.
        let mut recorded = recorded.take().unwrap_or_else(|| sources::recorded(config));
        if flannel_was_here {
            recorded.forget_node();
        }
        let sources = sources::prepare(config, recorded);
        match serve_node(config.clone(), sources, &mut signals, &follow).await? {
            Ended::Stopped => return Ok(()),
            Ended::GivenBack => {
                supervisor(&[NotifyState::Status("given back")]);
                if takeover::idle_until(config, stop_wanted(&mut signals)).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// Serves the node until somebody wants the agent to stop, or the node back.
async fn serve_node(
    config: Config,
    mut sources: sources::Sources,
    signals: &mut UnboundedReceiver<i32>,
    follow: &impl Fn(Requests) -> std::io::Result<Reloads>,
) -> anyhow::Result<Ended> {
    let (node, path) = (config.node.name.clone(), config.node.socket.clone());
    let acquired = Acquired::open(&config, sources.saved())?;
    let mut control = Control::assemble(config.clone(), acquired, sources.for_control())?;
    if let Some(names) = sources::pod_names(&config) {
        control.name_left_pods(names);
    }
    let health = control.health();
    let listener = serve::bind(&path)?;

    let (hangs, hang) = oneshot::channel();
    control
        .watch(|reason| {
            let _ = hangs.send(reason);
        })
        .context("starting the watchdog")?;
    let (requests, inbox) = unbounded();
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| control.run(&inbox)));
            let outcome =
                outcome.unwrap_or_else(|_| Err("the control thread panicked, see above".into()));
            let _ = ended.send(outcome);
        })
        .context("starting the control thread")?;

    let reloads = follow(requests.clone()).context("following the configuration file")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (give_back, mut given_back) = mpsc::channel(1);
    let (ends, ending) = watch::channel(false);
    let scrapes = Scrapes::new(requests.clone(), health.clone(), config.metrics.peers);
    let node_ip = std::env::var(NODE_IP).ok();
    let metrics = scrape::serve(scrapes.clone(), config.metrics.clone(), node_ip.clone());
    let metrics = tokio::spawn(metrics);
    let agents = config.agents.as_ref().map(|agents| agents.of(&node));
    let others = agents::Others::new(&node, agents.as_ref());
    let askable = agents::serve(requests.clone(), agents, node_ip);
    let askable = tokio::spawn(askable);
    let asked = serve::Asked {
        ending,
        scrapes,
        requests: requests.clone(),
        reloads: reloads.clone(),
        health,
        whereabouts: sources::whereabouts(&config),
        others,
        give_back,
    };
    let api = tokio::spawn(serve::serve(listener, asked, async {
        let _ = stopped.await;
    }));
    let sources = sources.start(&requests)?;
    tracing::info!(node, socket = %path.display(), "ready");
    supervisor(&[NotifyState::Ready, NotifyState::Status("ready")]);
    let mut installing = std::pin::pin!(takeover::install(&config, &requests));

    let mut end = end;
    // Nothing comes of a watchdog that has ended by itself.
    let mut hang = std::pin::pin!(async {
        match hang.await {
            Ok(reason) => reason,
            Err(_) => std::future::pending().await,
        }
    });
    let given_back = loop {
        let number = tokio::select! {
            outcome = &mut end => fail(&reason(outcome)),
            reason = &mut hang => fail(&reason),
            never = &mut installing => match never {},
            Some(GiveBack { pods_too, reply }) = given_back.recv() => {
                let pods = serve::ask(&requests, |reply| Request::GiveBack(pods_too, reply)).await;
                match pods.and_then(|pods| Ok(pods?)) {
                    Ok(pods) => break Some((pods, reply)),
                    Err(refused) => {
                        let _ = reply.send(Err(refused));
                        continue;
                    }
                }
            }
            Some(number) = signals.recv() => number,
        };
        let name = signals::name(number);
        match number {
            libc::SIGTERM | libc::SIGINT => {
                tracing::info!("{name}: stopping");
                break None;
            }
            libc::SIGHUP => {
                tracing::info!("{name}");
                reloads.ask(Box::new(log_unchanged));
            }
            _ => tracing::info!("{name} is ignored; SIGTERM stops the agent"),
        }
    };
    metrics.abort();
    askable.abort();
    if let Some((pods, reply)) = given_back {
        // No runtime may call the plugin from here on.
        let mut report = install::withdraw(&config, &Places::of(&config));
        tokio::task::spawn_blocking(|| sources.stop()).await?;
        report.left.extend(sources::give_up(&config).await.err());
        let _ = requests.send(Request::Stop);
        match tokio::time::timeout(STOP_LIMIT, &mut end).await {
            Ok(Ok(Ok(()))) => {}
            Ok(outcome) => fail(&reason(outcome)),
            // What was made is taken away by the next start: the node is marked.
            Err(_) => fail("the control plane does not end"),
        }
        let answer = takeover::take_away(&config, pods, report);
        ends.send_replace(true);
        let _ = reply.send(answer);
        let _ = stop.send(());
        let _ = api.await;
        let _ = std::fs::remove_file(&path);
        return Ok(Ended::GivenBack);
    }
    supervisor(&[NotifyState::Stopping]);
    ends.send_replace(true);
    let _ = stop.send(());
    // While control still answers: one may wait for it.
    let stopped_sources = tokio::task::spawn_blocking(|| sources.stop());
    let orderly = async {
        let _ = stopped_sources.await;
        let _ = api.await;
        let _ = requests.send(Request::Stop);
        end.await
    };
    let outcome = tokio::time::timeout(STOP_LIMIT, orderly).await;
    let _ = std::fs::remove_file(&path);
    match outcome {
        Ok(Ok(Ok(()))) => tracing::info!("stopped; pods keep their interfaces"),
        Ok(outcome) => fail(&reason(outcome)),
        // Nothing is lost: interfaces are persistent and the state is on disk.
        Err(_) => tracing::warn!("stopped without waiting for everything to end"),
    }
    Ok(Ended::Stopped)
}

/// All else is said by who puts it into force.
fn log_unchanged(reloaded: Reloaded) {
    if reloaded.outcome.is_ok_and(|live| live.is_empty()) && reloaded.waiting.is_empty() {
        tracing::info!("the configuration is what runs");
    }
}

fn reason(outcome: Result<Result<(), String>, oneshot::error::RecvError>) -> String {
    match outcome {
        Ok(Err(reason)) => reason,
        Ok(Ok(())) | Err(_) => "the control thread ended".into(),
    }
}

/// Ends the process at once: a thread that hangs cannot be joined.
fn fail(reason: &str) -> ! {
    tracing::error!("{reason}");
    output::complain(&format!(
        "ringway: {reason}\n  to do: start the agent again; report this with the log above"
    ));
    std::process::exit(70);
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    #[test]
    fn descriptors_are_limited_by_the_hard_limit_only() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard - 1), hard).unwrap();
        super::raise_descriptor_limit();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
