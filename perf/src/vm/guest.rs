//! `ringway-perf vm-guest`: two nodes on the machine's two NICs, traffic between their pods, the
//! kernel's packet generator at one of them. Says what it finds in [`Line`]s.

use super::line::Line;
use super::pktgen::{Fired, Volley};
use super::rings;
use crate::lab::{
    Family, INTERFACE, Io, LabError, Netns, Node, NodeKind, Pod, RingwayOptions, Topology, Wire,
    plan,
};
use crate::search::bisect::{Goal, Trial, search};
use crate::traffic::{ping, transfer};
use std::time::{Duration, Instant};

/// What the init of the virtual machine says.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How the nodes reach their NICs
    #[arg(long, value_enum)]
    io: Io,
}

/// For one read or write; the processor is an emulated one.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes in each direction.
const BYTES: u64 = 4 << 20;
const VXLAN_PORT: u16 = 8472;
const VOLLEY: u64 = 3000;
/// Packets per second: far below what even an emulated node takes, or the test would be of luck.
const RATE: u64 = 10_000;
/// The search for what it does take: each rate is tried once, with few packets.
const GOAL: Goal = Goal {
    loss: 0.001,
    repeats: 1,
    precision: 0.2,
    steps: 6,
};

/// How long no more packets may be counted after a volley.
const SETTLE: Duration = Duration::from_millis(700);

type Found = Result<String, String>;

/// Runs everything; `false` if anything was not as it should be.
pub fn run(args: &Args) -> bool {
    let mut report = Report::default();
    if let Err(error) = work(args.io, &mut report) {
        report.row("set up two nodes", vec![Err(error.to_string())]);
    }
    Line::Done { rows: report.rows }.say();
    report.good
}

fn work(io: Io, report: &mut Report) -> Result<(), LabError> {
    report.row("kernel", vec![kernel()]);
    report.step("two nodes, a ringway agent in each, a pod in each");
    let [nic1, nic2] = nics()?;
    let kind = || {
        NodeKind::Ringway(RingwayOptions {
            io,
            ..RingwayOptions::default()
        })
    };
    let mut topology = Topology::on(Wire::Nics(&nic1, &nic2), kind(), kind())?;
    let (pod1, pod2) = (topology.n1.add_pod()?, topology.n2.add_pod()?);
    for node in [&mut topology.n1, &mut topology.n2] {
        let status = node.agent()?.json(&["status"])?;
        let what = format!("node {} reaches its NIC by", node.number);
        report.row(&what, vec![rings::check(&status, io)]);
    }
    report.both("ping between pods, 5 of each size", |family| {
        pings(&pod1, &pod2, family)
    });
    report.both("checked transfer, both ways at once", |family| {
        checked_transfer(&pod1, &pod2, family)
    });
    report.both("pktgen at node 1", |family| {
        volley(&mut topology, family).map_err(|error| error.to_string())?
    });
    report.step("pktgen at node 1, faster and faster");
    let found = threshold(&mut topology).map_err(|error| error.to_string());
    report.row(
        "pktgen at node 1, most at ≤ 0.1 % loss",
        vec![found.unwrap_or_else(Err)],
    );
    // The volleys must not have left anything stuck.
    report.both("ping after that", |family| pings(&pod2, &pod1, family));
    for node in [&mut topology.n1, &mut topology.n2] {
        let found = node.drops().map(|drops| drops.to_string());
        let what = format!("node {} dropped in all", node.number);
        report.row(&what, vec![found.map_err(|error| error.to_string())]);
    }
    report.step("the agents end");
    let ended = [topology.n1.agent()?.stop(), topology.n2.agent()?.stop()];
    report.row(
        "agents end when told",
        vec![match ended {
            [true, true] => Ok("within 5 s".into()),
            _ => Err("had to be killed".into()),
        }],
    );
    Ok(())
}

fn kernel() -> Found {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .map_err(|error| error.to_string())
}

/// The machine's two NICs, in the order of their MACs.
fn nics() -> Result<[String; 2], LabError> {
    let folder = "/sys/class/net";
    let entries = std::fs::read_dir(folder).map_err(LabError::io(folder))?;
    let mut nics: Vec<(String, String)> = entries
        .flatten()
        // Only what has a bus beneath it.
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| {
            let mac = std::fs::read_to_string(entry.path().join("address")).ok()?;
            Some((mac, entry.file_name().into_string().ok()?))
        })
        .collect();
    nics.sort();
    let names: Vec<String> = nics.into_iter().map(|(_, name)| name).collect();
    names.try_into().map_err(|found: Vec<String>| {
        let found = format!("wanted two NICs, found {found:?}");
        LabError::io(folder)(std::io::Error::other(found))
    })
}

fn pings(from: &Pod, to: &Pod, family: Family) -> Found {
    let mut found = Vec::new();
    for size in [56, 1300] {
        let report =
            ping(&from.ns, to.ip(family), 5, size, LIMIT).map_err(|error| error.to_string())?;
        if !report.all() {
            return Err(format!("{size} bytes: {report}"));
        }
        found.push(format!("{:.1}", report.latency().p50.as_secs_f64() * 1e3));
    }
    Ok(format!("all answered, median {} ms", found.join(" / ")))
}

