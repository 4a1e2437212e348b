//! The measurements themselves.

use super::report::{Better, Figure};
use super::side::{ACROSS, SAME_NODE, Side, throughput_of};
use super::{Args, CompareError, Effort, Test};
use crate::lab::Mode;
use crate::table::Progress;
use crate::traffic::{self, TrafficError, measure_cpu};
use std::thread::sleep;
use std::time::Duration;

/// Adds the figures of one test.
pub(super) fn measure(
    test: Test,
    args: &Args,
    effort: Effort,
    figures: &mut Vec<Figure>,
    progress: &mut Progress,
) -> Result<(), CompareError> {
    let mut meter = Meter {
        effort,
        figures,
        progress,
    };
    if test == Test::Same {
        return meter.same_node();
    }
    if test == Test::Idle {
        return meter.idle(args.pods);
    }
    if test == Test::Pods {
        return meter.many_pods(
            args.modes.first().copied().unwrap_or(Mode::Cloud),
            args.pods,
        );
    }
    for &mode in &args.modes {
        meter.progress.step(&format!("nodes for {test}, {mode}"));
        if test == Test::Xdp {
            super::xdp::measure(&mut meter, mode)?;
            continue;
        }
        let (mut ringway, kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
        match test {
            Test::Across => meter.across(mode, &mut ringway, &kernel)?,
            Test::Udp => meter.udp(mode, &ringway, &kernel)?,
            _ => meter.round_trips(mode, &ringway, &kernel)?,
        }
    }
    Ok(())
}

pub(super) struct Meter<'a> {
    pub(super) effort: Effort,
    pub(super) figures: &'a mut Vec<Figure>,
    progress: &'a mut Progress,
}

