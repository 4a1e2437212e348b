//! Memory of an agent with many pods, peers and routes, beside one that has next to nothing.

use super::CompareError;
use super::measure::Meter;
use super::report::{Better, Figure};
use super::side::{ACROSS, Side};
use crate::lab::{Crowd, Io, LabError, Mode, NodeKind, RingwayOptions, Topology, plan};
use crate::traffic::{self, Memory, TrafficError};
use std::thread::sleep;
use std::time::Duration;

/// 1,000 peers with 100 CIDRs each: 100,000 routes.
const CROWD: Crowd = Crowd {
    peers: 1_000,
    cidrs: 100,
};
const BESIDE: &str = "2 pods, 1 peer";

pub(super) fn measure(meter: &mut Meter<'_>, pods: u8) -> Result<(), CompareError> {
    for (io, how) in [(Io::Socket, "sockets"), (Io::Xdp, "rings")] {
        let name = format!("memory, {how}, {pods} pods, 1,000 peers, 100,000 routes");
        meter.progress.step(&name);
        let small = agent(meter, io, Crowd::default(), 2)?;
        let large = agent(meter, io, CROWD, pods)?;
        for (what, of) in [
            (
                "RSS",
                &(|memory: Memory| memory.rss) as &dyn Fn(Memory) -> u64,
            ),
            ("PSS", &|memory| memory.pss),
        ] {
            let mib = |memory| vec![of(memory) as f64 / f64::from(1 << 20)];
            let figure = Figure::new(format!("{name}, {what}"), "MiB", BESIDE, Better::Lower);
            let figure = match what {
                "RSS" => figure.headline(),
                _ => figure,
            };
            meter.add(figure, mib(large), mib(small));
        }
    }
    Ok(())
}

/// What an agent has after some traffic: what the data path uses is there by then.
fn agent(meter: &mut Meter<'_>, io: Io, crowd: Crowd, pods: u8) -> Result<Memory, CompareError> {
    let kind = |crowd| {
        NodeKind::Ringway(RingwayOptions {
            io,
            crowd,
            ..RingwayOptions::default()
        })
    };
    let topology = Topology::build(Mode::Cloud, kind(crowd), kind(Crowd::default()))?;
    let mut side = Side::with(topology)?;
    let other = |family| plan::underlay(2, family);
    for (network, family) in plan::CROWD_UNDERLAY.iter().zip(plan::Family::BOTH) {
        let route = format!("route add {network} via {}", other(family));
        side.topology.n1.ns.ip(&route)?;
    }
    side.fill(pods)?;
    let failed = |source: TrafficError| CompareError::Traffic {
        what: format!("memory, {io}"),
        source,
    };
    side.tcp(ACROSS, 4, meter.effort.time).map_err(failed)?;
    sleep(Duration::from_secs(1));
    let agent = side.topology.n1.agent()?;
    let Some(pid) = agent.pid() else {
        let status = agent
            .ended()
            .map_or("not started".into(), |s| s.to_string());
        return Err(CompareError::Lab(LabError::AgentEnded {
            node: "node1".into(),
            status,
            log: agent.log(),
        }));
    };
    let memory = traffic::memory(pid).map_err(failed)?;
    // Afterwards: to print them all takes memory, too.
    let routes = agent.json(&["tables", "routes"])?;
    let found = routes.as_array().map_or(0, Vec::len);
    let wanted = crowd.peers as usize * crowd.cidrs as usize;
    match found >= wanted {
        true => Ok(memory),
        false => Err(CompareError::Lab(LabError::Io {
            what: format!("memory, {io}: routes of the agent"),
            source: std::io::Error::other(format!("{found} instead of {wanted} and more")),
        })),
    }
}