fn checked_transfer(from: &Pod, to: &Pod, family: Family) -> Found {
    let done = transfer(&from.ns, &to.ns, to.ip(family), BYTES, LIMIT)
        .map_err(|error| error.to_string())?;
    Ok(format!(
        "2 x {} MB unharmed, {:.0} Mbit/s each way",
        BYTES >> 20,
        done.bytes as f64 * 8.0 / done.elapsed.as_secs_f64() / 1e6
    ))
}

/// From node 2's NIC to node 1: every packet must come out as a drop, none may be missing.
fn volley(topology: &mut Topology, family: Family) -> Result<Found, LabError> {
    let before = topology.n1.drops()?;
    let (fired, counted) = fire(topology, family, VOLLEY, RATE)?;
    let (sent, reasons) = (fired.sent, topology.n1.drops()?.since(&before));
    let found = format!("{counted} of {sent} counted: {reasons}");
    // A stray packet of the kernel's own may add to them.
    let good = sent == VOLLEY && counted >= sent - sent / 100 && counted <= sent + 10;
    Ok(if good { Ok(found) } else { Err(found) })
}

/// The highest rate at which node 1 counts all but one in a thousand.
fn threshold(topology: &mut Topology) -> Result<Found, LabError> {
    let found = search(GOAL, RATE as f64, |rate| {
        let count = ((rate / 4.0) as u64).clamp(1000, 5000);
        let (fired, counted) = fire(topology, Family::V4, count, rate as u64)?;
        Ok::<_, LabError>(Trial {
            rate: fired.pps as f64,
            loss: fired.sent.saturating_sub(counted) as f64 / fired.sent.max(1) as f64,
            kept_up: fired.pps as f64 > rate * 0.9,
        })
    })?;
    let end = match (found.failed, found.by_sender) {
        (_, true) => "pktgen sends no more".into(),
        (Some(failed), false) => format!("loses more at {:.1}", failed / 1e3),
        (None, false) => "searched no further".into(),
    };
    let text = format!(
        "{:.1} kpps of 110 B, {end}; {} rates tried",
        found.rate / 1e3,
        found.steps
    );
    Ok(if found.rate > 0.0 {
        Ok(text)
    } else {
        Err(text)
    })
}

/// Fires from node 2 at node 1; how many more packets node 1 has dropped then.
fn fire(
    topology: &mut Topology,
    family: Family,
    count: u64,
    rate: u64,
) -> Result<(Fired, u64), LabError> {
    let volley = Volley {
        from: plan::underlay(2, family),
        to: plan::underlay(1, family),
        mac: mac(&topology.n1.ns)?,
        port: VXLAN_PORT,
        count,
        rate,
    };
    let before = dropped(&mut topology.n1)?;
    let fired = volley.fire(&topology.n2.ns)?;
    // The last of them may still be on their way.
    let mut until = Instant::now() + SETTLE;
    let mut counted = dropped(&mut topology.n1)? - before;
    while counted < fired.sent && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        let now = dropped(&mut topology.n1)? - before;
        if now > std::mem::replace(&mut counted, now) {
            until = Instant::now() + SETTLE;
        }
    }
    Ok((fired, counted))
}

/// Packets a node has dropped: a superframe counts for what it stands for.
fn dropped(node: &mut Node) -> Result<u64, LabError> {
    let status = node.agent()?.json(&["status"])?;
    Ok(status["totals"]["dropped"]["packets"].as_u64().unwrap_or(0))
}

fn mac(ns: &Netns) -> Result<String, LabError> {
    ns.run(|| {
        // Not /sys, which shows the namespace it was mounted in.
        nix::ifaddrs::getifaddrs()
            .ok()
            .into_iter()
            .flatten()
            .filter(|entry| entry.interface_name == INTERFACE)
            .filter_map(|entry| Some(entry.address?.as_link_addr()?.to_string()))
            .next()
    })?
    .ok_or_else(|| LabError::io(INTERFACE)(std::io::Error::other("it has no MAC")))
}

/// Says each thing as it is found.
struct Report {
    good: bool,
    rows: usize,
}

impl Default for Report {
    fn default() -> Self {
        Report {
            good: true,
            rows: 0,
        }
    }
}

impl Report {
    fn step(&self, text: &str) {
        Line::Step { text: text.into() }.say();
    }

    fn row(&mut self, what: &str, found: Vec<Found>) {
        self.good &= found.iter().all(Result::is_ok);
        self.rows += 1;
        Line::Row {
            what: what.into(),
            found,
        }
        .say();
    }

    fn both(&mut self, what: &str, mut check: impl FnMut(Family) -> Found) {
        self.step(what);
        let found = Family::BOTH.map(&mut check);
        self.row(what, found.into());
    }
}

impl Line {
    fn say(&self) {
        println!("{}", self.write());
    }
}
