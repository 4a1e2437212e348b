//! What each screen shows of a look: columns in the order in which they matter, and rows.
//!
//! The letters that sort are none of those that do something else: `s`, `r`, `p`, `q`.

use std::collections::HashMap;

use ringway_view::units::{amount, duration};
use ringway_view::{PeerHealth, PeerState};

use crate::model::{Pace, Shown, WorkerPace};
use crate::table::Kind::{self, Ago, Index, Number, State, Text};
use crate::table::{Cell, Column, Row, Screen};
use crate::text::{percent, rate};

const fn column(title: &'static str, letter: char, width: usize, kind: Kind) -> Column {
    Column {
        title,
        letter,
        width,
        kind,
    }
}

const PODS: [Column; 10] = [
    column("POD", 'o', 0, Text),
    column("TX bit/s", 't', 8, Number),
    column("RX bit/s", 'b', 8, Number),
    column("DROPS/s", 'd', 7, Number),
    column("TX pk/s", 'x', 7, Number),
    column("RX pk/s", 'k', 7, Number),
    column("DROPPED", 'e', 7, Number),
    column("MOSTLY FOR", 'm', 20, Text),
    column("MTU", 'u', 5, Number),
    column("ADDRESSES", 'a', 20, Text),
];
const PEERS: [Column; 11] = [
    column("PEER", 'e', 0, Text),
    column("STATE", 'a', 10, State),
    column("TX bit/s", 't', 8, Number),
    column("RX bit/s", 'b', 8, Number),
    column("RTT ms", 'm', 6, Number),
    column("LOST %", 'l', 6, Number),
    column("DROPS/s", 'd', 7, Number),
    column("TX pk/s", 'x', 7, Number),
    column("RX pk/s", 'k', 7, Number),
    column("MTU", 'u', 5, Number),
    column("OUTER ADDRESSES", 'o', 20, Text),
];
const DROPS: [Column; 5] = [
    column("REASON", 'e', 0, Text),
    column("DROPS/s", 'd', 7, Number),
    column("COUNT", 'c', 7, Number),
    column("MOSTLY", 'm', 22, Text),
    column("LAST AGO", 'l', 11, Ago),
];
const WORKERS: [Column; 9] = [
    column("WORKER", 'w', 0, Index),
    column("BUSY %", 'b', 6, Number),
    column("ROUNDS/s", 'o', 8, Number),
    column("FRAMES %", 'f', 8, Number),
    column("SLEEPS/s", 'l', 8, Number),
    column("CPU", 'c', 3, Number),
    column("DGRAM/s", 'd', 7, Number),
    column("LOST DGRAM/s", 'm', 12, Number),
    column("FREE BUFFERS", 'u', 12, Number),
];

/// Columns of a screen, those that matter most first.
pub(crate) fn columns(screen: Screen) -> &'static [Column] {
    match screen {
        Screen::Pods => &PODS,
        Screen::Peers => &PEERS,
        Screen::Drops => &DROPS,
        Screen::Workers => &WORKERS,
    }
}

/// The column that a screen is sorted by at first.
pub(crate) fn usual(screen: Screen) -> usize {
    match screen {
        Screen::Workers => 0,
        Screen::Pods | Screen::Peers | Screen::Drops => 1,
    }
}

/// Everything that a screen is of, in no order.
pub(crate) fn rows(screen: Screen, shown: &Shown) -> Vec<Row> {
    match screen {
        Screen::Pods => pods(shown),
        Screen::Peers => peers(shown),
        Screen::Drops => drops(shown),
        Screen::Workers => workers(shown),
    }
}

/// How many a screen is of.
pub(crate) fn count(screen: Screen, shown: &Shown) -> usize {
    match screen {
        Screen::Pods => shown.pods.len(),
        Screen::Peers => shown.peers.len(),
        Screen::Drops => losses(shown).len(),
        Screen::Workers => shown.workers.len(),
    }
}

fn rated(value: Option<f64>) -> Cell {
    Cell::number(rate(value), value)
}

