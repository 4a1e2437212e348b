//! Small flows beside bulk: of the pods that send it, and of two others.
//!
//! All who ask do it at the same time, each with pauses that leave next to no load, so that all of a run
//! meet the same bulk. With a worker on a core of its own everything else is on the other; across nodes it is
//! the receiver's.

use super::CompareError;
use super::measure::{Meter, Path};
use super::report::{Better, Figure, Plot};
use super::side::{ACROSS, Side};
use crate::lab::{Family, Mode, Pod, Topology};
use crate::traffic::{self, Latency, Placed, Probe, Question, pin, throughput};
use std::thread;
use std::time::Duration;

/// From the start of the bulk to the first question: iperf3 connects, TCP's windows open.
const AHEAD: Duration = Duration::from_millis(600);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(4);
/// The worker's core, and that of all others.
const WORKER: usize = 0;
const ENDPOINTS: usize = 1;
const STREAMS: [usize; 2] = [4, 200];

/// Who asks what.
#[derive(Clone, Copy)]
struct Asker {
    /// The pods that send the bulk, or others.
    same: bool,
    question: Question,
    fifo: bool,
}

/// Each question by each, and one as the scheduler likes it.
fn askers() -> Vec<Asker> {
    let questions = [
        (Question::Ping, true),
        (Question::Tcp(64), true),
        (Question::Udp(64), true),
        (Question::Udp(1400), true),
        (Question::Tcp(64), false),
        (Question::Alternating(64), true),
    ];
    let all = [true, false].into_iter().flat_map(|same| {
        questions.map(|(question, fifo)| Asker {
            same,
            question,
            fifo,
        })
    });
    all.collect()
}

impl Asker {
    fn name(self) -> String {
        let pods = if self.same { "same pods" } else { "other pods" };
        let fifo = if self.fifo { "" } else { ", not at SCHED_FIFO" };
        format!("{} of {pods}{fifo}", self.question)
    }

    /// Drawn, and among the figures a reader sees first.
    fn shown(self, streams: usize) -> bool {
        streams == STREAMS[0] && self.fifo && self.question == Question::Tcp(64)
    }
}

/// One bulk: where, how much of it, and what runs where.
struct Bulk<'a> {
    path: &'a Path,
    streams: usize,
    own_core: bool,
}

impl Bulk<'_> {
    fn name(&self) -> String {
        let core = if self.own_core {
            ", worker's own core"
        } else {
            ""
        };
        format!("{} beside {} TCP{core}", self.path.name, self.streams)
    }
}

/// What a side came to in one run.
struct Run {
    gbit: f64,
    retransmits: f64,
    /// As [`askers`].
    times: Vec<Latency>,
}

