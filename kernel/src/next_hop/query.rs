//! What is asked of the kernel, and when: marks are set by changes and by the round, and taken off
//! by an answer.

use std::ops::Bound::{Excluded, Unbounded};
use std::time::Instant;

use super::due::{Bulk, Round};
use super::hop::Hop;
use super::{Endpoints, Kernel, NextHops, ROUND, TICK};
use crate::netlink::{Link, NetlinkError};

/// Ticks in which a round must get through all destinations.
const TICKS_OF_ROUND: usize = (ROUND.as_millis() / TICK.as_millis()) as usize;

impl NextHops {
    /// Begins a round when it is time, and marks the next few destinations of it.
    pub(super) fn advance_round(&mut self, now: Instant) {
        let early = |at| now.saturating_duration_since(at) < ROUND;
        if !self.round.began.is_some_and(early) {
            self.round = Round {
                began: Some(now),
                last: None,
            };
            self.look_at_link = true;
            self.look_at_addresses = true;
        }
        let count = self.destinations.len().div_ceil(TICKS_OF_ROUND);
        let from = self.round.last.map_or(Unbounded, Excluded);
        let next = self.destinations.range_mut((from, Unbounded)).take(count);
        for (dst, destination) in next {
            destination.look = true;
            let via = destination.via(*dst, self.interface);
            if let Some(hop) = via.and_then(|via| self.hops.get_mut(&via)) {
                hop.look_again();
            }
            self.round.last = Some(*dst);
        }
    }

    /// Asks for what is marked; what fails stays marked.
    pub(super) fn query(&mut self, kernel: &mut impl Kernel, now: Instant, tick: bool) {
        let mut failures = Failures::default();
        failures.note(self.query_link(kernel));
        self.spread_bulk(now);
        failures.note(self.query_addresses(kernel));
        for (dst, destination) in &mut self.destinations {
            if !destination.look {
                continue;
            }
            let endpoints = Endpoints {
                src: destination.src,
                dst: *dst,
            };
            failures.note(kernel.find_route(endpoints).map(|route| {
                destination.route = Some(route);
                destination.look = false;
            }));
        }
        self.keep_hops();
        if self.link.as_ref().is_some_and(Link::usable) {
            for (ip, hop) in &mut self.hops {
                if hop.wants_look(tick) {
                    failures.note(hop.look(self.interface, *ip, kernel, now));
                }
            }
        }
        self.report(&failures);
    }

    fn query_link(&mut self, kernel: &mut impl Kernel) -> Result<(), NetlinkError> {
        if !self.look_at_link {
            return Ok(());
        }
        let link = kernel.find_link(self.interface)?;
        self.look_at_link = false;
        let essence = |l: &Option<Link>| l.as_ref().map(|l| (l.usable(), l.mac));
        if essence(&self.link) != essence(&link) {
            // The kernel forgot its neighbours, and routes may have gone or come.
            self.hops.clear();
            self.bulk.routes = true;
        }
        self.link = link;
        Ok(())
    }

    fn query_addresses(&mut self, kernel: &mut impl Kernel) -> Result<(), NetlinkError> {
        if self.look_at_addresses {
            self.addresses = kernel.find_addresses(self.interface)?;
            self.look_at_addresses = false;
        }
        Ok(())
    }

    /// What concerns everybody becomes everybody's mark, not too often.
    fn spread_bulk(&mut self, now: Instant) {
        let early = |at| now.saturating_duration_since(at) < self.bulk_period();
        if self.bulk == Bulk::default() || self.bulk_at.is_some_and(early) {
            return;
        }
        self.bulk_at = Some(now);
        let bulk = std::mem::take(&mut self.bulk);
        // An address that comes or goes takes routes along, or makes them usable as a source.
        if bulk.routes || bulk.addresses {
            self.destinations.values_mut().for_each(|d| d.look = true);
        }
        self.look_at_addresses |= bulk.addresses;
        if bulk.hops {
            self.hops.values_mut().for_each(Hop::look_again);
        }
    }

    /// A hop for every address that some destination is behind, and no other.
    fn keep_hops(&mut self) {
        let mut before = std::mem::take(&mut self.hops);
        for (dst, destination) in &self.destinations {
            if let Some(via) = destination.via(*dst, self.interface) {
                let entry = self.hops.entry(via);
                entry.or_insert_with(|| before.remove(&via).unwrap_or_default());
            }
        }
    }

    /// Says once that queries fail, and once that they no longer do.
    fn report(&mut self, failures: &Failures) {
        match &failures.first {
            Some(e) if !self.failing => {
                tracing::warn!(
                    failed = failures.count,
                    "next hops may be out of date, and are asked for again: {e}"
                );
            }
            None if self.failing => tracing::info!("next hops are up to date again"),
            _ => {}
        }
        self.failing = failures.count > 0;
    }
}
#[derive(Default)]
struct Failures {
    first: Option<NetlinkError>,
    count: usize,
}

impl Failures {
    fn note(&mut self, outcome: Result<(), NetlinkError>) {
        if let Err(e) = outcome {
            self.count += 1;
            self.first.get_or_insert(e);
        }
    }
}