fn counted(value: u64) -> Cell {
    Cell::number(amount(value), Some(value as f64))
}

fn weight(pace: &Pace) -> f64 {
    pace.sent.bits.unwrap_or(0.0) + pace.received.bits.unwrap_or(0.0)
}

/// Whether it is more than nothing.
fn some(rate: Option<f64>) -> bool {
    rate.is_some_and(|rate| rate >= 0.05)
}

fn pods(shown: &Shown) -> Vec<Row> {
    let both = shown.look.pods.iter().zip(&shown.pods);
    both.map(|(pod, pace)| {
        let mostly = pod.drops.iter().max_by_key(|drop| drop.count);
        Row {
            key: pod.name.clone(),
            cells: vec![
                Cell::text(&pod.name),
                rated(pace.sent.bits),
                rated(pace.received.bits),
                rated(pace.drops),
                rated(pace.sent.packets),
                rated(pace.received.packets),
                counted(pace.dropped),
                Cell::text(mostly.map_or("", |drop| &drop.reason)),
                counted(pod.mtu.into()),
                Cell::text(&pod.ips.join(" ")),
            ],
            weight: weight(pace),
            bad: some(pace.drops),
        }
    })
    .collect()
}

/// A state in a word or two; what is wrong stands out without colours, too.
pub(crate) fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Unknown => "not known",
        PeerState::Mute => "no probes",
        PeerState::Reached => "reached",
        PeerState::BlackHole => "BLACK HOLE",
        PeerState::NotHeard => "NOT HEARD",
        PeerState::Silent => "SILENT",
    }
}

/// Whether packets do not get there as they should.
pub(crate) fn is_bad(state: PeerState) -> bool {
    state > PeerState::Reached
}

/// Of the probes sent, per cent that were not answered.
pub(crate) fn lost(health: &PeerHealth) -> Option<f64> {
    (health.probes > 0).then(|| health.lost as f64 * 100.0 / health.probes as f64)
}

fn peers(shown: &Shown) -> Vec<Row> {
    let both = shown.look.peers.iter().zip(&shown.peers);
    both.map(|(peer, pace)| {
        let health = peer.health.as_ref();
        let now = health.map(|health| health.state);
        let round_trip = health.and_then(|health| health.round_trip_us);
        let round_trip = round_trip.map(|us| us as f64 / 1e3);
        let lost = health.and_then(lost);
        let mtu = health.and_then(|health| health.verified_mtu);
        let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        Row {
            key: peer.name.clone(),
            cells: vec![
                Cell::text(&peer.name),
                // The worst first.
                Cell {
                    text: now.map_or("-", state).into(),
                    number: Some(now.map_or(0.0, |state| -f64::from(state as u8))),
                },
                rated(pace.sent.bits),
                rated(pace.received.bits),
                Cell::number(
                    round_trip.map_or_else(|| "-".into(), |ms| format!("{ms:.2}")),
                    round_trip,
                ),
                Cell::number(percent(lost), lost),
                rated(pace.drops),
                rated(pace.sent.packets),
                rated(pace.received.packets),
                Cell::number(
                    mtu.map_or_else(|| "-".into(), |mtu| mtu.to_string()),
                    mtu.map(f64::from),
                ),
                Cell::text(&addresses.join(" ")),
            ],
            weight: weight(pace),
            bad: now.is_some_and(is_bad) || some(pace.drops),
        }
    })
    .collect()
}

/// What was lost for one reason, or by one counter of the kernel at all its places.
pub(crate) struct Loss<'a> {
    pub(crate) reason: &'a str,
    pub(crate) kernel: bool,
    pub(crate) count: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) last_ago_ms: Option<u64>,
    pub(crate) cause: &'a str,
    pub(crate) remedy: &'a str,
    /// Where, how many and how many a second; most first.
    pub(crate) at: Vec<(String, u64, Option<f64>)>,
}

