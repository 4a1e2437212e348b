//! The node port as a whole: what is wanted of it, in the order in which it can be had.
//!
//! ```text
//! link ─ settings ─ addresses ─ up ─ neighbours ─ routes ─ (others' routes that go before them)
//! ```
//!
//! IPv6 needs an MTU of 1,280 and, for its addresses, its settings; routes need the interface up and addresses
//! on it. Everything is looked at once a second but neighbours and routes, which may be many: those when the
//! kernel tells of a change, and now and then although it has told of none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

use super::addresses::{Addresses, Prefix, Ranked};
use super::link::{self, Activity, Attributes};
use super::neighbours::{Entry, Neighbours};
use super::overrides::Overrides;
use super::routes::{self, Routes};
use super::settings::Settings;
use super::{NodeError, Spec, next_hop, open, remove_renamed};
use crate::before::Before;
use crate::mac;
use crate::netlink::{Change, Netlink};
use crate::pod::interface::Queues;
use crate::reconcile::{Condition, Difference, Kernel, Ledger, Look, Outcome, Reconciled};

/// How often neighbours and routes are looked at although nobody has told of a change.
const PERIOD: Duration = Duration::from_secs(30);
/// Looks at routes may take this part of the time at most: when a change was told, and when not.
const SHARE: u32 = 20;
const IDLE_SHARE: u32 = 1000;

/// What is to be looked at because somebody may have changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    neighbours: bool,
    routes: bool,
}

const ALL: Due = Due {
    neighbours: true,
    routes: true,
};

/// What is different about what is wanted.
#[derive(Clone, Copy, Debug)]
struct Changed {
    /// Anything but neighbours and routes.
    any: bool,
    addresses: bool,
}

/// The node port, reconciled.
pub struct NodePort {
    netlink: Netlink,
    spec: Spec,
    index: u32,
    localnet: bool,
    attributes: Reconciled<Attributes>,
    settings: Reconciled<Settings>,
    addresses: Reconciled<Addresses>,
    activity: Reconciled<Activity>,
    neighbours: Reconciled<Neighbours>,
    routes: Reconciled<Routes>,
    overrides: Overrides,
    /// The pods' part of the neighbours.
    pods: BTreeMap<IpAddr, MacAddr>,
    due: Due,
    looked: Instant,
    /// What the last look at routes took.
    cost: Duration,
}

/// What a look has found of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Present,
    /// It was deleted, or moved to another namespace.
    Gone,
}

impl NodePort {
    /// Makes or finds the interface and sets everything on it, in the calling thread's network namespace; with
    /// `queues` queues, to be read by the caller. What an earlier configuration left on it is taken away.
    ///
    /// # Errors
    /// It cannot be had, or something on it cannot be set.
    pub fn open(
        spec: Spec,
        queues: usize,
        before: &mut Before,
        ledger: &mut Ledger,
    ) -> Result<(Self, Queues), NodeError> {
        let mut netlink = Netlink::open()?.strict();
        let (index, queues) = Self::find(&mut netlink, &spec, queues)?;
        let interface = || spec.name.clone();
        let mut port = Self {
            index,
            localnet: false,
            attributes: Reconciled::new(Attributes {
                interface: interface(),
            }),
            settings: Reconciled::new(Settings::new(&spec.name, &spec.underlay)),
            addresses: Reconciled::new(Addresses {
                interface: interface(),
            }),
            activity: Reconciled::new(Activity {
                interface: interface(),
            }),
            neighbours: Reconciled::new(Neighbours {
                interface: interface(),
            }),
            routes: Reconciled::new(Routes),
            overrides: Overrides::default(),
            pods: BTreeMap::new(),
            due: Due::default(),
            looked: Instant::now(),
            cost: Duration::ZERO,
            netlink,
            spec,
        };
        port.pass_on();
        let outcome = port.look_at(before, ledger, ALL, true, Instant::now());
        match ledger.first_failure().filter(|_| outcome.failed > 0) {
            Some(why) => Err(NodeError::Wrong(why)),
            None => Ok((port, queues)),
        }
    }

    fn find(netlink: &mut Netlink, spec: &Spec, queues: usize) -> Result<(u32, Queues), NodeError> {
        remove_renamed(netlink, spec)?;
        let queues = open(netlink, &spec.name, queues)?;
        Ok((netlink.link(&spec.name)?.index, queues))
    }

