//! What a node's status says of its rings, and whether every frame of them is accounted for.

use crate::harness::{eventually, network_test, skipped};
use ringway_perf::lab::{Io, Node, RingwayOptions};
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long frames may be under way after the last packet.
const SETTLE: Duration = Duration::from_secs(2);

/// A network test that needs AF_XDP.
pub(crate) fn ring_test(name: &str, limit: Duration, body: impl FnOnce()) {
    let protocols = std::fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    if !protocols.lines().any(|line| line.starts_with("XDP ")) {
        return skipped(name, "no AF_XDP in this kernel");
    }
    network_test(name, limit, body);
}

/// Options of a node that uses rings.
pub(crate) fn xdp() -> RingwayOptions {
    RingwayOptions {
        io: Io::Xdp,
        ..RingwayOptions::default()
    }
}

/// A node's status, read once.
pub(crate) struct Status(Value);

impl Status {
    pub(crate) fn of(node: &mut Node) -> Status {
        Status(node.agent().unwrap().json(&["status"]).unwrap())
    }

    /// How many rings are open.
    pub(crate) fn rings(&self) -> usize {
        self.0["underlay"]["rings"].as_array().map_or(0, Vec::len)
    }

    /// `xdp` or `socket`, and why.
    pub(crate) fn io(&self) -> &str {
        self.0["underlay"]["io"].as_str().unwrap()
    }

    pub(crate) fn fallbacks(&self) -> u64 {
        self.0["underlay"]["xdp_fallbacks"].as_u64().unwrap()
    }

    pub(crate) fn copied_bytes(&self) -> u64 {
        self.0["totals"]["copied_bytes"].as_u64().unwrap()
    }

    /// How packets to an outer address go: `ring` or `socket`, and the next hop with its MAC.
    pub(crate) fn next_hop(&self, dst: IpAddr) -> Option<(&str, &str)> {
        let hops = self.0["underlay"]["next_hops"].as_array()?;
        let hop = hops.iter().find(|hop| hop["dst"] == dst.to_string())?;
        Some((hop["by"].as_str()?, hop["next_hop"].as_str()?))
    }

    /// A field of `buffers`, summed over the workers.
    pub(crate) fn buffers(&self, field: &str) -> u64 {
        self.workers().map(|worker| number(worker, field)).sum()
    }

    fn workers(&self) -> impl Iterator<Item = &Value> {
        self.0["workers"].as_array().unwrap().iter()
    }

    /// What does not add up in a worker's buffers once nothing is under way. Closed rings keep their
    /// frames for a second.
    fn unaccounted(&self) -> Vec<String> {
        let wrong = |worker: &Value| {
            let of = |field| number(worker, field);
            let all = of("free") + of("in_flight") + of("in_rings");
            let idle = of("in_flight") == 0 && of("to_send") == 0;
            let rings = of("in_rings") == of("to_receive") + of("to_send");
            let whole = all == of("total") && idle && rings && of("invalid") == 0;
            (!whole).then(|| format!("worker {}: {}", worker["index"], worker["buffers"]))
        };
        self.workers().filter_map(wrong).collect()
    }
}

fn number(worker: &Value, field: &str) -> u64 {
    let value = &worker["buffers"][field];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("buffers.{field} is {value} in {worker}"))
}

/// Every frame of an idle node is accounted for, soon.
pub(crate) fn check_frames(what: &str, node: &mut Node) -> Vec<String> {
    let until = Instant::now() + SETTLE;
    loop {
        let wrong = Status::of(node).unaccounted();
        if wrong.is_empty() || Instant::now() > until {
            let n = node.number;
            return wrong
                .into_iter()
                .map(|wrong| format!("{what}, node {n}: frames are not accounted for: {wrong}"))
                .collect();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The node has `rings` rings, used them, dropped nothing, and lost no frame.
pub(crate) fn check_rings(what: &str, node: &mut Node, rings: usize) -> Vec<String> {
    let mut failures = check_frames(what, node);
    let (status, drops) = (Status::of(node), node.drops().unwrap());
    let mut note = |found: String| failures.push(format!("{what}, node {}: {found}", node.number));
    if status.rings() != rings || !status.io().starts_with("xdp (") {
        note(format!(
            "{} rings instead of {rings}; {}",
            status.rings(),
            status.io()
        ));
    }
    if status.fallbacks() != 0 {
        note(format!("fell back {} times", status.fallbacks()));
    }
    // Queues are dealt out in turn: a worker without one has no ring.
    for worker in status.workers().take(rings) {
        if number(worker, "received") == 0 || number(worker, "sent") == 0 {
            note(format!(
                "nothing came or went by the rings of worker {}: {}; {}",
                worker["index"], worker["buffers"], status.0["underlay"]["next_hops"]
            ));
        }
    }
    if drops.total() != 0 {
        note(format!("dropped: {drops}"));
    }
    failures
}

/// Waits until the node has `rings` rings.
pub(crate) fn wait_for_rings(what: &str, node: &mut Node, rings: usize, limit: Duration) {
    let what = format!("{what}: {rings} rings at node {}", node.number);
    let took = eventually(&what, limit, || Status::of(node).rings() == rings);
    println!("{what} after {took:?}");
}
