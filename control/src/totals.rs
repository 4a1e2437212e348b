//! Counters of all workers together.

use std::sync::Arc;

use ringway_switch::{Counters, DropReason};
use ringway_tables::PortId;

use crate::view::{Count, DropCount, Totals, Traffic};

/// Sums over the workers.
pub fn totals(counters: &[Arc<Counters>]) -> Totals {
    let mut totals = Totals::default();
    for c in counters {
        let pairs = [
            (&mut totals.received, &c.received),
            (&mut totals.delivered, &c.delivered),
            (&mut totals.tunnelled, &c.tunnelled),
            (&mut totals.answered, &c.answered),
            (&mut totals.ignored, &c.ignored),
            (&mut totals.dropped, &c.dropped),
            (&mut totals.originated, &c.originated),
            (&mut totals.returned, &c.returned),
        ];
        for (sum, pair) in pairs {
            let sum: &mut Count = sum;
            sum.frames += pair.frames.get();
            sum.packets += pair.packets.get();
        }
        totals.lost_packets += c.lost.iter().map(|cell| cell.get()).sum::<u64>();
        totals.copied_bytes += c.copied_bytes.get();
    }
    totals
}

/// A port's traffic in both directions, and its drops.
pub fn port_totals(counters: &[Arc<Counters>], port: PortId) -> (Traffic, Traffic, Vec<DropCount>) {
    let sides = || counters.iter().map(|c| c.port(port));
    let drops = DropReason::ALL
        .iter()
        .map(|reason| DropCount {
            reason: reason.name().into(),
            count: sides().map(|s| s.drops[reason.index()].get()).sum(),
        })
        .filter(|d| d.count > 0)
        .collect();
    (
        traffic(sides().map(|s| &s.rx)),
        traffic(sides().map(|s| &s.tx)),
        drops,
    )
}

/// One direction, all workers together.
pub fn traffic<'a>(sides: impl Iterator<Item = &'a ringway_switch::counters::Traffic>) -> Traffic {
    let mut sum = Traffic::default();
    for side in sides {
        sum.frames += side.count.frames.get();
        sum.packets += side.count.packets.get();
        sum.bytes += side.bytes.get();
    }
    sum
}
