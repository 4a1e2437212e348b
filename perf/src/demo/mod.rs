//! `ringway-perf demo`: two nodes, three pods, real traffic, a table of results.
//!
//! ```text
//!   pod a 10.77.1.2   pod b 10.77.1.3               pod c 10.77.2.2
//!        └──────┬──────────┘                               │
//!        node1: ringway agent ═══ VXLAN over veth ═══ node2: ringway agent
//!        192.168.77.1                                 192.168.77.2
//! ```
//! One row for each rule of the Kubernetes network model, then throughput beside the kernel's own
//! bridge and VXLAN, measured in turns in the same run, then what each agent dropped; at the end a packet traced,
//! a drop explained, and the address of the page.

mod explain;
mod model;
mod speed;

use crate::lab::{Family, LabError, Mode, RingwayOptions, Topology, binary, leftovers};
use crate::table::{Cell, Mark, Progress, Table, colour, paint};
use crate::traffic::TrafficError;
use std::time::{Duration, Instant};

/// How the demo runs.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Keep the nodes and pods until Ctrl-C, to look around
    #[arg(long)]
    pub hold: bool,
    /// Seconds of each throughput measurement
    #[arg(long, default_value_t = 2)]
    pub seconds: u64,
}

/// Why the demo could not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A topology.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A measurement.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
}

/// Runs it; `true` if every row is as it should be.
pub fn run(args: &Args) -> Result<bool, DemoError> {
    let begin = Instant::now();
    let colour = colour();
    let mut progress = Progress::default();
    report_leftovers();
    progress.step("two nodes, a ringway agent in each, three pods");
    let helper = binary("ringway-perf", "RINGWAY_PERF_BIN")?;
    let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default())?;
    let (pods, times) = topology.add_three_pods_by_cni()?;
    println!("{PICTURE}");
    let times = times.map(|time| format!("{:.1}", 1e3 * time.as_secs_f64()));
    println!(
        "  pods attached by the CNI plugin, as a container runtime does: ADD took {} ms\n",
        times.join(", ")
    );

    let rows = model::check(&topology, &pods, &helper, &mut progress);
    progress.clear();
    let mut table = Table::new(&["Kubernetes network model", "IPv4", "IPv6"]);
    let mut good = true;
    for row in rows {
        let mut cells = vec![row.rule.into()];
        for result in row.families {
            good &= result.is_ok();
            cells.push(match result {
                Ok(found) => Cell::new(format!("ok   {found}"), Mark::Good),
                Err(found) => Cell::new(format!("FAIL {found}"), Mark::Bad),
            });
        }
        table.row(cells);
    }
    print!("{}", table.render(colour));
    println!(
        "  each: ping, UDP and TCP with every byte checked; in brackets who the receiver saw\n"
    );

    let time = Duration::from_secs(args.seconds.max(1));
    match speed::measure(&pods, time, &mut progress) {
        Ok(rows) => {
            progress.clear();
            print!("{}", speed::table(&rows).render(colour));
            println!(
                "  median of {} each, measured in turns; both ends and both nodes share this machine's cores\n",
                speed::TURNS
            );
        }
        Err(error) => {
            progress.clear();
            good = false;
            println!(
                "  {}\n",
                paint(&format!("FAIL throughput: {error}"), Mark::Bad, colour)
            );
        }
    }

    let mut table = Table::new(&["Dropped by", "frames by reason"]);
    for node in [&mut topology.n1, &mut topology.n2] {
        let name = format!("agent of node{}", node.number);
        table.row(match node.drops() {
            Ok(drops) => vec![name.into(), drops.to_string().into()],
            Err(error) => {
                good = false;
                vec![name.into(), Cell::new(format!("FAIL {error}"), Mark::Bad)]
            }
        });
    }
    println!("{}", table.render(colour));
    progress.step("a packet traced, a drop explained, the page");
    let explained = explain::explain(&mut topology, &pods);
    progress.clear();
    match &explained {
        Ok(explained) => println!("{}", explained.render(colour)),
        Err(error) => {
            good = false;
            println!("  {}\n", paint(&format!("FAIL {error}"), Mark::Bad, colour));
        }
    }
    where_next(&mut topology, args.hold)?;
    let (verdict, mark) = match good {
        true => ("every row is as it should be", Mark::Good),
        false => ("some rows FAILED", Mark::Bad),
    };
    println!(
        "{} ({:.0} s)",
        paint(verdict, mark, colour),
        begin.elapsed().as_secs_f64()
    );
    if args.hold {
        println!("holding: Ctrl-C takes everything down");
        loop {
            // The signal handler ends the process.
            std::thread::park();
        }
    }
    progress.step("taking everything down");
    drop(explained);
    drop(topology);
    Ok(good)
}

const PICTURE: &str = "
  pod a 10.77.1.2   pod b 10.77.1.3                pod c 10.77.2.2
        fd77:1::2         fd77:1::3                      fd77:2::2
       └───────┬─────────┘                              │
       node1: ringway agent ════ VXLAN over veth ════ node2: ringway agent
       192.168.77.1, fd00:77::1                       192.168.77.2, fd00:77::2
";

fn report_leftovers() {
    let left = leftovers();
    if !left.is_empty() {
        eprintln!(
            "{} leftovers of a run that was killed; `ringway-perf clean` removes them",
            left.len()
        );
    }
}

/// The commands for what to look at, with this run's paths while they exist.
fn where_next(topology: &mut Topology, hold: bool) -> Result<(), DemoError> {
    println!(
        "  Where to look next{}",
        if hold { ", from another terminal" } else { "" }
    );
    let pod_name = |number: u8, suffix: &str| topology.lab.name(&format!("n{number}p{suffix}"));
    let pod = pod_name(1, "2");
    let node = topology.n1.ns.name().to_owned();
    let agent = topology.n1.agent()?;
    // Who called sudo is somebody else in the next terminal.
    let sudo = match std::env::var_os("SUDO_UID") {
        Some(_) => "sudo ",
        None => "",
    };
    if !hold {
        println!(
            "    {sudo}{} demo --hold",
            binary("ringway-perf", "RINGWAY_PERF_BIN")?.display()
        );
        println!("      keeps the nodes up and prints these with their real names:");
    }
    let line = |args: &str| match hold {
        true => format!("{sudo}{}", agent.command_line(args)),
        false => format!("ringway --socket … {args}"),
    };
    let lines = [
        ("why packets were dropped, and the remedy", line("drops")),
        ("the pods and their counters", line("pods")),
        ("who has which address", line("tables routes")),
        ("peers and the paths to them", line("tables paths")),
        ("what node1's agent says of itself", line("status")),
        (
            "the agent's log",
            if hold {
                agent.log_path().display().to_string()
            } else {
                "…/n1/agent.log".into()
            },
        ),
    ];
    let mut table = Table::default();
    for (what, command) in lines {
        table.row(vec!["".into(), command.into(), Cell::new(what, Mark::Dim)]);
    }
    if hold {
        let target = crate::lab::plan::pod(2, 2, Family::V4);
        table.row(vec![
            "".into(),
            format!("{sudo}ip netns exec {pod} ping {target}").into(),
            "traffic of your own".into(),
        ]);
        table.row(vec![
            "".into(),
            format!("{sudo}ip netns exec {node} tcpdump -ni eth0 udp port 8472").into(),
            "the wire".into(),
        ]);
    }
    println!("{}", table.render(colour()));
    Ok(())
}