/// Every bulk, in pairs.
pub(super) fn measure(meter: &mut Meter<'_>, mode: Mode) -> Result<(), CompareError> {
    meter.progress.step("nodes for loaded");
    let (mut ringway, mut kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
    let (our_others, their_others) = (ringway.others()?, kernel.others()?);
    for (path, own_core) in [
        (Path::same_node(), true),
        (Path::same_node(), false),
        (Path::across(mode), true),
        (Path::across(mode), false),
    ] {
        for streams in STREAMS {
            let bulk = Bulk {
                path: &path,
                streams,
                own_core,
            };
            ringway.pin_workers(own_core, path.to == ACROSS)?;
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let time = meter.effort.time;
            let run = |side: &Side, others: &[Pod; 3], runs: &mut Vec<Run>| {
                let run = beside(side, others, &bulk, time)?;
                let gbit = run.gbit;
                runs.push(run);
                Ok(gbit)
            };
            let name = format!("{}, that bulk", bulk.name());
            meter.pairs(
                Figure::new(name, "Gbit/s", path.beside, Better::Higher),
                || run(&ringway, &our_others, &mut ours),
                || run(&kernel, &their_others, &mut theirs),
            )?;
            add(meter, &bulk, &ours, &theirs);
        }
    }
    ringway.pin_workers(false, false)
}

/// All but the throughput, which is there already.
fn add(meter: &mut Meter<'_>, bulk: &Bulk<'_>, ours: &[Run], theirs: &[Run]) {
    let (name, beside) = (bulk.name(), bulk.path.beside);
    let retransmits = |runs: &[Run]| runs.iter().map(|run| run.retransmits).collect();
    let figure = Figure::new(
        format!("{name}, its retransmissions"),
        "segments",
        beside,
        Better::Lower,
    );
    meter.add(figure, retransmits(ours), retransmits(theirs));
    let askers = askers();
    for (at, asker) in askers.iter().enumerate() {
        for what in ["median", "p90", "p99", "p99.9"] {
            let times = |runs: &[Run], at: usize| -> Vec<f64> {
                let of = |run: &Run| percentile(&run.times[at], what).as_secs_f64() * 1e6;
                runs.iter().map(of).collect()
            };
            let (ours_here, theirs_here) = (times(ours, at), times(theirs, at));
            let name = format!("{name}, {}, {what}", asker.name());
            let mut figure = Figure::new(name, "µs", beside, Better::Lower);
            if asker.shown(bulk.streams) && ["median", "p99"].contains(&what) {
                figure = figure.plot(Plot::Latency).headline();
            }
            meter.add(figure, ours_here.clone(), theirs_here);
            // With a core of its own the worker makes no difference between the pods of the bulk and others.
            let twin = askers.len() / 2 + at;
            if bulk.own_core && asker.same && asker.fifo {
                let name = format!("{}, {}, {what}", bulk.name(), asker.name());
                let figure = Figure::new(name, "µs", "other pods", Better::Lower);
                let figure = Figure {
                    target: (what != "p99.9").then_some(1.25),
                    headline: asker.question == Question::Tcp(64) && what != "p99.9",
                    ..figure
                };
                meter.add(figure, ours_here, times(ours, twin));
            }
        }
    }
}

fn percentile(latency: &Latency, what: &str) -> Duration {
    match what {
        "median" => latency.p50,
        "p90" => latency.p90,
        "p99" => latency.p99,
        _ => latency.p999,
    }
}

/// Bulk between the first pods while all ask.
fn beside(side: &Side, others: &[Pod; 3], bulk: &Bulk<'_>, time: Duration) -> traffic::Result<Run> {
    let to = bulk.path.to;
    let cpu = bulk.own_core.then_some(ENDPOINTS);
    thread::scope(|scope| {
        let load = scope.spawn(move || {
            Placed { fifo: false, cpu }.here()?;
            let (from, to) = (&side.pods[0], &side.pods[to]);
            // Until after the last question: iperf3 counts in whole seconds.
            let time = time + Duration::from_secs(1);
            throughput(&from.ns, &to.ns, to.ip(Family::V4), bulk.streams, time)
        });
        thread::sleep(AHEAD);
        let asking: Vec<_> = askers()
            .into_iter()
            .map(|asker| {
                scope.spawn(move || {
                    let pods = if asker.same { &side.pods } else { others };
                    let (from, to) = (&pods[0], &pods[to]);
                    let probe = Probe {
                        from: &from.ns,
                        to: &to.ns,
                        address: to.ip(Family::V4),
                        placed: Placed {
                            fifo: asker.fifo,
                            cpu,
                        },
                        time,
                        pause: PAUSE,
                    };
                    probe.run(asker.question)
                })
            })
            .collect();
        let join = |result: thread::Result<traffic::Result<Vec<Duration>>>| {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let times: traffic::Result<Vec<_>> =
            asking.into_iter().map(|asked| join(asked.join())).collect();
        let load = load
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (load, times) = (load?, times?);
        Ok(Run {
            gbit: load.gbit,
            retransmits: load.retransmits as f64,
            times: times.iter().map(|times| Latency::of(times)).collect(),
        })
    })
}

impl Side {
    /// Puts the worker of the node that receives on its core and all else of the agents on the other, or all where
    /// they like.
    fn pin_workers(&mut self, own_core: bool, across: bool) -> Result<(), CompareError> {
        let failed = |source| CompareError::Traffic {
            what: "a core for the worker".into(),
            source,
        };
        let Topology { n1, n2, .. } = &mut self.topology;
        for (node, receives) in [(n1, !across), (n2, across)] {
            let Some(pid) = node.agent()?.pid() else {
                continue;
            };
            let tasks = format!("/proc/{pid}/task");
            let entries = std::fs::read_dir(&tasks)
                .map_err(|e| failed(traffic::TrafficError::io(tasks.clone())(e)))?;
            for entry in entries.flatten() {
                let Ok(tid) = entry.file_name().to_string_lossy().parse() else {
                    continue;
                };
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                let cpus = match own_core {
                    true if receives && name.contains("worker") => &[WORKER][..],
                    true => &[ENDPOINTS],
                    false => &[WORKER, ENDPOINTS],
                };
                pin(tid, cpus).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Seconds of one run beside those that are measured.
pub(super) const EXTRA: Duration = Duration::from_millis(2000);
/// Runs of a pair.
pub(super) const RUNS: u32 = 4 * STREAMS.len() as u32 * 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_of_the_same_pods_has_a_twin_of_others() {
        let askers = askers();
        let half = askers.len() / 2;
        for (same, other) in askers[..half].iter().zip(&askers[half..]) {
            assert!(same.same && !other.same);
            assert_eq!((same.question, same.fifo), (other.question, other.fifo));
        }
    }
}