    /// Makes the interface again that is [gone](Presence::Gone). What cannot be set on it is tried again at the
    /// next look.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn make_again(
        &mut self,
        queues: usize,
        before: &mut Before,
        ledger: &mut Ledger,
    ) -> Result<Queues, NodeError> {
        let (index, queues) = Self::find(&mut self.netlink, &self.spec, queues)?;
        self.index = index;
        self.due = ALL;
        self.want_all_anew();
        self.look_at(before, ledger, ALL, true, Instant::now());
        Ok(queues)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Index of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The spec in force.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Wants something else of it from now on, and sets that at once: what is more specific before what covered
    /// it goes. Name and underlay stay as they were opened.
    pub fn want(&mut self, spec: Spec, before: &mut Before, ledger: &mut Ledger) {
        let (name, underlay) = (self.spec.name.clone(), self.spec.underlay.clone());
        let next = Spec {
            name,
            underlay,
            ..spec
        };
        if next == self.spec {
            return;
        }
        self.spec = next;
        let Changed { any, addresses } = self.pass_on();
        let now = Instant::now();
        if any {
            self.look_at(before, ledger, Due::default(), false, now);
        }
        if addresses {
            // They may have lost their source.
            self.routes.all_fresh();
        }
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: self.index,
            before,
        };
        self.neighbours.apply(&mut kernel, ledger, now);
        self.routes.apply(&mut kernel, ledger, now);
    }

    /// Wants routes to other prefixes of peers from now on, and sets and removes them at once: what is added in
    /// the order of all routes, then what goes in the order given. The rest is not looked at, so a change costs
    /// the same among a hundred thousand.
    pub fn change_routes(
        &mut self,
        added: &[Cidr],
        removed: &[Cidr],
        before: &mut Before,
        ledger: &mut Ledger,
    ) {
        for prefix in removed {
            self.spec.peers.remove(prefix);
        }
        self.spec.peers.extend(added);
        for prefix in added.iter().chain(removed) {
            let (to, lead) = routes::wanted_of(&self.spec, *prefix);
            self.routes.want_one(to, lead);
        }
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: self.index,
            before,
        };
        self.routes.apply(&mut kernel, ledger, Instant::now());
    }

    /// The pods whose addresses the node's stack knows; whoever attaches or detaches one has told it already.
    pub fn want_pods(&mut self, pods: impl IntoIterator<Item = (IpAddr, MacAddr)>) {
        let pods: BTreeMap<IpAddr, MacAddr> = pods.into_iter().collect();
        if pods != self.pods {
            self.pods = pods;
            self.want_neighbours();
            self.due.neighbours = true;
        }
    }

    /// Takes away the entries of pods that are not there any more, of an earlier agent's life too.
    pub fn sweep_neighbours(&mut self, before: &mut Before, ledger: &mut Ledger) {
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: self.index,
            before,
        };
        self.neighbours.look(&mut kernel, ledger, at_once(true));
    }

    /// Whether packets to 127.0.0.1 come back by it translated: host ports are in use.
    pub fn want_localnet(&mut self, localnet: bool, before: &mut Before, ledger: &mut Ledger) {
        if std::mem::replace(&mut self.localnet, localnet) == localnet {
            return;
        }
        self.want_settings();
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: self.index,
            before,
        };
        self.settings.look(&mut kernel, ledger, at_once(false));
    }

    /// Takes note of what the kernel tells.
    pub fn notify(&mut self, changes: &[Change]) {
        if changes
            .iter()
            .any(|c| matches!(c, Change::Overrun | Change::Routes | Change::Addresses))
        {
            self.overrides.tell();
        }
        for change in changes {
            match change {
                Change::Overrun => self.due = ALL,
                // Addresses and the interface take routes and neighbours along.
                Change::Addresses => self.due = ALL,
                Change::Link { index } if *index == self.index => self.due = ALL,
                Change::Routes | Change::OwnRoutes => self.due.routes = true,
                Change::Neighbour { index, .. } if *index == self.index => {
                    self.due.neighbours = true;
                }
                Change::Link { .. } | Change::Neighbour { .. } => {}
            }
        }
    }

    /// To be called once a second: sets again what somebody else has changed.
    pub fn look(&mut self, before: &mut Before, ledger: &mut Ledger, now: Instant) -> Presence {
        let there = self.netlink.link_at(self.index);
        let gone = self.gone();
        match there {
            Ok(None) => return Presence::Gone,
            Ok(Some(_)) => ledger.looked(gone.kind, &BTreeSet::new(), now),
            Err(e) => {
                ledger.failed(&gone, e.to_string(), true, now);
                return Presence::Present;
            }
        }
        let since = now.saturating_duration_since(self.looked);
        let idle = since >= PERIOD.max(self.cost * IDLE_SHARE);
        let due = Due {
            neighbours: self.due.neighbours || idle,
            routes: idle || (self.due.routes && since >= self.cost * SHARE),
        };
        self.due.neighbours = false;
        self.due.routes &= !due.routes;
        if self.look_at(before, ledger, due, false, now) != Outcome::default() {
            // What was changed may have taken more along, and what failed may depend on it.
            self.due = ALL;
        }
        let interface = (self.spec.name.as_str(), self.index);
        let wanted = self.routes.wanted();
        self.overrides
            .look(&mut self.netlink, interface, wanted, now);
        Presence::Present
    }

    /// Routes of somebody else that take packets for pods away from it.
    pub fn overrides(&self) -> impl Iterator<Item = Condition> + '_ {
        self.overrides.conditions()
    }

    /// What it is called that the interface is gone.
    pub fn gone(&self) -> Difference {
        Difference {
            kind: "interface",
            thing: format!("interface {}", self.spec.name),
            wanted: "there".into(),
            found: "gone".into(),
            by: None,
        }
    }

    fn look_at(
        &mut self,
        before: &mut Before,
        ledger: &mut Ledger,
        due: Due,
        sweep: bool,
        now: Instant,
    ) -> Outcome {
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: self.index,
            before,
        };
        let (kernel, ledger) = (&mut kernel, ledger);
        let mut all = Outcome::default();
        // What was set may have taken along what comes after it.
        let look = |before: Outcome, sweep: bool| Look {
            sweep,
            along: before.set > 0,
            now,
        };
        all += self.attributes.look(kernel, ledger, look(all, sweep));
        all += self.settings.look(kernel, ledger, look(all, sweep));
        all += self.addresses.look(kernel, ledger, look(all, sweep));
        all += self.activity.look(kernel, ledger, look(all, sweep));
        if due.neighbours {
            // Which pods there are is not known at the start: see `sweep_neighbours`.
            all += self.neighbours.look(kernel, ledger, look(all, false));
        }
        if due.routes {
            let begin = Instant::now();
            all += self.routes.look(kernel, ledger, look(all, sweep));
            self.cost = begin.elapsed();
            self.looked = now;
        }
        all
    }

    /// Passes what is wanted on to its kinds.
    fn pass_on(&mut self) -> Changed {
        let spec = &self.spec;
        let attributes = link::wanted(&spec.name, &spec.alias, spec.mtu);
        let mut any = self.attributes.want(attributes);
        any |= self.activity.want(link::up());
        let gateways = spec.own.iter().filter_map(|own| {
            let prefix = Prefix::of(own.cidr.prefix_len());
            Some((Ranked::gateway(own.gateway?), prefix))
        });
        // What Flannel nodes have as their own on the overlay (flannel.1) and take as their source.
        let network = spec.first(false);
        let network = network.map(|(cidr, _)| (Ranked::other(cidr.network()), Prefix::of(32)));
        let addresses = self.addresses.want(gateways.chain(network));
        self.routes.want(routes::wanted(spec));
        any |= self.want_settings() || addresses;
        self.want_neighbours();
        Changed { any, addresses }
    }

    fn want_settings(&mut self) -> bool {
        let has = |v6| self.spec.first(v6).is_some();
        let wanted = self
            .settings
            .kind()
            .wanted(has(false), has(true), self.localnet);
        self.settings.want(wanted)
    }

    fn want_neighbours(&mut self) {
        let families = [false, true].into_iter();
        let hops = families.filter(|v6| self.spec.first(*v6).is_some());
        let hops = hops.map(|v6| (next_hop(v6), Entry::at(mac::GATEWAY)));
        let pods = self.pods.iter().map(|(ip, mac)| (*ip, Entry::at(*mac)));
        self.neighbours.want(hops.chain(pods));
        // Who detaches a pod takes its entry away; by now the address may be another's.
        self.neighbours.leave_gone();
    }

    /// On an interface that was made anew nothing of it was changed by anybody.
    fn want_all_anew(&mut self) {
        self.attributes.all_fresh();
        self.settings.all_fresh();
        self.addresses.all_fresh();
        self.activity.all_fresh();
        self.neighbours.all_fresh();
        self.routes.all_fresh();
    }
}

fn at_once(sweep: bool) -> Look {
    Look {
        sweep,
        along: false,
        now: Instant::now(),
    }
}
