//! What a pod has left when other pods of its node are busy.

use super::CompareError;
use super::latency::Percentiles;
use super::measure::{Meter, Path};
use super::report::{Better, Figure, Plot};
use super::side::{SAME_NODE, Side};
use crate::lab::{Family, Mode, Pod};
use crate::traffic::{self, Latency, throughput, udp_flood_during};
use std::thread;
use std::time::Duration;

/// From the start of a load to the start of what is measured under it: iperf3 connects, TCP's window
/// opens.
const AHEAD: Duration = Duration::from_millis(600);

/// Round trips of a pair of pods while four TCP streams run between two others on the same path.
pub(super) fn loaded(meter: &mut Meter<'_>, mode: Mode) -> Result<(), CompareError> {
    meter.progress.step("nodes for loaded");
    let (mut ringway, mut kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
    let (our_others, their_others) = (ringway.others()?, kernel.others()?);
    let time = meter.effort.time;
    for (path, target) in [(Path::same_node(), Some(2.0)), (Path::across(mode), None)] {
        let figure = |what: &str| {
            let name = format!("{}, round trip beside 4 TCP, {what}", path.name);
            Figure::new(name, "µs", path.beside, Better::Lower)
                .target_if(target)
                .plot(Plot::Latency)
        };
        let (mut ours, mut theirs) = (Percentiles::default(), Percentiles::default());
        let (mut our_load, mut their_load) = (Vec::new(), Vec::new());
        let trips =
            |side: &Side, others: &[Pod; 3], kept: &mut Percentiles, load: &mut Vec<f64>| {
                let (latency, gbit) = round_trips_beside(side, others, path.to, time)?;
                load.push(gbit);
                Ok(kept.keep(latency))
            };
        meter.pairs(
            figure("median"),
            || trips(&ringway, &our_others, &mut ours, &mut our_load),
            || trips(&kernel, &their_others, &mut theirs, &mut their_load),
        )?;
        meter.add(figure("p99"), ours.p99, theirs.p99);
        // A load that is half as heavy makes fine round trips: how heavy it was belongs to them.
        let name = format!("{}, those 4 TCP streams", path.name);
        let figure = Figure::new(name, "Gbit/s", path.beside, Better::Higher);
        meter.add(figure, our_load, their_load);
    }
    Ok(())
}

/// Round trips, and the Gbit/s of the load.
fn round_trips_beside(
    side: &Side,
    others: &[Pod; 3],
    to: usize,
    time: Duration,
) -> traffic::Result<(Latency, f64)> {
    let (from, at) = (&others[0], &others[to]);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            // Until after the last round trip: iperf3 counts in whole seconds.
            let time = time + Duration::from_secs(1);
            throughput(&from.ns, &at.ns, at.ip(Family::V4), 4, time)
        });
        thread::sleep(AHEAD);
        let latency = side.round_trips(to, time);
        let load = load
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((latency?, load?.gbit))
    })
}

/// TCP of a pair of pods while another pod floods its neighbour, and right before or after alone.
pub(super) fn flood(meter: &mut Meter<'_>, mode: Mode) -> Result<(), CompareError> {
    meter.progress.step("nodes for flood");
    let (mut ringway, mut kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
    let (our_others, their_others) = (ringway.others()?, kernel.others()?);
    let (mut ours, mut theirs) = (Rates::default(), Rates::default());
    let time = meter.effort.time;
    let name = "TCP left beside a flood of 64 B";
    // The pair is Ringway's and the kernel's share, each against itself alone.
    let figure = Figure::new(
        name.into(),
        "of its own alone",
        "kernel bridge",
        Better::Higher,
    );
    meter.pairs(
        figure.headline(),
        || ours.measure(&ringway, &our_others, time),
        || theirs.measure(&kernel, &their_others, time),
    )?;
    let figure = Figure::new(
        "same node, TCP 1 beside a flood of 64 B".into(),
        "Gbit/s",
        "Ringway alone",
        Better::Higher,
    );
    meter.add(figure.target(0.4), ours.beside, ours.alone);
    let figure = Figure::new(
        "same node, datagrams of that flood received".into(),
        "kpps",
        "kernel bridge",
        Better::Higher,
    );
    meter.add(figure, ours.flood, theirs.flood);
    Ok(())
}

/// Gbit/s without and with a flood, and the kpps of the flood that arrived.
#[derive(Default)]
struct Rates {
    alone: Vec<f64>,
    beside: Vec<f64>,
    flood: Vec<f64>,
}

impl Rates {
    /// The share of its throughput that TCP keeps.
    fn measure(&mut self, side: &Side, others: &[Pod; 3], time: Duration) -> traffic::Result<f64> {
        let alone = side.tcp(SAME_NODE, 1, time)?;
        let (from, to) = (&others[0], &others[SAME_NODE]);
        let (flood, beside) = udp_flood_during(&from.ns, &to.ns, to.ip(Family::V4), 64, || {
            thread::sleep(Duration::from_millis(100));
            side.tcp(SAME_NODE, 1, time)
        })?;
        let beside = beside?;
        self.alone.push(alone);
        self.beside.push(beside);
        self.flood.push(flood.received_pps / 1e3);
        Ok(beside / alone)
    }
}
