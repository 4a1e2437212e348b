//! `ringway-perf soak`: full rate for minutes, and whether the agents' memory grows or buffers get lost.
//!
//! ```text
//!   node 1: pod a ──4 TCP──▶ pod b                 the whole time
//!           pod c ──4 TCP, then 64 B UDP──▶ pod d  on node 2, in turns
//! ```
//! Every few seconds the resident set size of both agents is read. It passes if neither grows by more
//! than 1 MB after the first minute (`rule`) and `buffers` of `ringway status` balance at the end.

mod rule;

use crate::lab::{Family, Io, LabError, Mode, Pod, RingwayOptions, Topology};
use crate::table::{Cell, Mark, Progress, Table, colour};
use crate::traffic::{self, TrafficError, throughput, udp_flood};
use rule::{GROWTH, Sample, WARM_UP, growth, unaccounted};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long, and what.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Minutes of traffic; the first is for warming up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    minutes: u64,
    /// What the underlay offloads: full, cloud or bare
    #[arg(long, default_value = "cloud")]
    mode: Mode,
    /// How the nodes reach the underlay
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    io: Io,
}

/// Why a soak did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The topology.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Traffic did not get through, or memory could not be read.
    #[error("after {after} s of the soak: {source}")]
    Traffic {
        /// Seconds since the beginning.
        after: u64,
        /// What went wrong.
        source: TrafficError,
    },
    /// An agent is gone.
    #[error("the agent of node {node} ended; the end of its log:\n{log}")]
    Ended {
        /// Its node.
        node: u8,
        /// The last lines it wrote.
        log: String,
    },
}

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(3);
/// One turn of traffic.
const TURN: Duration = Duration::from_secs(5);
/// How long frames that are under way may take to come home; `status` is half a second old.
const SETTLE: Duration = Duration::from_secs(5);

/// Runs it and prints what it found; `false` if memory grew or buffers are missing.
pub fn run(args: &Args) -> Result<bool, SoakError> {
    let mut progress = Progress::default();
    progress.step("two nodes, four pods");
    let options = RingwayOptions {
        io: args.io,
        ..RingwayOptions::default()
    };
    let mut topology = Topology::ringway(args.mode, &options)?;
    let [a, b, d] = topology.add_three_pods()?;
    let c = topology.n1.add_pod()?;
    let time = Duration::from_secs(args.minutes * 60);
    progress.plan(vec![time]);

    let (stop, begin) = (AtomicBool::new(false), Instant::now());
    let after = |source| SoakError::Traffic {
        after: begin.elapsed().as_secs(),
        source,
    };
    let (samples, local, across) = thread::scope(|scope| {
        let local = scope.spawn(|| within(&a, &b, &stop));
        let across = scope.spawn(|| between(&c, &d, &stop));
        let sampled = sample(&mut topology, time, begin, &mut progress, &|| {
            local.is_finished() || across.is_finished()
        });
        stop.store(true, Ordering::Relaxed);
        let local = local.join().unwrap_or_else(|panic| resume_unwind(panic));
        let across = across.join().unwrap_or_else(|panic| resume_unwind(panic));
        let (local, across) = (local.map_err(after)?, across.map_err(after)?);
        Ok::<_, SoakError>((sampled?, local, across))
    })?;

    let mut passed = true;
    let mut table = Table::new(&["", "RSS after 1 min", "growth", "at most", "", "buffers"]);
    for (node, samples) in [&mut topology.n1, &mut topology.n2]
        .into_iter()
        .zip(samples)
    {
        let until = Instant::now() + SETTLE;
        let missing = loop {
            let missing = unaccounted(&node.agent()?.json(&["status"])?);
            if missing.is_empty() || Instant::now() > until {
                break missing;
            }
            thread::sleep(Duration::from_millis(200));
        };
        let grown = growth(&samples);
        let stays = grown.is_some_and(|grown| grown <= GROWTH);
        passed &= stays && missing.is_empty();
        let warm = samples.iter().find(|sample| sample.at >= WARM_UP);
        let mb = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        table.row(vec![
            format!("agent of node {}", node.number).into(),
            warm.map_or("not sampled".into(), |sample| mb(sample.rss))
                .into(),
            grown.map_or("not sampled".into(), mb).into(),
            mb(GROWTH).into(),
            verdict(stays, "steady", "GROWS"),
            verdict(missing.is_empty(), "all there", &missing.join("; ")),
        ]);
    }
    progress.clear();
    print!("{}", table.render(colour()));
    println!(
        "  {} minutes; same node {local:.1} Gbit/s; across {:.1} Gbit/s of TCP and {:.0} kpps of 64 B in turns",
        args.minutes, across.0, across.1
    );
    Ok(passed)
}

fn verdict(good: bool, yes: &str, no: &str) -> Cell {
    match good {
        true => Cell::new(yes, Mark::Good),
        false => Cell::new(no, Mark::Bad),
    }
}

/// Both agents' memory, until the time or the traffic is over.
fn sample(
    topology: &mut Topology,
    time: Duration,
    begin: Instant,
    progress: &mut Progress,
    over: &dyn Fn() -> bool,
) -> Result<[Vec<Sample>; 2], SoakError> {
    let mut samples = [Vec::new(), Vec::new()];
    while begin.elapsed() < time && !over() {
        for (node, samples) in [&mut topology.n1, &mut topology.n2]
            .into_iter()
            .zip(&mut samples)
        {
            let number = node.number;
            let agent = node.agent()?;
            let at = begin.elapsed();
            let Some(pid) = agent.pid() else {
                return Err(SoakError::Ended {
                    node: number,
                    log: agent.log(),
                });
            };
            let rss = traffic::memory(pid)
                .map_err(|source| SoakError::Traffic {
                    after: at.as_secs(),
                    source,
                })?
                .rss;
            samples.push(Sample { at, rss });
        }
        let rss = |list: &[Sample]| list.last().map_or(0.0, |sample| sample.rss as f64 / 1e6);
        progress.step(&format!(
            "RSS {:.2} and {:.2} MB",
            rss(&samples[0]),
            rss(&samples[1])
        ));
        thread::sleep(INTERVAL.min(time.saturating_sub(begin.elapsed())));
    }
    Ok(samples)
}

/// Mean Gbit/s of four streams.
fn within(from: &Pod, to: &Pod, stop: &AtomicBool) -> traffic::Result<f64> {
    let mut rates = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        rates.push(throughput(&from.ns, &to.ns, to.ip(Family::V4), 4, TURN)?.gbit);
    }
    Ok(mean(&rates))
}

/// Mean Gbit/s of TCP and mean kpps of UDP; the families in turns, too.
fn between(from: &Pod, to: &Pod, stop: &AtomicBool) -> traffic::Result<(f64, f64)> {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let address = to.ip(Family::BOTH[tcp.len() % 2]);
        tcp.push(throughput(&from.ns, &to.ns, address, 4, TURN)?.gbit);
        udp.push(udp_flood(&from.ns, &to.ns, address, 64, TURN)?.received_pps / 1e3);
    }
    Ok((mean(&tcp), mean(&udp)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
