//! AF_XDP rings against UDP sockets: two pairs of Ringway nodes that differ in `underlay.io` alone.
//!
//! CPU time is that of the agents, which is where the two differ most: a socket's packet is made and taken
//! apart by the kernel on the agent's time, a ring's by the agent itself. On a veth a ring copies; what a
//! NIC with zero-copy gains shows only on one (`ringway-perf ring --device`, `make zerocopy`).

use std::time::Duration;

use super::CompareError;
use super::measure::Meter;
use super::report::{Better, Figure};
use super::side::{ACROSS, Side, throughput_between};
use crate::lab::{Io, Mode, RingwayOptions, Topology};
use crate::traffic::{self, cpu_time};

const BESIDE: &str = "sockets";
/// What is tried of `underlay.xdp_busy_poll_us`, µs.
const BUSY_POLL: u32 = 20;

/// A pair of nodes and their agents' processes, the sender's first.
struct Nodes {
    side: Side,
    agents: Vec<u32>,
}

impl Nodes {
    /// # Errors
    /// Also if an agent took another way than it was told.
    fn with(mode: Mode, io: Io, busy_poll_us: u32) -> Result<Nodes, CompareError> {
        let options = RingwayOptions {
            io,
            busy_poll_us,
            ..RingwayOptions::default()
        };
        let mut side = Side::with(Topology::ringway(mode, &options)?)?;
        let mut agents = Vec::new();
        for node in [&mut side.topology.n1, &mut side.topology.n2] {
            let number = node.number;
            let agent = node.agent()?;
            let status = agent.json(&["status"])?;
            let got = status["underlay"]["io"].as_str().unwrap_or("nothing");
            if got.split(' ').next() != Some(&io.to_string()) {
                return Err(CompareError::Io {
                    node: number,
                    wanted: io,
                    got: got.to_owned(),
                });
            }
            agents.extend(agent.pid());
        }
        Ok(Nodes { side, agents })
    }

    /// CPU seconds of each agent since it began.
    fn cpu(&self) -> traffic::Result<Vec<f64>> {
        let seconds = |pid: &u32| cpu_time(*pid).map(|time| time.as_secs_f64());
        self.agents.iter().map(seconds).collect()
    }

    /// Runs `f`, which says what it did and how much of it; keeps what each agent used for one unit of that.
    fn costing(
        &self,
        costs: &mut Costs,
        f: impl FnOnce(&Side) -> traffic::Result<(f64, f64)>,
    ) -> traffic::Result<f64> {
        let before = self.cpu()?;
        let (result, amount) = f(&self.side)?;
        for ((list, after), before) in costs.iter_mut().zip(self.cpu()?).zip(before) {
            list.push((after - before) / amount.max(f64::MIN_POSITIVE));
        }
        Ok(result)
    }
}

/// CPU seconds per unit, of the sending and the receiving agent.
type Costs = [Vec<f64>; 2];
type Run<'a> = &'a dyn Fn(&Side) -> traffic::Result<(f64, f64)>;

/// Adds the figures of one mode.
pub(super) fn measure(meter: &mut Meter<'_>, mode: Mode) -> Result<(), CompareError> {
    let rings = Nodes::with(mode, Io::Xdp, 0)?;
    let sockets = Nodes::with(mode, Io::Socket, 0)?;
    let time = meter.effort.time;
    let name = |what: &str| format!("xdp, {mode}, {what}");

    let flood = |side: &Side| {
        let pps = side.flood(ACROSS, time)?;
        Ok((pps / 1e3, pps * time.as_secs_f64() / 1e6))
    };
    let received = |name: String, beside| Figure::new(name, "kpps", beside, Better::Higher);
    let cost = (1e3, "ns of CPU per packet");
    let figure = received(name("UDP 64 B received"), BESIDE);
    paired(meter, figure, cost, &rings, &sockets, &flood)?;

    for streams in [1, 4] {
        let tcp = |side: &Side| throughput_between(side, ACROSS, streams, time);
        let figure = Figure::new(
            name(&format!("TCP {streams}")),
            "Gbit/s",
            BESIDE,
            Better::Higher,
        );
        let cost = (1e3, "ms of CPU per Gbit");
        paired(meter, figure, cost, &rings, &sockets, &tcp)?;
    }
    round_trips(meter, &name, BESIDE, &rings, &sockets, time)?;
    drop(sockets);

    let beside = "rings, by interrupts";
    let polled = Nodes::with(mode, Io::Xdp, BUSY_POLL)?;
    let name = |what: &str| format!("xdp, {mode}, busy polling, {what}");
    let figure = received(name("UDP 64 B received"), beside);
    paired(meter, figure, cost, &polled, &rings, &flood)?;
    round_trips(meter, &name, beside, &polled, &rings, time)
}

/// A figure, and what either agent's CPU time per unit was meanwhile, in `cost.0`ths of a second.
fn paired(
    meter: &mut Meter<'_>,
    figure: Figure,
    (scale, unit): (f64, &'static str),
    rings: &Nodes,
    sockets: &Nodes,
    run: Run<'_>,
) -> Result<(), CompareError> {
    let (name, beside) = (figure.name.clone(), figure.beside);
    let (mut ours, mut theirs) = (Costs::default(), Costs::default());
    meter.pairs(
        figure,
        || rings.costing(&mut ours, run),
        || sockets.costing(&mut theirs, run),
    )?;
    let lists = ours.into_iter().zip(theirs);
    for (end, (ringway, other)) in ["sending", "receiving"].iter().zip(lists) {
        let scaled = |list: Vec<f64>| list.into_iter().map(|cost| cost * scale).collect();
        let (ringway, other) = (scaled(ringway), scaled(other));
        let figure = Figure::new(format!("{name}, {end} agent"), unit, beside, Better::Lower);
        meter.figures.push(Figure {
            ringway,
            other,
            ..figure
        });
    }
    Ok(())
}

fn round_trips(
    meter: &mut Meter<'_>,
    name: &dyn Fn(&str) -> String,
    beside: &'static str,
    rings: &Nodes,
    sockets: &Nodes,
    time: Duration,
) -> Result<(), CompareError> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let trips = |nodes: &Nodes, slow: &mut Vec<f64>| {
        let latency = nodes.side.round_trips(ACROSS, time)?;
        slow.push(latency.p99.as_secs_f64() * 1e6);
        Ok(latency.p50.as_secs_f64() * 1e6)
    };
    let figure = Figure::new(name("round trip median"), "µs", beside, Better::Lower);
    meter.pairs(
        figure,
        || trips(rings, &mut ours),
        || trips(sockets, &mut theirs),
    )?;
    let figure = Figure::new(name("round trip p99"), "µs", beside, Better::Lower);
    meter.figures.push(Figure {
        ringway: ours,
        other: theirs,
        ..figure
    });
    Ok(())
}
