//! The lines on top: the node in a few words, and what needs attention, the worst first.

use std::time::Duration;

use ringway_view::units::{amount, duration};
use ringway_view::{Condition, PeerState};

use crate::model::{Flow, Model, Pace, Shown};
use crate::rows;
use crate::text::{bits, clean, fit, percent, rate};

/// A line, and whether what it says is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) bad: bool,
}

fn said(text: String, bad: bool) -> Said {
    Said { text, bad }
}

/// Lines that say how the node is: those that a low terminal needs most come first.
pub(crate) fn lines(shown: &Shown, width: usize) -> Vec<Said> {
    let [from, to] = totals(&shown.pods);
    let [out, r#in] = totals(&shown.peers);
    let way = |name: &str, pods: (&str, Flow), peers: (&str, Flow)| {
        let part = |(name, flow): (&str, Flow)| {
            let packets = rate(flow.packets);
            format!("{name} {:>11} {packets:>7} pk/s", bits(flow.bits))
        };
        said(format!("{name:<4}{}   {}", part(pods), part(peers)), false)
    };
    vec![
        node(shown, width),
        load(shown, width),
        way("in", ("from pods ", from), ("from peers", r#in)),
        way("out", ("to pods   ", to), ("to peers  ", out)),
    ]
}

/// The sums of what was sent and of what was received; unknown where nothing is known of any.
fn totals(all: &[Pace]) -> [Flow; 2] {
    let sum = |of: fn(&Pace) -> Option<f64>| {
        let known = all.iter().filter_map(of);
        match all.is_empty() {
            true => Some(0.0),
            false => known.reduce(|a, b| a + b),
        }
    };
    [
        Flow {
            bits: sum(|pace| pace.sent.bits),
            packets: sum(|pace| pace.sent.packets),
        },
        Flow {
            bits: sum(|pace| pace.received.bits),
            packets: sum(|pace| pace.received.packets),
        },
    ]
}

fn node(shown: &Shown, width: usize) -> Said {
    let status = &shown.look.status;
    let rest = format!(
        ", ringway {}, up {}, {}, {}",
        clean(&status.version),
        duration(status.uptime_s),
        many(status.pods, "pod"),
        many(status.peers, "peer"),
    );
    // The name gives way, not what is said of the node.
    let room = width.saturating_sub(rest.chars().count()).max(8);
    said(format!("{}{rest}", fit(&clean(&status.node), room)), false)
}

fn many(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// How busy each worker is, the busiest first, and what is dropped.
fn load(shown: &Shown, width: usize) -> Said {
    let workers = shown.look.status.workers.iter().zip(&shown.workers);
    let mut busy: Vec<(usize, Option<f64>)> =
        workers.map(|(w, pace)| (w.index, pace.busy)).collect();
    busy.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)));
    let totals = &shown.look.status.totals;
    let dropped = totals.dropped.frames + totals.lost_packets;
    let drops = format!("drops {}/s, {} in all", rate(shown.drops), amount(dropped));
    let all = busy.len();
    let head = match all {
        1 => "1 worker, busy".to_owned(),
        n => format!("{n} workers, busy"),
    };
    let room = width.saturating_sub(head.len() + drops.len() + 3);
    let mut text = head;
    let mut taken = 0;
    for (n, (_, busy)) in busy.iter().enumerate() {
        let one = format!(" {} %", percent(*busy));
        let rest = if n + 1 < all { 4 } else { 0 };
        if taken + one.len() + rest > room && n > 0 {
            text.push_str(" ...");
            break;
        }
        taken += one.len();
        text.push_str(&one);
    }
    let bad = shown.drops.is_some_and(|rate| rate >= 0.05);
    said(format!("{text}   {drops}"), bad)
}

/// What needs attention, the worst first: what keeps pods from being served, peers that are not reached, what the
/// agent does not follow, what others have changed, then what is only to be known.
pub(crate) fn attention(shown: &Shown) -> Vec<String> {
    let status = &shown.look.status;
    let mut all = Vec::new();
    if let Some(error) = &status.state_error {
        all.push(format!(
            "the state is not on disk, so that pods cannot be added: {error}"
        ));
    }
    let not_served = status.not_served.iter();
    all.extend(not_served.map(|pod| format!("{} is not served: {}", pod.pod, pod.why)));
    for state in [PeerState::Silent, PeerState::NotHeard, PeerState::BlackHole] {
        if let Some(n) = status.peer_states.get(&state).filter(|n| **n > 0) {
            let what = match state {
                PeerState::Silent => "answer no more, and nothing comes from them",
                PeerState::NotHeard => {
                    "do not get what is sent there, though their own packets come"
                }
                _ => "lose large packets on the way",
            };
            all.push(format!(
                "{}: {} {what}",
                rows::state(state),
                many(*n, "peer")
            ));
        }
    }
    if let Some(error) = &status.config.error {
        all.push(format!(
            "{} is not in force, what was before is: {error}",
            status.config.file
        ));
    }
    for source in &status.sources {
        let error = source.error.iter().chain(&source.problems);
        all.extend(error.map(|error| format!("source {}: {error}", source.name)));
    }
    let mut conditions: Vec<&Condition> = status.conditions.iter().collect();
    conditions.sort_by_key(|condition| std::cmp::Reverse(condition.since_s));
    all.extend(conditions.into_iter().map(condition));
    if let Some(left) = status.reconcile.paused_s {
        all.push(format!(
            "what others change stays for {} more: `ringway reconcile resume` ends that",
            duration(left)
        ));
    }
    let restart = &status.config.needs_restart;
    all.extend(
        restart
            .iter()
            .map(|what| format!("waits for a restart of the agent: {what}")),
    );
    let left = status.left_pods.len();
    if left > 0 {
        let pods = many(left, "pod");
        all.push(format!(
            "{pods} still on the bridge of the network before: see `ringway status`"
        ));
    }
    all.iter().map(|text| clean(text)).collect()
}

/// A condition in a sentence.
pub(crate) fn condition(condition: &Condition) -> String {
    let Condition {
        what,
        wanted,
        found,
        why,
        since_s,
    } = condition;
    let since = duration(*since_s);
    format!("{what} should be {wanted}, and for {since} has not been: {found}; {why}")
}

/// The line below: that the agent is away, else how much needs attention and the worst of it.
pub(crate) fn notice(model: &Model, now: Duration) -> Option<Said> {
    let shown = model.shown();
    if let Some((why, since)) = model.away(now) {
        let away = duration(now.saturating_sub(since).as_secs());
        let why = clean(&why.replace('\n', " "));
        let old = shown.map_or_else(String::new, |shown| {
            let old = duration(now.saturating_sub(shown.at).as_secs());
            format!(", data of {old} ago")
        });
        return Some(said(format!("NO ANSWER for {away}{old}: {why}"), true));
    }
    let all = attention(shown?);
    Some(match &all[..] {
        [] => said("nothing needs attention".into(), false),
        [one] => said(format!("! {one}"), true),
        [worst, ..] => said(format!("! 1 of {}: {worst}", all.len()), true),
    })
}
