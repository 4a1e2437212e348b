//! The result, for people and for programs.

use super::Args;
use super::run::Outcome;

#[derive(serde::Serialize)]
struct Result<'a> {
    scenario: super::Scenario,
    pcap: &'a std::path::Path,
    packets: u64,
    drops: u64,
    drops_by_reason: std::collections::BTreeMap<&'static str, u64>,
    seconds: f64,
    mpps: f64,
    ns_per_packet: f64,
    /// At the time-stamp counter's rate, that is the CPU's nominal one; absent if it is not known.
    cycles_per_packet: Option<f64>,
    allocations: u64,
    allocations_per_packet: f64,
    frames_in_capture: usize,
    batch: u16,
    routes: usize,
    peers: usize,
    pods: usize,
}

pub(super) fn print(args: &Args, outcome: &Outcome) -> anyhow::Result<()> {
    let ns = outcome.seconds * 1e9 / outcome.packets.max(1) as f64;
    let result = Result {
        scenario: args.scenario,
        pcap: &args.pcap,
        packets: outcome.packets,
        drops: outcome.drops,
        drops_by_reason: outcome.drops_by_reason.iter().copied().collect(),
        seconds: outcome.seconds,
        mpps: outcome.packets as f64 / outcome.seconds / 1e6,
        ns_per_packet: ns,
        cycles_per_packet: nominal_ghz().map(|ghz| ns * ghz),
        allocations: outcome.allocations,
        allocations_per_packet: outcome.allocations as f64 / outcome.packets.max(1) as f64,
        frames_in_capture: outcome.flows,
        batch: args.batch,
        routes: args.routes,
        peers: args.peers,
        pods: args.pods,
    };
    if args.json {
        println!("{}", serde_json::to_string(&result)?);
        return Ok(());
    }
    let cycles = result
        .cycles_per_packet
        .map_or_else(|| "? cycles".into(), |c| format!("{c:.0} cycles"));
    println!(
        "{:<8} {:>7.2} Mpps  {:>6.1} ns  {:>11} per packet   {} packets in {:.2} s, {} dropped, {} allocations",
        format!("{:?}", result.scenario).to_lowercase(),
        result.mpps,
        result.ns_per_packet,
        cycles,
        result.packets,
        result.seconds,
        result.drops,
        result.allocations,
    );
    for (reason, count) in &outcome.drops_by_reason {
        println!("         dropped: {reason} {count}");
    }
    Ok(())
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
