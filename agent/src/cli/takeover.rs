//! Before the agent acquires anything: is this node Ringway's to serve?
//!
//! ```text
//! given back? ── idle, until Flannel has been here or somebody says so
//!      │ no
//! Flannel's overlay here? ── no ──▶ start
//!      │ yes, and node.takeover
//! Flannel still runs? ── waited for, as long as it takes ──▶ start, which removes the overlay
//! ```
//!
//! Only while there is an overlay to take over is anybody asked: an agent that is started again while the API
//! server is away serves its node at once. It never gives up: a refusal would be one that only the agent itself
//! could end.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::idle::{self, Idle};
use crate::api::serve::{self, Answered};
use crate::install::{self, Installed, Places, Report};
use crate::sources::FlannelPods;
use ringway_config::Config;
use ringway_control::takeover::{foreign, former, is_given_back, take_again};
use ringway_control::view::{GivenBack, MadeAnew};
use ringway_control::{Request, Requests};
use ringway_kernel::netlink::Netlink;
use ringway_requests::ApiError;

/// How often it is looked again.
const PERIOD: Duration = Duration::from_secs(1);
/// How often it is tried to install: a node is Ready by it.
const INSTALL_PERIOD: Duration = Duration::from_millis(100);
/// The program that is Flannel's agent.
const FLANNELD: &str = "flanneld";

/// Waits until the node is this agent's; false if `stop` came first.
pub(super) async fn await_node(
    config: &Config,
    pods: Option<FlannelPods>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let mut stop = std::pin::pin!(stop);
    if is_given_back(&config.node.state_dir)? && overlay(config)?.is_none() {
        // The agent may have ended in the middle of it.
        let withdrawn = install::withdraw(config, &Places::of(config));
        if let Err(e) = take_away(config, Vec::new(), withdrawn) {
            tracing::error!("given back, but: {}", e.error);
        }
        tracing::warn!("{}; {}", given_back(config).why, given_back(config).remedy);
        if idle_until(config, &mut stop).await? {
            return Ok(false);
        }
    }
    if !config.node.takeover {
        return Ok(true);
    }
    if let Some(other) = foreign(config, &mut Netlink::open()?)? {
        let own = &config.underlay;
        anyhow::bail!(
            "take-over: Flannel's {other} carries another network than VNI {} at port {}: its net-conf.json was not \
             known at the start, which the next one asks for again; or underlay.vni or underlay.vxlan_port is in the \
             configuration: leave them out",
            own.vni,
            own.vxlan_port
        );
    }
    let Some(first) = standing(config, pods.as_ref()).await? else {
        return Ok(true);
    };
    tracing::warn!("take-over: {}; {}", first.why, first.remedy);
    let (say, said) = watch::channel(first);
    let gone = async {
        loop {
            tokio::time::sleep(PERIOD).await;
            match standing(config, pods.as_ref()).await? {
                None => return anyhow::Ok(()),
                Some(now) if *say.borrow() == now => {}
                Some(now) => {
                    tracing::warn!("take-over: {}; {}", now.why, now.remedy);
                    say.send_replace(now);
                }
            }
        }
    };
    let end = async {
        tokio::select! {
            gone = gone => gone.map(|()| true),
            () = &mut stop => Ok(false),
        }
    };
    let outcome = idle::serve(&config.node.socket, said, end).await?;
    // What was not given back cannot be wanted again.
    let outcome = outcome.unwrap_or(Ok(false));
    if matches!(outcome, Ok(true)) {
        tracing::info!("take-over: Flannel has left this node");
    }
    outcome
}

/// Installs plugin and conflist as soon as pods can be attached, if the configuration says so; goes on for ever.
pub(super) async fn install(config: &Config, requests: &Requests) -> Infallible {
    if config.cni.install {
        until_installed(config, requests).await;
    }
    std::future::pending().await
}