/// Every reason, then every counter of the kernel that is not zero.
pub(crate) fn losses(shown: &Shown) -> Vec<Loss<'_>> {
    let drops = &shown.look.drops;
    let mut all: Vec<Loss<'_>> = Vec::with_capacity(drops.drops.len());
    for drop in &drops.drops {
        let at = drop.at.iter().map(|at| {
            let place = format!("{} {} {}", at.direction, at.kind, at.name);
            (place, at.packets, at.rate)
        });
        all.push(Loss {
            reason: &drop.reason,
            kernel: false,
            count: drop.frames + drop.lost_packets,
            rate: drop.rate,
            last_ago_ms: drop.last_ago_ms,
            cause: &drop.cause,
            remedy: &drop.remedy,
            at: at.collect(),
        });
    }
    let mut known: HashMap<&str, usize> = HashMap::new();
    for loss in drops.kernel.iter().filter(|loss| loss.count > 0) {
        let at = *known.entry(&loss.counter).or_insert_with(|| {
            all.push(Loss {
                reason: &loss.counter,
                kernel: true,
                count: 0,
                rate: None,
                last_ago_ms: None,
                cause: &loss.cause,
                remedy: &loss.remedy,
                at: Vec::new(),
            });
            all.len() - 1
        });
        let sum = &mut all[at];
        sum.count += loss.count;
        sum.rate = match (sum.rate, loss.rate) {
            (None, rate) => rate,
            (Some(sum), rate) => Some(sum + rate.unwrap_or(0.0)),
        };
        sum.at.push((loss.at.clone(), loss.count, loss.rate));
    }
    all
}

fn drops(shown: &Shown) -> Vec<Row> {
    let row = |loss: Loss<'_>| {
        let last = loss.last_ago_ms;
        let mostly = loss.at.first().map_or("", |(place, ..)| place);
        Row {
            key: loss.reason.into(),
            cells: vec![
                Cell::text(loss.reason),
                rated(loss.rate),
                counted(loss.count),
                Cell::text(mostly),
                Cell {
                    text: last.map_or_else(|| "-".into(), |ms| duration(ms / 1000)),
                    // The latest first.
                    number: Some(last.map_or(f64::INFINITY, |ms| ms as f64)),
                },
            ],
            weight: loss.count as f64,
            bad: some(loss.rate),
        }
    };
    losses(shown).into_iter().map(row).collect()
}

fn workers(shown: &Shown) -> Vec<Row> {
    let both = shown.look.status.workers.iter().zip(&shown.workers);
    both.map(|(worker, pace)| {
        let WorkerPace {
            busy, with_frames, ..
        } = *pace;
        Row {
            key: worker.index.to_string(),
            cells: vec![
                Cell {
                    text: format!("worker {}", worker.index),
                    number: Some(worker.index as f64),
                },
                Cell::number(percent(busy), busy),
                rated(pace.rounds),
                Cell::number(percent(with_frames), with_frames),
                rated(pace.sleeps),
                Cell::number(
                    worker.cpu.map_or_else(|| "-".into(), |cpu| cpu.to_string()),
                    worker.cpu.map(|cpu| cpu as f64),
                ),
                rated(pace.datagrams),
                rated(pace.overflow),
                counted(worker.buffers.free),
            ],
            weight: 0.0,
            bad: some(pace.overflow),
        }
    })
    .collect()
}

/// `for 3 min 2 s`
pub(crate) fn since(seconds: u64) -> String {
    format!("for {}", duration(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_stands_in_its_header_and_does_nothing_else() {
        for screen in Screen::ALL {
            let columns = columns(screen);
            for (i, column) in columns.iter().enumerate() {
                let title = column.title.to_lowercase();
                assert!(title.contains(column.letter), "{title}");
                assert!(!"srpq".contains(column.letter), "{title}");
                let same = columns.iter().filter(|c| c.letter == column.letter);
                assert_eq!(same.count(), 1, "{screen:?} {title}");
                assert!(i == 0 || column.width >= title.len(), "{title}");
            }
            assert!(usual(screen) < columns.len());
        }
    }
}
