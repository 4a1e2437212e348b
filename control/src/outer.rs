//! Another outer address than the one in use: it was given to the interface in place of the other, or is the
//! better one now.
//!
//! ```text
//! the kernel tells of addresses or routes ─ examined anew ─ the same twice ─▶ sockets ─ tables ─ next hops, rings
//! ```
//!
//! A family keeps its old address while there is no other, for one that is taken away often comes back. One that
//! the agent did not start with has no sockets: that takes a new start, which is said.
//!
//! **Former addresses.** What peers send to is theirs to choose: one that was told of both addresses goes on with
//! the first. So the sockets at the old address receive as long as the interface has it, and send again when it is
//! the better one once more. Rings take packets to the address in use only; the kernel hands these sockets theirs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_kernel::netlink::Change;
use ringway_kernel::reconcile::Condition;
use ringway_tables::Snapshot;

use super::acquire::{adopt_socket, open_socket};
use super::tables::{Known, Surroundings};
use super::{Control, Descriptors, SocketDescriptors};
use crate::underlay::Underlay;
use crate::view::SocketStatus;
use ringway_worker::{Command, UnderlaySocket};

/// Looks are this far apart at least: peers' routes are asked for. Less than the second between two ticks, one
/// of which comes a little early now and then.
const PERIOD: Duration = Duration::from_millis(800);

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
        self.close_former(&now.present());
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
        let moved = self.sockets_for_addresses(&next)?;
        // From here on nothing fails. Those that send come first, in the place of the old ones.
        for (worker, socket) in moved.sending {
            self.tell(worker, Command::SetSocket(Box::new(socket)));
        }
        for (worker, socket) in moved.former {
            let (encap, v6) = (socket.encap, socket.v6);
            let socket = Some(Box::new(socket));
            self.tell(worker, Command::SetFormerSocket { encap, v6, socket });
        }
        self.descriptors.sockets = moved.descriptors.sockets;
        let former = std::mem::replace(&mut self.descriptors.former, moved.descriptors.former);
        self.sockets.extend(moved.status);
        self.underlay = next;
        self.close_unused(former);
        self.publish(tables);
        self.find_next_hops();
        // Their program takes packets to the old addresses; they are opened anew within a second.
        self.rings.close(&self.workers, &mut self.descriptors);
        self.tell_sources();
        Ok(())
    }

    /// Sockets for other addresses of the same families, none of them in use yet.
    fn sockets_for_addresses(&self, next: &Underlay) -> anyhow::Result<Moved> {
        let (present, used) = (next.present(), next.addresses());
        let mut moved = Moved::default();
        for old in &self.descriptors.sockets {
            let v6 = old.local.is_ipv6();
            let Some(address) = (if v6 { next.v6 } else { next.v4 }) else {
                continue;
            };
            if address == old.local.ip() {
                moved.descriptors.sockets.push(old.duplicate()?);
                continue;
            }
            let former = &self.descriptors.former;
            let before = former.iter().find(|other| other.same_place(old));
            let sending = match before.filter(|before| before.local.ip() == address) {
                Some(before) => {
                    moved.descriptors.sockets.push(before.duplicate()?);
                    adopt_socket(&self.config, next, before)?
                }
                None => {
                    let which = (address, old.encap, old.worker);
                    let (descriptors, status) = (&mut moved.descriptors, &mut moved.status);
                    open_socket(&self.config, next, which, descriptors, status)?
                }
            };
            moved.sending.push((old.worker, sending));
            let receives = |one: &&SocketDescriptors| {
                let ip = one.local.ip();
                present.contains(&ip) && !used.contains(&ip)
            };
            // One of before keeps its place where the old address is gone.
            if let Some(former) = std::iter::once(old).chain(before).find(receives) {
                let socket = adopt_socket(&self.config, next, former)?;
                moved.descriptors.former.push(former.duplicate()?);
                moved.former.push((old.worker, socket));
            }
        }
        // Nothing changes about the other family's.
        for former in &self.descriptors.former {
            let stays = match former.local.is_ipv6() {
                true => self.underlay.v6 == next.v6,
                false => self.underlay.v4 == next.v4,
            };
            if stays {
                moved.descriptors.former.push(former.duplicate()?);
            }
        }
        Ok(moved)
    }

    fn tell(&self, worker: usize, command: Command) {
        if let Some(worker) = self.workers.iter().find(|w| w.index() == worker) {
            worker.send(command);
        }
    }

    /// Closes sockets at former addresses that the interface does not have any more.
    fn close_former(&mut self, present: &[IpAddr]) {
        let former = std::mem::take(&mut self.descriptors.former);
        let (stay, gone) = former
            .into_iter()
            .partition(|socket| present.contains(&socket.local.ip()));
        self.descriptors.former = stay;
        self.close_unused(gone);
    }

    /// Takes from the workers what of these is at no former address any more, and from the status what is closed.
    fn close_unused(&mut self, former: Vec<SocketDescriptors>) {
        for socket in former {
            let mut open = self.descriptors.former.iter();
            if !open.any(|other| other.same_place(&socket)) {
                let command = Command::SetFormerSocket {
                    encap: self.config.encap(socket.encap),
                    v6: socket.local.is_ipv6(),
                    socket: None,
                };
                self.tell(socket.worker, command);
            }
        }
        let Descriptors {
            sockets, former, ..
        } = &self.descriptors;
        let open: BTreeSet<String> = sockets
            .iter()
            .chain(former)
            .map(|socket| socket.local.to_string())
            .collect();
        self.sockets.retain(|socket| open.contains(&socket.local));
    }
}

/// What a change of addresses makes of the sockets.
#[derive(Default)]
struct Moved {
    /// By number of the worker.
    sending: Vec<(usize, UnderlaySocket)>,
    former: Vec<(usize, UnderlaySocket)>,
    /// All sockets there are afterwards.
    descriptors: Descriptors,
    /// What is said of new ones.
    status: Vec<SocketStatus>,
}
