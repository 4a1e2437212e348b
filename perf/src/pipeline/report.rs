//! The result of one run, for people and for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Scenario;
use super::lane::Fill;
use super::run::Turn;

/// What `--json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) scenario: Scenario,
    /// Absent if the frames were made.
    pub(super) pcap: Option<PathBuf>,
    /// The frames made: 4 or 6, of pods and underlay, flows, and bytes on the wire or `imix`.
    pub(super) family: Option<u8>,
    pub(super) underlay: Option<u8>,
    pub(super) flows: Option<u32>,
    pub(super) size: Option<String>,
    pub(super) frames_in_capture: usize,
    pub(super) batch: u16,
    #[serde(flatten)]
    pub(super) fill: Fill,
    pub(super) packets: u64,
    pub(super) drops: u64,
    /// Of the warm-up, too.
    pub(super) drops_by_reason: BTreeMap<String, u64>,
    pub(super) seconds: f64,
    /// Of all workers.
    pub(super) mpps: f64,
    /// Of one worker, on average.
    pub(super) ns_per_packet: f64,
    /// At the time-stamp counter's rate, that is the CPU's nominal one; absent if it is not known.
    pub(super) cycles_per_packet: Option<f64>,
    pub(super) allocations: u64,
    pub(super) workers: Vec<Worker>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) core: Option<usize>,
    pub(super) packets: u64,
    pub(super) seconds: f64,
    pub(super) mpps: f64,
    /// Of its core, what the worker had; rates are by the clock on the wall.
    pub(super) share_of_core: f64,
}

impl Run {
    /// Enters what was measured.
    pub(super) fn measured(&mut self, cores: &[Option<usize>], turns: &[Turn], allocations: u64) {
        self.workers = turns
            .iter()
            .zip(cores)
            .map(|(turn, &core)| Worker {
                core,
                packets: turn.packets,
                seconds: turn.seconds,
                mpps: turn.mpps(),
                share_of_core: turn.share(),
            })
            .collect();
        self.packets = turns.iter().map(|turn| turn.packets).sum();
        self.seconds = turns.iter().map(|turn| turn.seconds).fold(0.0, f64::max);
        self.mpps = turns.iter().map(Turn::mpps).sum();
        self.ns_per_packet = 1e3 * turns.len() as f64 / self.mpps;
        self.cycles_per_packet = nominal_ghz().map(|ghz| self.ns_per_packet * ghz);
        self.allocations = allocations;
        for (reason, count) in turns.iter().flat_map(|turn| &turn.drops) {
            *self.drops_by_reason.entry((*reason).into()).or_default() += count;
        }
        self.drops = self.drops_by_reason.values().sum();
    }

    /// What was measured, so that only equals are compared.
    pub(super) fn name(&self) -> String {
        let traffic = match (
            &self.pcap,
            self.family,
            self.underlay,
            self.flows,
            &self.size,
        ) {
            (None, Some(family), Some(underlay), Some(flows), Some(size)) => {
                let under = match self.scenario {
                    Scenario::Forward => String::new(),
                    _ => format!(" in IPv{underlay}"),
                };
                format!("IPv{family}{under}, {flows} flows of {size} B")
            }
            (pcap, ..) => pcap
                .as_deref()
                .and_then(|path| path.file_name())
                .map_or("?".into(), |name| name.to_string_lossy().into_owned()),
        };
        let Fill {
            routes,
            peers,
            pods,
        } = self.fill;
        let fill = match self.fill {
            Fill::TINY => String::new(),
            _ => format!(", {routes} routes, {peers} peers, {pods} pods"),
        };
        let workers = match self.workers.len() {
            1 => String::new(),
            n => format!(", {n} workers"),
        };
        format!("{}, {traffic}{fill}{workers}", self.scenario)
    }

    pub(super) fn print(&self) {
        let cycles = self
            .cycles_per_packet
            .map_or_else(|| "? cycles".into(), |c| format!("{c:.0} cycles"));
        println!(
            "{:<8} {:>7.2} Mpps  {:>6.1} ns  {:>11} per packet   {} packets in {:.2} s, {} dropped, {} allocations",
            self.scenario.to_string(),
            self.mpps,
            self.ns_per_packet,
            cycles,
            self.packets,
            self.seconds,
            self.drops,
            self.allocations,
        );
        if self.workers.len() > 1 {
            for (i, worker) in self.workers.iter().enumerate() {
                let core = worker
                    .core
                    .map_or_else(String::new, |core| format!(" on CPU {core}"));
                println!("         {:>7.2} Mpps  worker {i}{core}", worker.mpps);
            }
        }
        for (reason, count) in &self.drops_by_reason {
            println!("         dropped: {reason} {count}");
        }
    }
}

/// The CPU's nominal rate in GHz, which on x86 is the time-stamp counter's.
fn nominal_ghz() -> Option<f64> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("cpu MHz"))?;
    line.split(':')
        .nth(1)?
        .trim()
        .parse::<f64>()
        .ok()
        .map(|mhz| mhz / 1000.0)
}
