//! The measurements themselves.

use super::report::{Better, Figure, Plot};
use super::side::{ACROSS, SAME_NODE, Side, throughput_between};
use super::{Args, CompareError, Effort, Test};
use crate::lab::Mode;
use crate::table::Progress;
use crate::traffic::{self, TrafficError, cpu_time, machine_cpu_time, measure_cpu};
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
    // Where one mode has to do it is the one that is like most real nodes, unless not asked for.
    let mode = match args.modes.contains(&Mode::Cloud) {
        true => Mode::Cloud,
        false => args.modes.first().copied().unwrap_or(Mode::Cloud),
    };
    match test {
        Test::Same => return meter.same_node(mode),
        Test::Idle => return meter.idle(args.pods),
        Test::Pods => return meter.many_pods(mode, args.pods),
        Test::Loaded => return super::loaded::measure(&mut meter, mode),
        Test::Flood => return super::neighbour::flood(&mut meter, mode),
        Test::Memory => return super::memory::measure(&mut meter, args.pods),
        Test::Wake => return super::latency::wake(&mut meter, mode),
        Test::Across | Test::Udp | Test::Rtt | Test::Xdp => {}
    }
    for (i, &mode) in args.modes.iter().enumerate() {
        meter.progress.step(&format!("nodes for {test}, {mode}"));
        if test == Test::Xdp {
            super::xdp::measure(&mut meter, mode)?;
            continue;
        }
        let (mut ringway, kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
        // The underlay's mode makes no difference on a node.
        let paths = [Path::same_node(), Path::across(mode)];
        for path in &paths[usize::from(i > 0)..] {
            match test {
                Test::Across if path.to == SAME_NODE => {}
                Test::Across => meter.tcp(path, &mut ringway, &kernel)?,
                Test::Udp => meter.udp(path, &ringway, &kernel)?,
                _ => super::latency::round_trips(&mut meter, path, &ringway, &kernel)?,
            }
        }
    }
    Ok(())
}

/// From the first pod to another.
pub(super) struct Path {
    /// `same node` or `across, MODE`.
    pub(super) name: String,
    pub(super) to: usize,
    /// What the kernel has for it.
    pub(super) beside: &'static str,
    /// TCP, one stream and four.
    tcp: [f64; 2],
}

impl Path {
    pub(super) fn same_node() -> Path {
        Path {
            name: "same node".into(),
            to: SAME_NODE,
            beside: "kernel bridge",
            tcp: [0.75, 0.75],
        }
    }

    pub(super) fn across(mode: Mode) -> Path {
        Path {
            name: format!("across, {mode}"),
            to: ACROSS,
            beside: "kernel VXLAN",
            tcp: match mode {
                Mode::Full => [0.7, 0.7],
                Mode::Cloud | Mode::Bare => [1.0, 0.9],
            },
        }
    }
}

pub(super) struct Meter<'a> {
    pub(super) effort: Effort,
    pub(super) figures: &'a mut Vec<Figure>,
    pub(super) progress: &'a mut Progress,
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

    fn same_node(&mut self, mode: Mode) -> Result<(), CompareError> {
        self.progress.step("nodes for same");
        let (mut ringway, kernel) = (Side::ringway(mode)?, Side::kernel(mode)?);
        self.tcp(&Path::same_node(), &mut ringway, &kernel)
    }

    /// Throughput, and for what CPU time. An agent's is its own; what the kernel does for its bridge or
    /// VXLAN it does on the time of whoever sends or is interrupted, so beside it there is only the
    /// whole machine's, with both ends of the traffic in it.
    fn tcp(&mut self, path: &Path, ringway: &mut Side, kernel: &Side) -> Result<(), CompareError> {
        let time = self.effort.time;
        let agents = match path.to {
            SAME_NODE => vec![("the agent's CPU", ringway.topology.n1.agent()?.pid())],
            _ => vec![
                ("sending agent's CPU", ringway.topology.n1.agent()?.pid()),
                ("receiving agent's CPU", ringway.topology.n2.agent()?.pid()),
            ],
        };
        let running: Vec<_> = agents
            .into_iter()
            .filter_map(|(name, pid)| Some((name, pid?)))
            .collect();
        for (streams, target) in [1, 4].into_iter().zip(path.tcp) {
            let name = format!("{}, TCP {streams}", path.name);
            let mut ours = vec![Vec::new(); 1 + running.len()];
            let mut theirs = vec![Vec::new()];
            let run = |side: &Side, pids: &[(&str, u32)], lists: &mut [Vec<f64>]| {
                let cpu = || {
                    let agents = pids.iter().map(|&(_, pid)| cpu_time(pid));
                    std::iter::once(machine_cpu_time())
                        .chain(agents)
                        .collect::<traffic::Result<Vec<_>>>()
                };
                let before = cpu()?;
                let (gbit_s, gbit) = throughput_between(side, path.to, streams, time)?;
                for ((list, after), before) in lists.iter_mut().zip(cpu()?).zip(before) {
                    let used = after.saturating_sub(before).as_secs_f64();
                    list.push(gbit / used.max(1e-6));
                }
                Ok(gbit_s)
            };
            let figure = Figure::new(name.clone(), "Gbit/s", path.beside, Better::Higher)
                .target(target)
                .plot(Plot::Ratios);
            self.pairs(
                figure,
                || run(ringway, &running, &mut ours),
                || run(kernel, &[], &mut theirs),
            )?;
            let (unit, mut ours) = ("Gbit per core second", ours.into_iter());
            let all = format!("{name}, the whole machine's CPU");
            let mut figure = Figure::new(all, unit, path.beside, Better::Higher);
            figure.ringway = ours.next().unwrap_or_default();
            figure.other = theirs.swap_remove(0);
            self.figures.push(figure);
            for ((end, _), list) in running.iter().zip(ours) {
                let name = format!("{name}, {end}");
                let mut figure = Figure::new(name, unit, "", Better::Higher);
                figure.ringway = list;
                self.figures.push(figure);
            }
        }
        Ok(())
    }

    fn udp(&mut self, path: &Path, ringway: &Side, kernel: &Side) -> Result<(), CompareError> {
        let time = self.effort.time;
        let name = format!("{}, UDP 64 B received", path.name);
        let target = (path.to == ACROSS).then_some(1.1);
        let figure = Figure::new(name, "kpps", path.beside, Better::Higher)
            .target_if(target)
            .plot(Plot::Ratios);
        self.pairs(
            figure,
            || ringway.flood(path.to, time).map(|pps| pps / 1e3),
            || kernel.flood(path.to, time).map(|pps| pps / 1e3),
        )
    }

    /// A figure that came about while others were measured.
    pub(super) fn add(&mut self, figure: Figure, ringway: Vec<f64>, other: Vec<f64>) {
        self.figures.push(Figure {
            ringway,
            other,
            ..figure
        });
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
