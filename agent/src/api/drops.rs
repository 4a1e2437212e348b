//! What was lost, and the last frames of it.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_control::losses::Losses;
use ringway_control::view::{Drop, DropAt, DropCount, Drops, LastDrop};
use ringway_control::{View, losses};
use ringway_switch::{Contents, Counters, Direction, DropReason, IgnoreReason};
use ringway_tables::{PeerId, PortId};
use ringway_worker::dropped::{DroppedFrame, KEPT};
use ringway_worker::{Entry, epoch};

use crate::summary;
use crate::trace::hex;

/// Drops with cause and remedy, most frequent first, and what the kernel lost; with `all` also what is zero
/// there. Goes into pods' namespaces: not for a thread that others wait for.
pub fn drops(view: &View, all: bool) -> Drops {
    let now = epoch().elapsed().as_nanos() as u64;
    let reasons = DropReason::ALL.iter().map(|reason| of(view, *reason, now));
    let mut drops: Vec<Drop> = reasons.filter(|d| d.frames + d.lost_packets > 0).collect();
    drops.sort_by_key(|d| Reverse(d.frames + d.lost_packets));
    let ignored = IgnoreReason::ALL.iter().map(|reason| DropCount {
        reason: reason.name().into(),
        count: sum(view, |c| c.ignores[reason.index()].get()),
    });
    let Losses {
        all: mut kernel,
        unread,
    } = losses::read(view);
    kernel.retain(|loss| all || loss.count > 0);
    kernel.sort_by_key(|loss| Reverse(loss.count));
    Drops {
        drops,
        ignored: ignored.filter(|d| d.count > 0).collect(),
        kernel,
        unread,
    }
}

fn sum(view: &View, of: impl Fn(&Counters) -> u64) -> u64 {
    view.counters.iter().map(|c| of(c)).sum()
}

fn of(view: &View, reason: DropReason, now: u64) -> Drop {
    let i = reason.index();
    let direction = match reason.direction() {
        Direction::From => "from",
        Direction::To => "to",
    };
    let place = |kind: &str, name: &str, packets| DropAt {
        kind: kind.into(),
        name: name.into(),
        direction: direction.into(),
        packets,
        rate: None,
    };
    let ports = view.snapshot.ports.iter().map(|(number, port)| {
        let packets = sum(view, |c| c.port(PortId(number)).drops[i].get());
        (kind_of(PortId(number)), &*port.name, packets)
    });
    let peers = view.snapshot.peers.iter().map(|(number, peer)| {
        let packets = sum(view, |c| c.peer(PeerId(number)).drops[i].get());
        ("peer", &*peer.name, packets)
    });
    let places = ports.chain(peers).filter(|(_, _, packets)| *packets > 0);
    let mut at: Vec<DropAt> = places.map(|(kind, name, n)| place(kind, name, n)).collect();
    at.sort_by_key(|at| Reverse(at.packets));
    let last = view
        .dropped
        .iter()
        .filter_map(|kept| kept.last(reason))
        .max();
    Drop {
        reason: reason.name().into(),
        frames: sum(view, |c| c.drops[i].get()),
        lost_packets: sum(view, |c| c.lost[i].get()),
        rate: None,
        last_ago_ms: last.map(|time| now.saturating_sub(time) / 1_000_000),
        cause: reason.cause().into(),
        remedy: reason.remedy().into(),
        at,
    }
}

fn kind_of(port: PortId) -> &'static str {
    match port {
        PortId::NODE => "node",
        _ => "pod",
    }
}

/// The last frames dropped, of one reason or of each, in order of time.
pub fn last(view: &View, reason: Option<DropReason>) -> Vec<LastDrop> {
    let reasons = match &reason {
        Some(reason) => std::slice::from_ref(reason),
        None => DropReason::ALL,
    };
    let (wall, now) = (SystemTime::now(), epoch().elapsed().as_nanos() as u64);
    let mut all: Vec<LastDrop> = Vec::new();
    for reason in reasons {
        let kept = view.dropped.iter().flat_map(|kept| kept.of(*reason));
        let mut kept: Vec<DroppedFrame> = kept.collect();
        kept.sort_by_key(|frame| frame.time);
        let latest = kept.len().saturating_sub(KEPT);
        let described = kept[latest..].iter().map(|frame| {
            let ago = Duration::from_nanos(now.saturating_sub(frame.time));
            let time = wall.checked_sub(ago).unwrap_or(UNIX_EPOCH);
            describe(frame, *reason, time)
        });
        all.extend(described);
    }
    all.sort_by_key(|frame| frame.time_ns);
    all
}

fn describe(frame: &DroppedFrame, reason: DropReason, time: SystemTime) -> LastDrop {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (kind, number) = match frame.entry {
        Entry::Port(port) => (kind_of(port), port.0),
        Entry::Peer(peer) => ("peer", peer.0),
        Entry::Underlay | Entry::Switch => ("underlay", 0),
    };
    let name = match (&frame.name, kind) {
        (Some(name), _) => name.to_string(),
        (None, "underlay") => String::new(),
        (None, _) => format!("number {number}"),
    };
    let (head, len) = (frame.head(), frame.len as usize);
    let (contents, line) = match frame.contents {
        Contents::Frame => ("frame", summary::frame(head, len)),
        Contents::Packet => ("packet", summary::packet(head, len)),
        Contents::Datagram => ("datagram", summary::datagram(head, len)),
    };
    LastDrop {
        reason: reason.name().into(),
        time_ns: since.as_nanos() as u64,
        kind: kind.into(),
        name,
        length: frame.len,
        packets: frame.packets,
        contents: contents.into(),
        summary: line,
        bytes: hex(head),
    }
}
