//! Answers for people: aligned columns, units, nothing that is zero by nature.

use super::width::width;
use ringway_cluster::source::State;
use ringway_control::view::columns::{Fields, Rows};
use ringway_control::view::units::{amount, bytes, duration, join};
use ringway_control::view::{
    Buffers, Condition, ConfigStatus, Detached, GivenBack, LeftPod, MacRow, MadeAnew, NeighbourRow,
    NotServed, PathRow, PeerHealth, PeerRow, PeerState, Pod, Reloaded, RingStatus, RouteRow,
    SourceStatus, Status, UnderlayStatus,
};

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

/// What came of giving the node back.
pub(super) fn given_back(g: &GivenBack) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        g.done
            .iter()
            .map(|what| format!("removed or put back: {what}\n")),
    );
    lines.extend(g.left.iter().map(|what| format!("STILL THERE: {what}\n")));
    for MadeAnew { pod, command } in &g.pods {
        lines.push(format!("{pod} has no network any more: {command}\n"));
    }
    lines.push(format!("now: {}\n", g.next));
    lines.concat()
}

/// That the node is served again.
pub(super) fn taken_again(answer: &serde_json::Value) -> String {
    format!(
        "{}\n",
        answer["next"].as_str().unwrap_or("the agent starts again")
    )
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
    let mut out = Fields::new(width(), LABEL);
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
    if s.pods_without_lanes > 0 {
        let which = match s.pods_without_lanes == s.pods {
            true => "have".into(),
            false => format!("{} of them have", s.pods_without_lanes),
        };
        out.push(
            "lanes",
            &format!(
                "{which} one queue for all their flows, so small requests wait behind bulk of the same pod; \
                 made anew, a pod has two"
            ),
        );
    }
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
    let states = s.peer_states.iter();
    let states = states.map(|(state, n)| format!(", {n} {}", state_name(*state)));
    out.push(
        "peers",
        &format!("{}{}", s.peers, states.collect::<String>()),
    );
    out.push("firewall", &s.rules);
    for LeftPod {
        ips,
        container_id,
        pod,
        remedy,
    } in &s.left_pods
    {
        let short: String = container_id.chars().take(12).collect();
        let name = pod.clone().unwrap_or_else(|| format!("container {short}"));
        let ips = join(ips);
        out.push(
            "on bridge",
            &format!("{name} ({ips}) keeps its network until it is made anew: {remedy}"),
        );
    }
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
            &format!("{what} should be {wanted}, and for {since} has not been: {found}; {why}"),
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
    let mut rows = Rows::new(width(), &["", "FRAMES", "PACKETS"]);
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
    let mut rows = Rows::new(
        width(),
        &[
            "POD",
            "PORT",
            "ADDRESSES",
            "MAC",
            "MTU",
            "SENT",
            "RECEIVED",
            "DROPPED",
            "NETNS",
        ],
    );
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
    let mut out = Fields::new(width(), 0);
    out.push("", text);
    out.finish()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn macs(table: &Vec<MacRow>) -> String {
    let mut rows = Rows::new(width(), &["MAC", "PORT", "NAME"]);
    for r in table {
        rows.push([r.mac.clone(), r.port.to_string(), r.name.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn routes(table: &Vec<RouteRow>) -> String {
    let mut rows = Rows::new(width(), &["DESTINATION", "TARGET", "NAME"]);
    for r in table {
        rows.push([r.prefix.clone(), r.target.clone(), r.name.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn peers(table: &Vec<PeerRow>) -> String {
    let mut rows = Rows::new(
        width(),
        &[
            "PEER",
            "NAME",
            "ADDRESSES",
            "POD NETWORKS",
            "SENT",
            "RECEIVED",
            "PROBES",
        ],
    );
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
            r.health.as_ref().map_or_else(|| "-".into(), probed),
        ]);
    }
    rows.to_string()
}

/// What probes of a path say.
fn probed(health: &PeerHealth) -> String {
    let mut text = state_name(health.state).to_owned();
    if let Some(us) = health.round_trip_us {
        text.push_str(&format!(", {:.2} ms", us as f64 / 1e3));
    }
    if health.lost > 0 {
        text.push_str(&format!(", {} of {} lost", health.lost, health.probes));
    }
    if let Some(mtu) = health.verified_mtu {
        text.push_str(&format!(", {mtu} bytes pass"));
    }
    text
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Unknown => "not known yet",
        PeerState::Mute => "answers no probes (Flannel, or an older agent)",
        PeerState::Reached => "reached",
        PeerState::BlackHole => "MTU BLACK HOLE",
        PeerState::NotHeard => "NOT HEARD THERE",
        PeerState::Silent => "SILENT",
    }
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn neighbours(table: &Vec<NeighbourRow>) -> String {
    let mut rows = Rows::new(width(), &["ADDRESS", "MAC"]);
    for r in table {
        rows.push([r.ip.to_string(), r.mac.clone()]);
    }
    rows.to_string()
}

#[allow(clippy::ptr_arg, reason = "the shape the API answers with")]
pub(super) fn paths(table: &Vec<PathRow>) -> String {
    let mut rows = Rows::new(
        width(),
        &[
            "PATH",
            "PEER",
            "CARRIES",
            "ENCAPSULATION",
            "FROM",
            "TO",
            "PORT",
            "MTU",
            "INNER MAC",
        ],
    );
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
