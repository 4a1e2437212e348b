//! Another outer address than the one in use: it was given to the interface in place of the other, or is the
//! better one now.
//!
//! ```text
//! the kernel tells of addresses or routes ─ examined anew ─ the same twice ─▶ sockets ─ tables ─ next hops, rings
//! ```
//!
//! A family keeps its old address while there is no other, for one that is taken away often comes back. One that
//! the agent did not start with has no sockets: that takes a new start, which is said.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringway_kernel::netlink::Change;
use ringway_kernel::reconcile::Condition;
use ringway_tables::Snapshot;

use super::acquire::open_sockets;
use super::tables::{Known, Surroundings};
use super::{Control, Descriptors};
use crate::underlay::Underlay;
use ringway_worker::Command;

/// Looks are this far apart at least: every peer's route is asked for.
const PERIOD: Duration = Duration::from_secs(1);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Outer {
    told: bool,
    looked: Option<Instant>,
    /// What the last look would have taken.
    seen: Option<Vec<IpAddr>>,
    /// What is wrong with the addresses in use, if anything is.
    outdated: Option<(String, Instant)>,
}

impl Outer {
    /// Takes note of what the kernel tells.
    pub(super) fn note_changes(&mut self, changes: &[Change]) {
        let matters =
            |c: &Change| matches!(c, Change::Overrun | Change::Addresses | Change::Routes);
        self.told |= changes.iter().any(matters);
    }

    /// What is wrong with the addresses in use, as a condition.
    pub(super) fn condition(&self, used: &Underlay) -> Option<Condition> {
        let (why, since) = self.outdated.clone()?;
        let used: Vec<String> = used.addresses().iter().map(ToString::to_string).collect();
        Some(Condition {
            what: "outer addresses".into(),
            wanted: "those that the kernel sends from towards the peers".into(),
            found: used.join(", "),
            why,
            since,
        })
    }

    /// Keeps what is wrong now, and says when that is something else than before.
    fn note(&mut self, outdated: Option<String>) {
        if outdated != self.outdated() {
            match &outdated {
                Some(what) => tracing::warn!("outer addresses: {what}"),
                None => tracing::info!("the outer addresses in use are the right ones again"),
            }
        }
        let since = self.outdated.as_ref().map(|(_, since)| *since);
        let since = since.unwrap_or_else(Instant::now);
        self.outdated = outdated.map(|why| (why, since));
    }

    fn outdated(&self) -> Option<String> {
        self.outdated.as_ref().map(|(why, _)| why.clone())
    }
}

impl Control {
    /// Once a second.
    pub(super) fn look_at_outer_addresses(&mut self) {
        let early = |at: Instant| at.elapsed() < PERIOD;
        if !self.outer.told || self.outer.looked.is_some_and(early) {
            return;
        }
        self.outer.told = false;
        self.outer.looked = Some(Instant::now());
        let outdated =
            match Underlay::examine(&self.config, self.cluster.state(), &mut self.netlink) {
                Ok(now) => self.compare(now),
                Err(e) => Some(e.problem.to_string()),
            };
        self.outer.note(outdated);
    }

    /// Takes the addresses that another configuration names, without waiting for a second look.
    pub(super) fn take_outer_addresses(&mut self, named: Underlay) {
        // The first look takes note, the second acts.
        self.compare(named.clone());
        let outdated = self.compare(named);
        self.outer.note(outdated);
    }

    /// Takes what a second look in a row finds; what is left to say.
    fn compare(&mut self, now: Underlay) -> Option<String> {
        let addresses = now.addresses();
        let settled = self.outer.seen.replace(addresses.clone()) == Some(addresses);
        let mut left = Vec::new();
        let mut one = |used: Option<IpAddr>, now: Option<IpAddr>| match (used, now) {
            (Some(used), None) => {
                left.push(format!(
                    "{used} cannot be used, and there is no other of its family"
                ));
                Some(used)
            }
            (None, Some(now)) => {
                left.push(format!(
                    "{now} is of a family that was not there at the start: start the agent again"
                ));
                None
            }
            (_, now) => now,
        };
        let (v4, v6) = (one(self.underlay.v4, now.v4), one(self.underlay.v6, now.v6));
        let next = Underlay { v4, v6, ..now };
        let (before, after) = (self.underlay.addresses(), next.addresses());
        if before != after {
            if !settled {
                // One that was taken away may come back at once.
                self.outer.told = true;
                return self.outer.outdated();
            }
            match self.change_outer_addresses(next) {
                Ok(()) => tracing::warn!("outer addresses are {after:?} now, and were {before:?}"),
                Err(e) => left.push(format!("{after:?} cannot be taken: {e:#}")),
            }
        } else if left.is_empty() {
            self.underlay.choices = next.choices;
        }
        (!left.is_empty()).then(|| left.join("; "))
    }

    /// Sockets, tables and rings at other addresses of the same families.
    fn change_outer_addresses(&mut self, next: Underlay) -> anyhow::Result<()> {
        let mut tables = Snapshot::clone(&self.publisher.current());
        let around = Surroundings {
            config: &self.config,
            underlay: &next,
            known: &|_| Known::default(),
        };
        let state = self.cluster.state();
        around.set_node(&mut tables, state)?;
        around.set_peers(&mut tables, state)?;
        let changed = |v6: bool, ip: Option<IpAddr>| {
            let used = if v6 {
                self.underlay.v6
            } else {
                self.underlay.v4
            };
            ip.filter(|_| ip != used)
        };
        let changing = Underlay {
            v4: changed(false, next.v4),
            v6: changed(true, next.v6),
            ..next.clone()
        };
        let encaps: Vec<_> = self.descriptors.encaps().collect();
        let (mut descriptors, mut status) = (Descriptors::default(), Vec::new());
        let mut opened = Vec::new();
        for worker in &self.workers {
            let index = worker.index();
            let sockets = open_sockets(
                &self.config,
                &changing,
                (&encaps, index),
                &mut descriptors,
                &mut status,
            )?;
            opened.push(sockets);
        }
        // From here on nothing fails.
        for (worker, sockets) in self.workers.iter().zip(opened) {
            for socket in sockets {
                worker.send(Command::SetSocket(Box::new(socket)));
            }
        }
        let family = |v6: bool| if v6 { changing.v6 } else { changing.v4 };
        let stays = |v6: bool| family(v6).is_none();
        self.descriptors.sockets.retain(|socket| stays(socket.v6));
        self.descriptors.sockets.append(&mut descriptors.sockets);
        let is_v6 = |local: &str| local.parse().is_ok_and(|a: SocketAddr| a.is_ipv6());
        self.sockets.retain(|socket| stays(is_v6(&socket.local)));
        self.sockets.append(&mut status);
        self.underlay = next;
        self.publisher.publish(tables);
        self.find_next_hops();
        // Their program takes packets to the old addresses; they are opened anew within a second.
        self.rings.close(&self.workers, &mut self.descriptors);
        Ok(())
    }
}