/// Tries again where it cannot: a node that forwards is worth more than none.
async fn until_installed(config: &Config, requests: &Requests) {
    let mut told = String::new();
    loop {
        let view = serve::ask(requests, Request::View).await;
        if view.is_ok_and(|view| !view.status.pod_cidrs.is_empty()) {
            match install::install(config, &Places::of(config)) {
                Ok((installed, preferred)) => return log_installed(config, &installed, &preferred),
                Err(e) if e.to_string() == told => {}
                Err(e) => {
                    tracing::error!("not installed for container runtimes, tried again: {e}");
                    told = e.to_string();
                }
            }
        }
        tokio::time::sleep(INSTALL_PERIOD).await;
    }
}

fn log_installed(config: &Config, installed: &Installed, preferred: &[String]) {
    let files = &installed.files;
    tracing::info!(?files, "installed for container runtimes");
    for other in preferred {
        tracing::warn!(
            "{other} in {} sorts before {}: container runtimes take it instead; remove or rename it",
            config.cni.conf_dir.display(),
            install::CONFLIST
        );
    }
}

/// Takes away what the agent has made, once its control plane has ended.
pub(super) fn take_away(config: &Config, pods: Vec<MadeAnew>, withdrawn: Report) -> Answered {
    let report = install::give_back(config).map_err(|e| {
        ApiError::internal(
            e.to_string(),
            "see the agent's log, then: ringway uninstall",
        )
    })?;
    for left in withdrawn.left.iter().chain(&report.left) {
        tracing::error!("given back, but for {left}");
    }
    let both = |a: Vec<String>, b: Vec<String>| a.into_iter().chain(b).collect();
    Ok(GivenBack {
        pods,
        done: both(withdrawn.done, report.done),
        left: both(withdrawn.left, report.left),
        next: given_back(config).remedy,
    })
}

/// Does nothing until `stop` (true), or until somebody wants the node again (false).
pub(super) async fn idle_until(
    config: &Config,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let (_say, said) = watch::channel(given_back(config));
    let outcome = idle::serve(&config.node.socket, said, stop).await?;
    if outcome.is_none() {
        take_again(&config.node.state_dir)?;
        tracing::info!("the node is taken again");
    }
    Ok(outcome.is_some())
}

/// What a node that is given back says.
pub(super) fn given_back(config: &Config) -> Idle {
    let node = &config.node.name;
    Idle {
        may_end: true,
        why: format!("{node} is given back: Ringway serves no pods on it"),
        remedy: format!(
            "have Flannel come: kubectl label node {node} ringway.io/node-, which ends this agent as well; \
             or take the node again: ringway give-back --undo"
        ),
    }
}

/// Flannel's overlay, if there is one.
pub(super) fn overlay(config: &Config) -> anyhow::Result<Option<String>> {
    let all = former(config, &mut Netlink::open()?)?;
    Ok(all.first().map(ToString::to_string))
}

/// What of Flannel is still at work on the node: none once it has left, or has left no overlay.
async fn standing(config: &Config, pods: Option<&FlannelPods>) -> anyhow::Result<Option<Idle>> {
    let Some(overlay) = overlay(config)? else {
        return Ok(None);
    };
    let node = &config.node.name;
    let wait = |what: String| Idle {
        may_end: false,
        why: format!(
            "waiting for Flannel to leave {node}: {what}, and its overlay {overlay} is here"
        ),
        remedy: format!(
            "keep it off nodes of Ringway (kubectl -n kube-flannel patch daemonset kube-flannel-ds --patch-file \
             deploy/beside-flannel/kube-flannel-ds.yaml) and label this one: kubectl label node {node} \
             ringway.io/node=true"
        ),
    };
    if let Some(process) = process(Path::new("/proc"), FLANNELD) {
        return Ok(Some(wait(format!("process {process} is {FLANNELD}"))));
    }
    let Some(pods) = pods.cloned() else {
        return Ok(None);
    };
    Ok(match tokio::task::spawn_blocking(move || pods()).await? {
        Ok(all) if all.is_empty() => None,
        Ok(all) => Some(wait(format!("pod {} runs", all.join(", ")))),
        Err(why) => Some(wait(format!("whether its pod runs is not known ({why})"))),
    })
}

