//! Answers for people: aligned columns, units, nothing that is zero by nature.

use super::columns::{Fields, Rows};
use ringway_cluster::source::State;
use ringway_control::view::{
    Buffers, Condition, ConfigStatus, Detached, Drops, MacRow, NeighbourRow, NotServed, PathRow,
    PeerRow, Pod, Reloaded, RingStatus, RouteRow, SourceStatus, Status, UnderlayStatus,
};

/// Values separated by a space.
pub(super) fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    all.join(" ")
}

/// `1.23 M` and the like: three significant figures.
fn amount(n: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if n < 10_000 {
        return n.to_string();
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

fn bytes(n: u64) -> String {
    if n < 10_000 {
        format!("{n} B")
    } else {
        format!("{}B", amount(n))
    }
}

pub(super) fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

fn ring_line(ring: &RingStatus) -> String {
    let mut line = format!(
        "queue {} (worker {}): {} XDP, {}",
        ring.queue,
        ring.worker,
        ring.mode,
        if ring.zero_copy {
            "zero-copy"
        } else {
            "copying"
        }
    );
    if ring.busy_poll {
        line.push_str(", polled");
    }
    for why in [&ring.mode_refused, &ring.zero_copy_refused]
        .into_iter()
        .flatten()
    {
        line.push_str(&format!("; better was refused: {why}"));
    }
    line
}

fn buffers_line(b: &Buffers) -> String {
    let mut line = format!(
        "buffers: {} free, {} in flight, {} in rings ({} to receive, {} to send), of {}",
        b.free, b.in_flight, b.in_rings, b.to_receive, b.to_send, b.total
    );
    for (what, count) in [
        ("transmit ring full", b.tx_full),
        ("receive ring full", b.rx_full),
        ("fill ring found empty", b.fill_empty),
        ("no frame for the fill ring", b.fill_starved),
        ("dropped before the ring", b.rx_dropped),
        ("INVALID descriptors, report them", b.invalid),
    ] {
        if count > 0 {
            line.push_str(&format!("; {what} {}", amount(count)));
        }
    }
    line
}

/// Columns of the labels in front of lines.
const LABEL: usize = 10;

/// What a reload has changed.
pub(super) fn reloaded(r: &Reloaded) -> String {
    let mut lines: Vec<String> = r
        .changed
        .iter()
        .map(|what| format!("in force: {what}\n"))
        .collect();
    let waiting = r.needs_restart.iter();
    lines.extend(waiting.map(|what| format!("waits for a restart of the agent: {what}\n")));
    if lines.is_empty() {
        lines.push("the configuration is what runs\n".into());
    }
    lines.concat()
}

/// The line of `ringway status` about the configuration file.
fn config_line(c: &ConfigStatus) -> String {
    match (&c.error, c.needs_restart.len()) {
        (Some(e), _) => format!("{} IS NOT IN FORCE, what was before is: {e}", c.file),
        (None, 0) => format!("{} is in force", c.file),
        (None, _) => format!(
            "{} is in force, but for what waits for a restart: {}",
            c.file,
            c.needs_restart.join("; ")
        ),
    }
}

pub(super) fn status(s: &Status) -> String {
    let mut out = Fields::new(LABEL);
    let up = duration(s.uptime_s);
    out.push(
        "node",
        &format!("{}, ringway {}, pid {}, up {up}", s.node, s.version, s.pid),
    );
    out.push("config", &config_line(&s.config));
    out.push(
        "pods",
        &match s.pod_cidrs.as_slice() {
            [] => format!("{}, no pod network yet, node port {}", s.pods, s.interface),
            cidrs => format!(
                "{} on {}, gateway {}, MTU {} bytes, node port {}",
                s.pods,
                cidrs.join(" "),
                join(&s.gateways),
                s.pod_mtu,
                s.interface
            ),
        },
    );
    for one in &s.sources {
        source(&mut out, one);
    }
    underlay(&mut out, &s.underlay);
    if let Some(last) = &s.reconcile.last_restored {
        let n = s.reconcile.restored;
        out.push(
            "restored",
            &format!("{n} things that somebody had changed, at last: {last}"),
        );
    }
    if let Some(paused) = s.reconcile.paused_s {
        let left = duration(paused);
        out.push(
            "PAUSED",
            &format!(
                "what others change stays for {left} more; `ringway reconcile resume` ends that"
            ),
        );
    }
    out.push("peers", &s.peers.to_string());
    out.push("firewall", &s.rules);
    for NotServed { pod, why } in &s.not_served {
        out.push("unserved", &format!("{pod}: {why}"));
    }
    if let Some(error) = &s.state_error {
        out.push(
            "state",
            &format!("not on disk, so that pods cannot be added: {error}"),
        );
    }
    for condition in &s.conditions {
        let Condition {
            what,
            wanted,
            found,
            why,
            since_s,
        } = condition;
        let since = duration(*since_s);
        out.push(
            "attention",
            &format!("{what} should be {wanted}, and has been {found} for {since}: {why}"),
        );
    }
    if s.log_lines_lost > 0 {
        let lost = amount(s.log_lines_lost);
        out.push(
            "log",
            &format!("{lost} lines lost, they could not be written"),
        );
    }
    for worker in &s.workers {
        let busy = worker.busy_rounds as f64 * 100.0 / worker.rounds.max(1) as f64;
        let cpu = worker.cpu;
        out.push(
            &format!("worker {}", worker.index),
            &format!(
                "{} rounds, {busy:.1} % with frames, slept {} times{}",
                amount(worker.rounds),
                amount(worker.sleeps),
                cpu.map_or_else(String::new, |cpu| format!(", on processor {cpu}")),
            ),
        );
        if !s.underlay.rings.is_empty() {
            out.push("", &buffers_line(&worker.buffers));
        }
        let sockets = worker.sockets;
        if sockets.overflow + sockets.truncated > 0 {
            let [overflow, truncated] = [sockets.overflow, sockets.truncated].map(amount);
            let line = format!("sockets: receive buffer full {overflow}, truncated {truncated}");
            out.push("", &line);
        }
    }
    let t = &s.totals;
    let mut rows = Rows::new(&["", "FRAMES", "PACKETS"]);
    for (name, count) in [
        ("received", t.received),
        ("delivered", t.delivered),
        ("tunnelled", t.tunnelled),
        ("answered", t.answered),
        ("ignored", t.ignored),
        ("dropped", t.dropped),
        ("originated", t.originated),
    ] {
        rows.push([name.into(), amount(count.frames), amount(count.packets)]);
    }
    rows.push([
        "lost at transmit".into(),
        String::new(),
        amount(t.lost_packets),
    ]);
    format!("{}\n{rows}", out.finish())
}

/// `current, confirmed 3 s ago`, and what is wrong with it.
fn source(out: &mut Fields, source: &SourceStatus) {
    let ago = |before: &str, after: &str| match source.confirmed_ago_s {
        Some(ago) => format!("{before}{}{after}", duration(ago)),
        None => String::new(),
    };
    let error = source.error.as_deref();
    let error = error.map_or_else(String::new, |e| format!(": {e}"));
    let stands = match source.state {
        State::Waiting => format!("nothing heard yet{error}"),
        State::Stale => format!("STALE{}{error}", ago(" for ", "")),
        State::Current => format!("current{}{error}", ago(", confirmed ", " ago")),
    };
    out.push("source", &format!("{}: {stands}", source.name));
    for problem in &source.problems {
        out.push("", problem);
    }
}

fn underlay(out: &mut Fields, u: &UnderlayStatus) {
    out.push(
        "underlay",
        &format!(
            "{} {}, MTU {} bytes, by {}",
            u.interface,
            join(&u.addresses),
            u.mtu,
            u.io
        ),
    );
    for choice in &u.choices {
        out.push("", &format!("{}: {}", choice.address, choice.why));
        for other in &choice.passed_over {
            out.push("", &format!("not {}: {}", other.address, other.why));
        }
    }
    for ring in &u.rings {
        out.push("", &ring_line(ring));
    }
    if u.xdp_fallbacks > 0 {
        let times = u.xdp_fallbacks;
        out.push(
            "",
            &format!("AF_XDP did not work {times} times since the start; the agent's log says why"),
        );
    }
    if u.path_mtu_ignored > 0 {
        let times = amount(u.path_mtu_ignored);
        out.push(
            "",
            &format!("{times} ICMP errors claimed a path MTU that no path has: ignored"),
        );
    }
    for hop in &u.next_hops {
        out.push(
            "",
            &format!("to {} by {}: {}", hop.dst, hop.by, hop.next_hop),
        );
    }
    for socket in &u.sockets {
        let on = |yes| if yes { "on" } else { "off" };
        out.push(
            "",
            &format!(
                "{} ({}): GSO {}, GRO {}, receive buffer {}",
                socket.local,
                socket.encap,
                on(socket.gso),
                on(socket.gro),
                bytes(socket.receive_buffer_bytes as u64),
            ),
        );
    }
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn pods(pods: &Vec<Pod>) -> String {
    if pods.is_empty() {
        return "no pods; `ringway attach --help` tells how to add one\n".into();
    }
    let mut rows = Rows::new(&[
        "POD",
        "PORT",
        "ADDRESSES",
        "MAC",
        "MTU",
        "SENT",
        "RECEIVED",
        "DROPPED",
        "NETNS",
    ]);
    for pod in pods {
        let dropped: u64 = pod.drops.iter().map(|d| d.count).sum();
        rows.push([
            pod.name.clone(),
            pod.port.to_string(),
            pod.ips.join(" "),
            pod.mac.clone(),
            pod.mtu.to_string(),
            format!(
                "{} pk, {}",
                amount(pod.from_pod.packets),
                bytes(pod.from_pod.bytes)
            ),
            format!(
                "{} pk, {}",
                amount(pod.to_pod.packets),
                bytes(pod.to_pod.bytes)
            ),
            format!("{} pk", amount(dropped)),
            pod.netns.clone(),
        ]);
    }
    rows.to_string()
}

pub(super) fn attached(pod: &Pod) -> String {
    sentence(&format!(
        "{}: {} has {} ({}), gateway {}, MTU {} bytes",
        pod.name,
        pod.ifname,
        pod.ips.join(" "),
        pod.mac,
        join(&pod.gateways),
        pod.mtu
    ))
}

pub(super) fn detached(detached: &Detached) -> String {
    sentence(&match (&detached.note, detached.existed) {
        (Some(note), _) => note.clone(),
        (None, true) => format!("{} detached", detached.name),
        (None, false) => format!("there is no pod {}", detached.name),
    })
}

/// A line of text, or several.
pub(super) fn sentence(text: &str) -> String {
    let mut out = Fields::new(0);
    out.push("", text);
    out.finish()
}

pub(super) fn drops(drops: &Drops) -> String {
    let mut out = Fields::new(LABEL);
    if drops.drops.is_empty() {
        out.line("no packet was dropped since the agent started");
    }
    for drop in &drops.drops {
        let mut counts = Vec::new();
        if drop.frames > 0 {
            counts.push(format!("{} frames", amount(drop.frames)));
        }
        if drop.lost_packets > 0 {
            counts.push(format!("{} packets at transmit", amount(drop.lost_packets)));
        }
        out.line(&format!("{}: {}", drop.reason, counts.join(", ")));
        for (place, n) in drop.at.iter().take(5) {
            out.push("  at", &format!("{place}: {} packets", amount(*n)));
        }
        out.push("  cause", &drop.cause);
        out.push("  to do", &drop.remedy);
    }
    if !drops.ignored.is_empty() {
        let all = drops
            .ignored
            .iter()
            .map(|d| format!("{} {}", d.reason, amount(d.count)));
        let all: Vec<String> = all.collect();
        out.push("ignored", &format!("(no fault): {}", all.join(", ")));
    }
    out.finish()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn macs(table: &Vec<MacRow>) -> String {
    let mut rows = Rows::new(&["MAC", "PORT", "NAME"]);
    for r in table {
        rows.push([r.mac.clone(), r.port.to_string(), r.name.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn routes(table: &Vec<RouteRow>) -> String {
    let mut rows = Rows::new(&["DESTINATION", "TARGET", "NAME"]);
    for r in table {
        rows.push([r.prefix.clone(), r.target.clone(), r.name.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn peers(table: &Vec<PeerRow>) -> String {
    let mut rows = Rows::new(&[
        "PEER",
        "NAME",
        "ADDRESSES",
        "POD NETWORKS",
        "SENT",
        "RECEIVED",
    ]);
    for r in table {
        rows.push([
            r.peer.to_string(),
            r.name.clone(),
            join(&r.addresses),
            r.pod_cidrs.join(" "),
            format!(
                "{} pk, {}",
                amount(r.to_peer.packets),
                bytes(r.to_peer.bytes)
            ),
            format!(
                "{} pk, {}",
                amount(r.from_peer.packets),
                bytes(r.from_peer.bytes)
            ),
        ]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn neighbours(table: &Vec<NeighbourRow>) -> String {
    let mut rows = Rows::new(&["ADDRESS", "MAC"]);
    for r in table {
        rows.push([r.ip.to_string(), r.mac.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn paths(table: &Vec<PathRow>) -> String {
    let mut rows = Rows::new(&[
        "PATH",
        "PEER",
        "CARRIES",
        "ENCAPSULATION",
        "FROM",
        "TO",
        "PORT",
        "MTU",
        "INNER MAC",
    ]);
    for r in table {
        rows.push([
            r.path.to_string(),
            r.peer.clone(),
            r.carries.clone(),
            r.encap.clone(),
            r.src.to_string(),
            r.dst.to_string(),
            r.port.to_string(),
            r.mtu.to_string(),
            r.dst_mac.clone(),
        ]);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_figures_and_a_unit() {
        for (n, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0 k"),
            (123_456, "123 k"),
            (999_499, "999 k"),
            (999_500, "1.00 M"),
            (12_345_678_901, "12.3 G"),
            (u64::MAX, "18447 P"),
        ] {
            assert_eq!(amount(n), text, "{n}");
        }
        assert_eq!(bytes(1500), "1500 B");
        assert_eq!(bytes(65_536), "65.5 kB");
    }

    #[test]
    fn durations() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3_660), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
