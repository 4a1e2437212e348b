//! One pod network, and the searches done on it.

use std::time::Duration;

use super::bisect::{Found, Goal, Trial, search};
use super::{Kind, Path, SearchError};
use crate::lab::{Family, Mode, NodeKind, RingwayOptions, Topology};
use crate::load::{Between, Io, Load, LoadError, Mix, Outcome, Plan, Quantiles};
use crate::table::Progress;

/// A sender that does less than this share of what it was asked did not keep up.
const KEPT_UP: f64 = 0.97;

/// What all searches have in common.
pub(super) struct What {
    pub(super) path: Path,
    pub(super) mode: Mode,
    pub(super) family: Family,
    pub(super) mix: Mix,
    pub(super) flows: u32,
    pub(super) io: Io,
    pub(super) seconds: f64,
    pub(super) goal: Goal,
}

/// One search.
pub(super) struct Search {
    pub(super) found: Found,
    /// At half of the rate that was found.
    pub(super) latency: Option<Quantiles>,
    /// Packets lost by full queues: at the sender's interface, and at the sink's socket.
    pub(super) refused: u64,
    pub(super) overrun: u64,
    pub(super) reordered: u64,
    pub(super) duplicated: u64,
}

/// A pod network.
pub(super) struct Side {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) searches: Vec<Search>,
    between: Between,
    // Goes last: the pods are in it.
    _topology: Topology,
}

pub(super) fn name(kind: Kind, path: Path) -> String {
    let (who, path) = match (kind, path) {
        (Kind::Ringway, Path::Same) => ("Ringway", "same node"),
        (Kind::Ringway, Path::Across) => ("Ringway", "across nodes"),
        (Kind::Kernel, Path::Same) => ("kernel bridge", "same node"),
        (Kind::Kernel, Path::Across) => ("kernel VXLAN", "across nodes"),
    };
    format!("{who}, {path}")
}

impl Side {
    pub(super) fn build(kind: Kind, what: &What) -> Result<Side, SearchError> {
        let node = || match kind {
            Kind::Ringway => NodeKind::Ringway(RingwayOptions::default()),
            Kind::Kernel => NodeKind::KernelVxlan,
        };
        let mut topology = Topology::build(what.mode, node(), node())?;
        let [pod1, pod2, pod3] = topology.add_three_pods()?;
        let to = match what.path {
            Path::Same => pod2,
            Path::Across => pod3,
        };
        let name = name(kind, what.path);
        let between = Between::new(&pod1.ns, &to.ns, to.ip(what.family)).map_err(failed(&name))?;
        Ok(Side {
            kind,
            name,
            searches: Vec::new(),
            between,
            _topology: topology,
        })
    }

    /// Does one search; `said` is which of how many.
    pub(super) fn search(
        &mut self,
        what: &What,
        said: &str,
        progress: &mut Progress,
    ) -> Result<(), SearchError> {
        let name = self.name.clone();
        let mut step = |text: &str| progress.step(&format!("{name}, search {said}: {text}"));
        // Neighbours are known afterwards, and about where the end is.
        step("as fast as it goes");
        let flat_out = self.trial(what, 0.0, what.seconds / 2.0)?;
        if flat_out.counts.received == 0 {
            return Err(SearchError::Silent {
                side: name.clone(),
                packets: flat_out.sent.packets,
            });
        }
        let first = match self.searches.last() {
            Some(before) if before.found.rate > 0.0 => before.found.rate,
            _ => flat_out.counts.received as f64 / flat_out.sent.seconds,
        };
        let mut search_done = Search {
            found: Found::default(),
            latency: None,
            refused: 0,
            overrun: 0,
            reordered: 0,
            duplicated: 0,
        };
        let found = search(what.goal, first, |rate| {
            step(&format!("{:.1} kpps", rate / 1e3));
            let outcome = self.trial(what, rate, what.seconds)?;
            search_done.refused += outcome.sent.refused;
            search_done.overrun += outcome.overrun;
            search_done.reordered += outcome.counts.reordered;
            search_done.duplicated += outcome.counts.duplicated;
            Ok::<_, SearchError>(Trial {
                rate: outcome.sent.rate(),
                loss: outcome.loss(),
                kept_up: outcome.sent.rate() >= rate * KEPT_UP,
            })
        })?;
        if found.rate > 0.0 {
            step(&format!("latency at {:.1} kpps", found.rate / 2e3));
            let outcome = self.trial(what, found.rate / 2.0, 2.0 * what.seconds)?;
            search_done.latency = outcome.latency;
        }
        self.searches.push(Search {
            found,
            ..search_done
        });
        Ok(())
    }

    /// `rate` 0: as fast as it goes.
    fn trial(&self, what: &What, rate: f64, seconds: f64) -> Result<Outcome, SearchError> {
        let load = Load {
            mix: what.mix.clone(),
            flows: what.flows,
            plan: Plan {
                rate: rate.round() as u64,
                time: Some(Duration::from_secs_f64(seconds)),
                ..Plan::default()
            },
            io: what.io,
        };
        self.between.run(&load).map_err(failed(&self.name))
    }

    /// Rates found, packets per second.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.searches
            .iter()
            .map(|search| search.found.rate)
            .collect()
    }

    /// A latency of each search, µs.
    pub(super) fn latencies(&self, of: fn(&Quantiles) -> u64) -> Vec<f64> {
        let latencies = self.searches.iter().filter_map(|search| search.latency);
        latencies.map(|latency| of(&latency) as f64 / 1e3).collect()
    }
}

fn failed(side: &str) -> impl Fn(LoadError) -> SearchError + use<> {
    let side = side.to_owned();
    move |source| SearchError::Load {
        side: side.clone(),
        source: source.into(),
    }
}