/// A process with this name in our network namespace; of a container only where it sees the node's processes.
fn process(folder: &Path, name: &str) -> Option<String> {
    let network = |pid: &str| fs::read_link(folder.join(pid).join("ns/net")).ok();
    let own = network("self");
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut pids = entries.filter_map(|e| e.file_name().into_string().ok());
    pids.find(|pid| {
        let number = pid.bytes().all(|b| b.is_ascii_digit());
        let named =
            || fs::read_to_string(folder.join(pid).join("comm")).is_ok_and(|c| c.trim() == name);
        number && named() && network(pid) == own
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use ringway_kernel::testing::{in_netns, ip};

    const TEXT: &str = include_str!("../../../config/ringway.toml");

    fn config(dir: &Path) -> Config {
        let mut config = Config::parse(Path::new("t"), TEXT).unwrap();
        config.node.state_dir = dir.join("state");
        config.node.socket = dir.join("sock");
        config.node.takeover = true;
        config
    }

    fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work).unwrap()
    }

    #[test]
    fn it_is_waited_for_as_long_as_the_overlay_is_flannels() {
        in_netns(|| {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path());
            let asked = || -> FlannelPods { Arc::new(|| panic!("nobody is to be asked")) };
            // No overlay: nobody is asked, who may not be there.
            assert!(run(await_node(
                &config,
                Some(asked()),
                std::future::pending()
            )));
            ip("link add flannel.1 type vxlan id 1 local 192.0.2.1 dstport 8472");
            let runs = || -> FlannelPods {
                Arc::new(|| Ok(vec!["kube-flannel/kube-flannel-ds-x".into()]))
            };
            let why = run(standing(&config, Some(&runs()))).unwrap();
            assert!(why.why.contains("kube-flannel-ds-x") && why.why.contains("flannel.1"));
            assert!(why.remedy.contains("label node node1 ringway.io/node=true"));
            let away: FlannelPods = Arc::new(|| Err("connection refused".into()));
            let why = run(standing(&config, Some(&away))).unwrap();
            assert!(why.why.contains("connection refused"), "{why:?}");
            // Stopped while it waits, and when it has left.
            let soon = tokio::time::sleep;
            let stopped = async { soon(Duration::from_millis(10)).await };
            assert!(!run(await_node(&config, Some(runs()), stopped)));
            let left = std::sync::atomic::AtomicUsize::new(0);
            let leaves: FlannelPods = Arc::new(move || {
                let before = left.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(vec!["kube-flannel/x".into(); usize::from(before < 2)])
            });
            assert!(run(await_node(
                &config,
                Some(leaves),
                std::future::pending()
            )));
        });
    }

    #[test]
    fn a_node_that_is_given_back_stays_so_until_flannel_was_there() {
        in_netns(|| {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path());
            fs::create_dir(&config.node.state_dir).unwrap();
            let mark = |boot: &str| {
                let state = format!(
                    r#"{{"schema":2,"boot_id":"{boot}","pods":{{}},"takeover":{{"given_back":true}}}}"#
                );
                fs::write(config.node.state_dir.join("state.json"), state).unwrap();
            };
            // Before the machine was started anew: whoever has the agent run since means it.
            mark("x");
            assert!(run(await_node(&config, None, std::future::pending())));
            mark(&ringway_control::state::boot_id());
            let stopped = async { tokio::time::sleep(Duration::from_millis(10)).await };
            assert!(!run(await_node(&config, None, stopped)));
            // Flannel has had the node since, and left.
            ip("link add flannel.1 type vxlan id 1 local 192.0.2.1 dstport 8472");
            assert!(run(await_node(&config, None, std::future::pending())));
        });
    }

    #[test]
    fn processes_are_known_by_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            ("12", "sh", 1),
            ("20", "flanneld", 2),
            ("34", "flanneld", 1),
            ("self", "flanneld", 1),
        ];
        for (pid, name, network) in all {
            let folder = dir.path().join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            let link = format!("net:[{network}]");
            std::os::unix::fs::symlink(link, folder.join("ns/net")).unwrap();
        }
        assert_eq!(process(dir.path(), FLANNELD).as_deref(), Some("34"));
        assert_eq!(process(dir.path(), "flannel"), None);
    }
}