impl Meter<'_> {
    /// Measures in pairs, the order alternating.
    pub(super) fn pairs(
        &mut self,
        figure: Figure,
        mut ringway: impl FnMut() -> traffic::Result<f64>,
        mut other: impl FnMut() -> traffic::Result<f64>,
    ) -> Result<(), CompareError> {
        let mut figure = figure;
        for pair in 0..self.effort.pairs {
            self.progress.step(&format!(
                "{}, pair {} of {}",
                figure.name,
                pair + 1,
                self.effort.pairs
            ));
            let failed = |source: TrafficError| CompareError::Traffic {
                what: figure.name.clone(),
                source,
            };
            let (ours, theirs) = match pair % 2 {
                0 => {
                    let ours = ringway().map_err(failed)?;
                    (ours, other().map_err(failed)?)
                }
                _ => {
                    let theirs = other().map_err(failed)?;
                    (ringway().map_err(failed)?, theirs)
                }
            };
            figure.ringway.push(ours);
            figure.other.push(theirs);
        }
        self.figures.push(figure);
        Ok(())
    }

    fn same_node(&mut self) -> Result<(), CompareError> {
        self.progress.step("nodes for same");
        let (ringway, kernel) = (Side::ringway(Mode::Cloud)?, Side::kernel(Mode::Cloud)?);
        let time = self.effort.time;
        for streams in [1, 4] {
            let figure = Figure::new(
                format!("same node, TCP {streams}"),
                "Gbit/s",
                "kernel bridge",
                Better::Higher,
            )
            .target(0.7);
            self.pairs(
                figure,
                || ringway.tcp(SAME_NODE, streams, time),
                || kernel.tcp(SAME_NODE, streams, time),
            )?;
        }
        Ok(())
    }

    fn across(
        &mut self,
        mode: Mode,
        ringway: &mut Side,
        kernel: &Side,
    ) -> Result<(), CompareError> {
        let time = self.effort.time;
        let pids = [
            ringway.topology.n1.agent()?.pid(),
            ringway.topology.n2.agent()?.pid(),
        ];
        let [Some(sender), Some(receiver)] = pids else {
            return Ok(());
        };
        for streams in [1, 4] {
            let name = format!("across, {mode}, TCP {streams}");
            let mut figure = Figure::new(name.clone(), "Gbit/s", "kernel VXLAN", Better::Higher);
            if mode == Mode::Cloud {
                figure = figure.target(0.9);
            }
            let mut per_core = [Vec::new(), Vec::new()];
            let ours = || {
                let run = || measure_cpu(receiver, || throughput_of(ringway, streams, time));
                let ((result, _, at_receiver), _, at_sender) =
                    measure_cpu(sender, run).and_then(flatten)?;
                let bits = result?;
                for (list, cpu) in per_core.iter_mut().zip([at_sender, at_receiver]) {
                    list.push(bits.1 / cpu.as_secs_f64().max(1e-6));
                }
                Ok(bits.0)
            };
            self.pairs(figure, ours, || kernel.tcp(ACROSS, streams, time))?;
            for (end, list) in ["sending", "receiving"].iter().zip(per_core) {
                let name = format!("{name}, {end} agent's CPU");
                let mut figure = Figure::new(name, "Gbit per core second", "", Better::Higher);
                figure.ringway = list;
                self.figures.push(figure);
            }
        }
        Ok(())
    }

    fn udp(&mut self, mode: Mode, ringway: &Side, kernel: &Side) -> Result<(), CompareError> {
        let time = self.effort.time;
        let name = format!("across, {mode}, UDP 64 B received");
        let figure = Figure::new(name, "kpps", "kernel VXLAN", Better::Higher);
        self.pairs(
            figure,
            || ringway.flood(time).map(|pps| pps / 1e3),
            || kernel.flood(time).map(|pps| pps / 1e3),
        )
    }

    fn round_trips(
        &mut self,
        mode: Mode,
        ringway: &Side,
        kernel: &Side,
    ) -> Result<(), CompareError> {
        let time = self.effort.time;
        let mut slow = [Vec::new(), Vec::new()];
        let [slow_ringway, slow_kernel] = &mut slow;
        let trips = |side: &Side, slow: &mut Vec<f64>| {
            let latency = side.round_trips(time)?;
            slow.push(latency.p99.as_secs_f64() * 1e6);
            Ok(latency.p50.as_secs_f64() * 1e6)
        };
        let name = |what: &str| format!("across, {mode}, round trip {what}");
        let figure = Figure::new(name("median"), "µs", "kernel VXLAN", Better::Lower).target(2.0);
        self.pairs(
            figure,
            || trips(ringway, slow_ringway),
            || trips(kernel, slow_kernel),
        )?;
        let [ringway, other] = slow;
        let figure = Figure::new(name("p99"), "µs", "kernel VXLAN", Better::Lower);
        self.figures.push(Figure {
            ringway,
            other,
            ..figure
        });
        Ok(())
    }

    fn many_pods(&mut self, mode: Mode, count: u8) -> Result<(), CompareError> {
        self.progress.step(&format!("a node with {count} pods"));
        let few = Side::ringway(mode)?;
        let mut many = Side::ringway(mode)?;
        many.fill(count)?;
        let time = self.effort.time;
        for (path, to) in [
            ("same node".to_owned(), SAME_NODE),
            (format!("across, {mode}"), ACROSS),
        ] {
            let name = format!("{path}, TCP 1 with {count} pods");
            let figure = Figure::new(name, "Gbit/s", "with 2 pods", Better::Higher).target(0.95);
            self.pairs(figure, || many.tcp(to, 1, time), || few.tcp(to, 1, time))?;
        }
        Ok(())
    }

    fn idle(&mut self, count: u8) -> Result<(), CompareError> {
        let mut side = Side::ringway(Mode::Cloud)?;
        for pods in [2, count] {
            if pods > 2 {
                self.progress.step(&format!("a node with {count} pods"));
                side.fill(count)?;
            }
            // New interfaces send router solicitations and MLD reports for some seconds.
            self.progress.step(&format!("{pods} pods settle"));
            sleep(Duration::from_secs(5).max(self.effort.time));
            let name = format!("idle agent's CPU, {pods} pods");
            let mut figure = Figure::new(name.clone(), "% of a core", "", Better::Lower).limit(1.0);
            let Some(pid) = side.topology.n1.agent()?.pid() else {
                return Ok(());
            };
            for _ in 0..self.effort.pairs {
                self.progress.step(&name);
                let ((), share, _) =
                    measure_cpu(pid, || sleep(2 * self.effort.time)).map_err(|source| {
                        CompareError::Traffic {
                            what: name.clone(),
                            source,
                        }
                    })?;
                figure.ringway.push(share * 100.0);
            }
            self.figures.push(figure);
        }
        Ok(())
    }
}

/// The inner measurement may have failed, too.
fn flatten<T>(outer: (traffic::Result<T>, f64, Duration)) -> traffic::Result<(T, f64, Duration)> {
    outer.0.map(|inner| (inner, outer.1, outer.2))
}
