//! Round trips: one after the other, and single ones through nodes that sleep.

use super::CompareError;
use super::measure::{Meter, Path};
use super::report::{Better, Figure, Plot};
use super::side::{SAME_NODE, Side};
use crate::lab::{Family, Mode};
use crate::traffic::{self, Latency, TrafficError, paced_ping};
use std::time::Duration;

/// Medians and 99th percentiles of several measurements, in µs.
#[derive(Debug, Default)]
pub(super) struct Percentiles {
    pub(super) p50: Vec<f64>,
    pub(super) p99: Vec<f64>,
}

impl Percentiles {
    /// Keeps both and returns the median.
    pub(super) fn keep(&mut self, latency: Latency) -> f64 {
        let [p50, p99] = [latency.p50, latency.p99].map(|time| time.as_secs_f64() * 1e6);
        self.p50.push(p50);
        self.p99.push(p99);
        p50
    }
}

/// TCP, one byte each way.
pub(super) fn round_trips(
    meter: &mut Meter<'_>,
    path: &Path,
    ringway: &Side,
    kernel: &Side,
) -> Result<(), CompareError> {
    let time = meter.effort.time;
    let (mut ours, mut theirs) = (Percentiles::default(), Percentiles::default());
    let figure = |what: &str| {
        let name = format!("{}, round trip {what}", path.name);
        Figure::new(name, "µs", path.beside, Better::Lower).plot(Plot::Ratios)
    };
    let target = (path.to != SAME_NODE).then_some(1.5);
    meter.pairs(
        figure("median").target_if(target),
        || Ok(ours.keep(ringway.round_trips(path.to, time)?)),
        || Ok(theirs.keep(kernel.round_trips(path.to, time)?)),
    )?;
    meter.add(figure("p99"), ours.p99, theirs.p99);
    Ok(())
}

/// Between two packets: the agent, which polls some 20 µs longer, sleeps long since.
const PAUSE: Duration = Duration::from_millis(10);

/// Echo requests [`PAUSE`] apart between pods of a node. The other pod's kernel answers, nobody is
/// woken for it: what is more than the bridge's is the agent's, twice, there and back.
pub(super) fn wake(meter: &mut Meter<'_>, mode: Mode) -> Result<(), CompareError> {
    meter.progress.step("nodes for wake");
    let (ringway, kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
    let count = (meter.effort.time.as_secs_f64() / PAUSE.as_secs_f64()) as usize;
    let trips = |side: &Side, kept: &mut Percentiles| -> traffic::Result<f64> {
        let (from, to) = (&side.pods[0], side.pods[SAME_NODE].ip(Family::V4));
        let report = paced_ping(&from.ns, to, count, 56, Duration::from_secs(1), PAUSE)?;
        match report.all() {
            true => Ok(kept.keep(report.latency())),
            false => Err(TrafficError::Program {
                program: "ping",
                found: format!("{to}: {report}"),
            }),
        }
    };
    let (mut ours, mut theirs) = (Percentiles::default(), Percentiles::default());
    let figure = |what: &str| {
        let name = format!("idle, same node, echo every 10 ms, {what}");
        Figure::new(name, "µs", "kernel bridge", Better::Lower)
            .plot(Plot::Latency)
            .headline()
    };
    meter.pairs(
        figure("median"),
        || trips(&ringway, &mut ours),
        || trips(&kernel, &mut theirs),
    )?;
    let half = |ours: &[f64], theirs: &[f64]| -> Vec<f64> {
        let pairs = ours.iter().zip(theirs);
        pairs.map(|(ours, theirs)| (ours - theirs) / 2.0).collect()
    };
    let agent = [
        ("median", half(&ours.p50, &theirs.p50)),
        ("p99", half(&ours.p99, &theirs.p99)),
    ];
    meter.add(figure("p99"), ours.p99, theirs.p99);
    for (what, times) in agent {
        let name = format!("idle agent, arrival to delivery (half the difference), {what}");
        let figure = Figure::new(name, "µs", "", Better::Lower).headline();
        meter.add(figure, times, Vec::new());
    }
    Ok(())
}
