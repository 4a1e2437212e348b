//! What is known of one pod, peer, reason or worker.

use ringway_view::columns::Fields;
use ringway_view::units::{amount, bytes, duration};
use ringway_view::{PeerRow, Pod, Traffic};

use crate::app::Explain;
use crate::model::{Flow, Pace, Shown};
use crate::rows::{self, Loss, losses};
use crate::summary::condition;
use crate::table::Screen;
use crate::text::{ago, bits, clean, percent, rate};

/// Columns of the labels.
const LABEL: usize = 10;

/// Lines behind labels; nothing of an answer gets there as it is.
struct Out(Fields);

impl Out {
    fn push(&mut self, label: &str, text: &str) {
        self.0.push(label, &clean(text));
    }
}

/// Lines about the thing of that key, none of them longer than `width` where that is 40 or more. Without it: that
/// it is not there.
pub(crate) fn lines(
    screen: Screen,
    key: &str,
    shown: &Shown,
    explain: Explain,
    width: usize,
) -> Vec<String> {
    let mut out = Out(Fields::new(width, LABEL));
    let is_there = match screen {
        Screen::Pods => pod(&mut out, key, shown),
        Screen::Peers => peer(&mut out, key, shown),
        Screen::Drops => reason(&mut out, key, shown, explain),
        Screen::Workers => worker(&mut out, key, shown),
    };
    if is_there.is_none() {
        out.push("", &format!("{key} is not there any more"));
    }
    out.0.finish().lines().map(str::to_owned).collect()
}

fn flow(out: &mut Out, label: &str, flow: Flow, counted: &Traffic) {
    out.push(
        label,
        &format!(
            "{}, {} packets/s; {} packets, {} in all",
            bits(flow.bits),
            rate(flow.packets),
            amount(counted.packets),
            bytes(counted.bytes)
        ),
    );
}

/// Its drops, each reason with what to do.
fn drops_at(out: &mut Out, shown: &Shown, kinds: &[&str], name: &str) {
    let mut none = true;
    for drop in &shown.look.drops.drops {
        let places = drop.at.iter();
        for at in places.filter(|at| kinds.contains(&at.kind.as_str()) && at.name == name) {
            let (now, packets) = (rate(at.rate), amount(at.packets));
            let (reason, direction) = (&drop.reason, &at.direction);
            out.push(
                "drops",
                &format!("{reason}: {now}/s, {packets} packets in all, {direction} it"),
            );
            out.push("  cause", &drop.cause);
            out.push("  to do", &drop.remedy);
            none = false;
        }
    }
    let place = format!("pod {name}");
    let kernel = shown.look.drops.kernel.iter();
    for loss in kernel.filter(|loss| kinds.contains(&"pod") && loss.at == place && loss.count > 0) {
        let (now, count) = (rate(loss.rate), amount(loss.count));
        let counter = &loss.counter;
        out.push(
            "drops",
            &format!("{counter}: {now}/s, {count} packets by the kernel"),
        );
        out.push("  cause", &loss.cause);
        out.push("  to do", &loss.remedy);
        none = false;
    }
    if none {
        out.push("drops", "none since the agent started");
    }
}

fn pod(out: &mut Out, key: &str, shown: &Shown) -> Option<()> {
    let both = shown.look.pods.iter().zip(&shown.pods);
    let (pod, pace): (&Pod, &Pace) = both.into_iter().find(|(pod, _)| pod.name == key)?;
    out.push("pod", &pod.name);
    out.push("addresses", &format!("{}, {}", pod.ips.join(" "), pod.mac));
    out.push(
        "interface",
        &format!(
            "{}, MTU {} bytes, port {}, in {}",
            pod.ifname, pod.mtu, pod.port, pod.netns
        ),
    );
    let limit = |bits: u64| match bits {
        0 => "no limit".into(),
        bits => format!("{}bit/s", with_unit(bits)),
    };
    out.push(
        "bandwidth",
        &pod.bandwidth.map_or_else(
            || "no limit".into(),
            |limits| {
                let (from, to) = (limit(limits.egress_rate), limit(limits.ingress_rate));
                format!("from the pod {from}, to it {to}")
            },
        ),
    );
    for port in &pod.port_mappings {
        let host = match port.host_ip.as_str() {
            "" => "the node's port",
            address => address,
        };
        out.push(
            "",
            &format!(
                "{host} {}/{} leads to port {}",
                port.host_port, port.protocol, port.container_port
            ),
        );
    }
    flow(out, "sent", pace.sent, &pod.from_pod);
    flow(out, "received", pace.received, &pod.to_pod);
    drops_at(out, shown, &["pod", "node"], key);
    Some(())
}

/// `10.0 M`, or with a space behind a number that has no letter.
fn with_unit(n: u64) -> String {
    match amount(n) {
        text if text.contains(' ') => text,
        text => text + " ",
    }
}

