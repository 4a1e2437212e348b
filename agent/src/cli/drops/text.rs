//! `ringway drops` for people.

use std::cmp::Reverse;
use std::collections::HashMap;

use ringway_control::view::{Drop, DropAt, Drops, Explained, KernelLoss};

use super::super::width::width;
use ringway_control::view::columns::{Fields, Rows};
use ringway_control::view::units::{amount, duration, per_second};

/// Columns of the labels in front of lines.
const LABEL: usize = 10;
/// Places of a reason that are named.
const PLACES: usize = 5;
/// Lines of a look that goes to no terminal.
pub(super) const ROWS: usize = 60;

/// Whether nothing was lost.
pub(super) fn is_empty(drops: &Drops) -> bool {
    drops.drops.is_empty() && drops.kernel.iter().all(|loss| loss.count == 0)
}

fn nothing(out: &mut Fields, drops: &Drops) {
    if drops.drops.is_empty() {
        out.line("no packet was dropped since the agent started");
    }
}

/// `, 12/s`, where it is known.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(String::new, |rate| format!(", {}", per_second(rate)))
}

fn ago(ms: u64) -> String {
    match ms {
        0..1000 => "now".into(),
        _ => format!("{} ago", duration(ms / 1000)),
    }
}

/// Each reason with cause, remedy, and where it applied.
pub(super) fn by_reason(drops: &Drops) -> String {
    let mut out = Fields::new(width(), LABEL);
    nothing(&mut out, drops);
    for drop in &drops.drops {
        let mut counts = Vec::new();
        if drop.frames > 0 {
            counts.push(format!("{} frames", amount(drop.frames)));
        }
        if drop.lost_packets > 0 {
            counts.push(format!("{} packets at transmit", amount(drop.lost_packets)));
        }
        let mut line = format!("{}: {}{}", drop.reason, counts.join(", "), rate(drop.rate));
        if let Some(ms) = drop.last_ago_ms {
            line.push_str(&format!(", last {}", ago(ms)));
        }
        out.heading(&line);
        for at in drop.at.iter().take(PLACES) {
            let DropAt { kind, name, .. } = at;
            let packets = amount(at.packets);
            let label = format!("  {}", at.direction);
            out.push(
                &label,
                &format!("{kind} {name}: {packets} packets{}", rate(at.rate)),
            );
        }
        more(&mut out, drop.at.len());
        out.push("  cause", &drop.cause);
        out.push("  to do", &drop.remedy);
    }
    kernel(&mut out, &drops.kernel);
    if !drops.ignored.is_empty() {
        let all = drops
            .ignored
            .iter()
            .map(|d| format!("{} {}", d.reason, amount(d.count)));
        let all: Vec<String> = all.collect();
        out.push("ignored", &format!("(no fault): {}", all.join(", ")));
    }
    unread(&mut out, drops);
    out.finish()
}

fn more(out: &mut Fields, places: usize) {
    if places > PLACES {
        let rest = places - PLACES;
        out.push("", &format!("and {rest} more: --by pod, --by peer"));
    }
}

/// What the kernel lost, each counter once.
fn kernel(out: &mut Fields, losses: &[KernelLoss]) {
    let mut said: Vec<&str> = Vec::new();
    for loss in losses {
        if said.contains(&loss.counter.as_str()) {
            continue;
        }
        said.push(&loss.counter);
        let same = losses.iter().filter(|other| other.counter == loss.counter);
        let same: Vec<&KernelLoss> = same.collect();
        let count = same.iter().map(|loss| loss.count).sum();
        let rates = same.iter().map(|loss| loss.rate).sum();
        out.heading(&format!(
            "{}: {} packets by the kernel{}",
            loss.counter,
            amount(count),
            rate(rates)
        ));
        for KernelLoss {
            at, count, rate: r, ..
        } in same.iter().take(PLACES)
        {
            out.push("  at", &format!("{at}: {}{}", amount(*count), rate(*r)));
        }
        if same.len() > PLACES {
            out.push(
                "",
                &format!("and {} more: --by pod, --json", same.len() - PLACES),
            );
        }
        out.push("  cause", &loss.cause);
        out.push("  to do", &loss.remedy);
    }
}

fn unread(out: &mut Fields, drops: &Drops) {
    for what in drops.unread.iter().take(PLACES) {
        out.push("unread", what);
    }
    if drops.unread.len() > PLACES {
        let rest = drops.unread.len() - PLACES;
        out.push("", &format!("and {rest} more: --json"));
    }
}

/// One row of a table.
struct Row<'a> {
    kind: &'a str,
    name: &'a str,
    direction: &'a str,
    reason: &'a str,
    packets: u64,
    rate: Option<f64>,
}

