//! What a pod has left when another pod of its node floods.

use super::CompareError;
use super::measure::Meter;
use super::report::{Better, Figure};
use super::side::{SAME_NODE, Side};
use crate::lab::{Family, Mode, Pod};
use crate::traffic::{self, udp_flood_during};
use std::thread;
use std::time::Duration;

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