fn peer(out: &mut Out, key: &str, shown: &Shown) -> Option<()> {
    let both = shown.look.peers.iter().zip(&shown.peers);
    let (peer, pace): (&PeerRow, &Pace) = both.into_iter().find(|(peer, _)| peer.name == key)?;
    out.push("peer", &peer.name);
    let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    out.push("addresses", &addresses.join(" "));
    out.push("pods on", &peer.pod_cidrs.join(" "));
    match &peer.health {
        Some(health) => {
            let state = rows::state(health.state);
            let since = rows::since(health.since_s);
            out.push(
                "state",
                &format!("{state} {since}, asked at {}", health.address),
            );
            if let Some(us) = health.round_trip_us {
                out.push("RTT", &format!("{:.2} ms", us as f64 / 1e3));
            }
            let share = percent(rows::lost(health));
            out.push(
                "probes",
                &format!("{} of {} lost, {share} %", health.lost, health.probes),
            );
            let mtu = health.verified_mtu;
            let mtu = mtu.map(|mtu| format!("packets of {mtu} bytes have been seen to pass"));
            out.push("MTU", &mtu.unwrap_or_else(|| "not tried yet".into()));
        }
        None => out.push("state", "it is not probed"),
    }
    match &shown.look.paths {
        Some(paths) => {
            for path in paths.iter().filter(|path| path.peer == key) {
                out.push(
                    "path",
                    &format!(
                        "{} by {}, {} to {}, UDP port {}, MTU {} bytes",
                        path.carries, path.encap, path.src, path.dst, path.port, path.mtu
                    ),
                );
            }
        }
        None => out.push("path", "asked for"),
    }
    let hops = shown.look.status.underlay.next_hops.iter();
    for hop in hops.filter(|hop| peer.addresses.contains(&hop.dst)) {
        out.push(
            "next hop",
            &format!("to {} by {}: {}", hop.dst, hop.by, hop.next_hop),
        );
    }
    flow(out, "sent", pace.sent, &peer.to_peer);
    flow(out, "received", pace.received, &peer.from_peer);
    let about = |text: &str| {
        let name = text.split([' ', ',', ':']).any(|word| word == key);
        let address = |a: &String| text.split([' ', ',', '/']).any(|word| word == a);
        name || addresses.iter().any(address)
    };
    for one in &shown.look.status.conditions {
        if about(&one.what) || about(&one.found) || about(&one.wanted) {
            out.push("attention", &condition(one));
        }
    }
    drops_at(out, shown, &["peer"], key);
    Some(())
}

fn reason(out: &mut Out, key: &str, shown: &Shown, explain: Explain) -> Option<()> {
    let all = losses(shown);
    let loss: Option<&Loss<'_>> = all.iter().find(|loss| loss.reason == key);
    let known = explain(key);
    if loss.is_none() && known.is_none() {
        return None;
    }
    out.push("reason", key);
    if let Some(loss) = loss {
        let last = loss.last_ago_ms;
        let last = last.map_or_else(String::new, |ms| format!(", last {}", ago(ms)));
        let by = if loss.kernel { " by the kernel" } else { "" };
        out.push(
            "count",
            &format!(
                "{}/s, {} in all{by}{last}",
                rate(loss.rate),
                amount(loss.count)
            ),
        );
        out.push("cause", loss.cause);
        out.push("to do", loss.remedy);
    }
    if let Some(known) = &known {
        if loss.is_none() {
            out.push("cause", &known.cause);
            out.push("to do", &known.remedy);
        }
        out.push("where", &known.stage);
        out.push("counted", &known.counted);
        out.push("example", &known.example);
    }
    let at = loss.map_or(&[][..], |loss| &loss.at);
    for (n, (place, packets, now)) in at.iter().enumerate() {
        let label = if n == 0 { "hits" } else { "" };
        let packets = amount(*packets);
        out.push(
            label,
            &format!("{place}: {}/s, {packets} in all", rate(*now)),
        );
    }
    if at.is_empty() {
        out.push("hits", "no pod and no peer that is known");
    }
    Some(())
}

fn worker(out: &mut Out, key: &str, shown: &Shown) -> Option<()> {
    let status = &shown.look.status;
    let mut both = status.workers.iter().zip(&shown.workers);
    let (worker, pace) = both.find(|(worker, _)| worker.index.to_string() == key)?;
    out.push("worker", key);
    out.push(
        "processor",
        &worker.cpu.map_or_else(
            || "any: it is pinned to none".into(),
            |cpu| format!("{cpu}, pinned"),
        ),
    );
    out.push(
        "busy",
        &format!(
            "{} % of the time, in rounds with frames",
            percent(pace.busy)
        ),
    );
    out.push(
        "rounds",
        &format!(
            "{}/s, {} % of them with frames; {} in all",
            rate(pace.rounds),
            percent(pace.with_frames),
            amount(worker.rounds)
        ),
    );
    out.push(
        "sleeps",
        &format!("{}/s, {} in all", rate(pace.sleeps), amount(worker.sleeps)),
    );
    let sockets = worker.sockets;
    out.push(
        "sockets",
        &format!(
            "{} datagrams/s; receive buffer full {}/s, {} in all; truncated {}",
            rate(pace.datagrams),
            rate(pace.overflow),
            amount(sockets.overflow),
            amount(sockets.truncated)
        ),
    );
    let b = worker.buffers;
    out.push(
        "buffers",
        &format!(
            "{} free, {} in flight, {} in rings ({} to receive, {} to send), of {}",
            b.free, b.in_flight, b.in_rings, b.to_receive, b.to_send, b.total
        ),
    );
    for ring in status
        .underlay
        .rings
        .iter()
        .filter(|r| r.worker == worker.index)
    {
        let copy = if ring.zero_copy {
            "zero-copy"
        } else {
            "copying"
        };
        out.push(
            "ring",
            &format!("queue {}: {} XDP, {copy}", ring.queue, ring.mode),
        );
    }
    out.push("up", &duration(status.uptime_s));
    Some(())
}