/// Each place of these kinds with its reasons; the place that lost most is first.
pub(super) fn by_place(drops: &Drops, kinds: &[&str]) -> String {
    let is_wanted = |kind: &str| kinds.contains(&kind);
    let mut all: Vec<Row> = Vec::new();
    for drop in &drops.drops {
        let at = drop.at.iter().filter(|at| is_wanted(&at.kind));
        all.extend(at.map(|at| Row {
            kind: &at.kind,
            name: &at.name,
            direction: &at.direction,
            reason: &drop.reason,
            packets: at.packets,
            rate: at.rate,
        }));
    }
    for loss in &drops.kernel {
        let Some((kind, name)) = loss.at.split_once(' ') else {
            continue;
        };
        if !is_wanted(kind) {
            continue;
        }
        all.push(Row {
            kind,
            name,
            direction: match loss.counter.contains("_tx_") {
                true => "from",
                false => "to",
            },
            reason: &loss.counter,
            packets: loss.count,
            rate: loss.rate,
        });
    }
    let mut totals: HashMap<&str, u64> = HashMap::new();
    for row in &all {
        *totals.entry(row.name).or_default() += row.packets;
    }
    let mut order = Vec::with_capacity(all.len());
    for (i, row) in all.iter().enumerate() {
        let total = totals.get(row.name).copied().unwrap_or(0);
        order.push((Reverse(total), row.name, Reverse(row.packets), i));
    }
    order.sort_unstable();
    let mut out = Fields::new(width(), LABEL);
    nothing(&mut out, drops);
    let mut text = String::new();
    if !order.is_empty() {
        let head = if is_wanted("peer") { "PEER" } else { "POD" };
        let mut rows = Rows::new(width(), &[head, "WAY", "REASON", "PACKETS", "RATE"]);
        for (.., i) in order {
            let row = &all[i];
            rows.push([
                match row.kind {
                    "node" => format!("node {}", row.name),
                    _ => row.name.into(),
                },
                row.direction.into(),
                row.reason.into(),
                amount(row.packets),
                row.rate.map_or_else(String::new, per_second),
            ]);
        }
        text = rows.to_string();
    } else if !drops.drops.is_empty() {
        let what = kinds.join(" or ");
        out.heading(&format!("no {what} is known to be concerned"));
    }
    let nowhere = drops.drops.iter().filter(|drop| drop.at.is_empty());
    let nowhere: Vec<String> = nowhere
        .map(|d| format!("{} {}", d.reason, amount(d.frames + d.lost_packets)))
        .collect();
    if !nowhere.is_empty() {
        out.heading(&format!("at no pod and no peer: {}", nowhere.join(", ")));
    }
    unread(&mut out, drops);
    text + &out.finish()
}

/// Each reason and each counter of the kernel in a row, what is lost now first.
pub(super) fn rows_by_reason(drops: &Drops) -> String {
    let mostly = |drop: &Drop| {
        let first = drop.at.first();
        first.map_or_else(String::new, |at| {
            format!("{} {} {}", at.direction, at.kind, at.name)
        })
    };
    let reasons = drops.drops.iter().map(|drop| {
        let count = drop.frames + drop.lost_packets;
        (drop.rate, count, drop.reason.as_str(), mostly(drop))
    });
    let kernel = drops.kernel.iter();
    let kernel = kernel.map(|loss| {
        (
            loss.rate,
            loss.count,
            loss.counter.as_str(),
            loss.at.clone(),
        )
    });
    let mut all: Vec<_> = reasons.chain(kernel).collect();
    all.sort_by(|a, b| {
        let rates = b.0.unwrap_or(0.0).total_cmp(&a.0.unwrap_or(0.0));
        rates.then(b.1.cmp(&a.1))
    });
    if all.is_empty() {
        let mut out = Fields::new(width(), LABEL);
        nothing(&mut out, drops);
        return out.finish();
    }
    let mut rows = Rows::new(width(), &["REASON", "COUNT", "RATE", "MOSTLY"]);
    for (rate, count, reason, at) in all {
        rows.push([
            reason.into(),
            amount(count),
            rate.map_or_else(String::new, per_second),
            at,
        ]);
    }
    rows.to_string()
}

/// Lines that fit a terminal below the time.
pub(super) fn screen_rows() -> usize {
    let terminal = terminal_size::terminal_size_of(std::io::stdout());
    let height = terminal.map_or(ROWS, |(_, height)| usize::from(height.0));
    height.saturating_sub(3).max(1)
}

/// The first lines, and how many there were more.
pub(super) fn at_most(text: &str, most: usize) -> String {
    let count = text.lines().count();
    if count <= most {
        return text.into();
    }
    let shown = most.saturating_sub(1);
    let lines: Vec<&str> = text.lines().take(shown).collect();
    format!("{}\nand {} lines more\n", lines.join("\n"), count - shown)
}

/// What is known of a reason.
pub(super) fn explained(known: &Explained) -> String {
    let mut out = Fields::new(width(), LABEL);
    for (label, text) in [
        ("reason", &known.reason),
        ("cause", &known.cause),
        ("to do", &known.remedy),
        ("where", &known.stage),
        ("counted", &known.counted),
        ("example", &known.example),
    ] {
        out.push(label, text);
    }
    out.finish()
}
