//! `ringway-perf lab`: two nodes and three pods to experiment with, until Ctrl-C.

use crate::lab::{
    Encap, Family, Io, LabError, Mode, NodeKind, RingwayOptions, Topology, UnderlayFamily,
};

/// What is built.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Pod network of node 1
    #[arg(long, value_enum, default_value_t = Kind::Ringway)]
    n1: Kind,
    /// Pod network of node 2
    #[arg(long, value_enum, default_value_t = Kind::Ringway)]
    n2: Kind,
    /// What the underlay offloads: full, cloud or bare
    #[arg(long, default_value = "cloud")]
    mode: Mode,
    /// Bare IP in UDP between Ringway nodes instead of VXLAN
    #[arg(long)]
    udp: bool,
    /// How Ringway nodes reach the underlay
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    io: Io,
    /// Workers of each Ringway node
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A ringway agent
    Ringway,
    /// Linux bridge and VXLAN devices, as Flannel programs them
    Kernel,
}

/// Builds it, prints how to use it, and waits for the signal that ends the process.
pub fn run(args: &Args) -> Result<bool, LabError> {
    let options = RingwayOptions {
        encap: if args.udp { Encap::Udp } else { Encap::Vxlan },
        family: UnderlayFamily::Match,
        workers: args.workers,
        io: args.io,
        ..RingwayOptions::default()
    };
    let kind = |kind| match kind {
        Kind::Ringway => NodeKind::Ringway(options.clone()),
        Kind::Kernel => NodeKind::KernelVxlan,
    };
    let mut topology = Topology::build(args.mode, kind(args.n1), kind(args.n2))?;
    let pods = topology.add_three_pods()?;
    for node in [&mut topology.n1, &mut topology.n2] {
        println!(
            "node {}  ip netns exec {} bash",
            node.number,
            node.ns.name()
        );
        if node.is_ringway() {
            println!("        {}", node.agent()?.command_line("status"));
        }
    }
    for pod in &pods {
        println!("pod     ip netns exec {} bash", pod.ns.name());
        println!(
            "        on node {}: {} {}",
            pod.node,
            pod.ip(Family::V4),
            pod.ip(Family::V6)
        );
    }
    println!("standing until Ctrl-C");
    loop {
        // The signal handler takes it down and ends the process.
        std::thread::park();
    }
}
