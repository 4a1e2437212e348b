//! The result, for people and for programs.

use serde_json::json;

use super::frames::OUTER;
use super::loops::Who;
use super::measure::{Measured, Slice, TARGET};
use super::stage::Stage;
use super::{Args, Direction};
use crate::table::{Cell, Mark, Table, colour};
use crate::traffic::{median, spread};

fn middle(slices: &[Slice], of: fn(&Slice) -> f64) -> f64 {
    median(&slices.iter().map(of).collect::<Vec<_>>())
}

pub(super) fn print(args: &Args, stage: &Stage, all: &[Measured]) -> anyhow::Result<()> {
    if args.json {
        let figures: Vec<_> = all.iter().map(figure).collect();
        let report = json!({
            "driver": stage.driver, "device": stage.device.describe(), "flows": args.flows,
            "pairs": args.pairs, "seconds": args.seconds, "rate": args.rate, "target": TARGET,
            "figures": figures,
        });
        println!("{report:#}");
        return Ok(());
    }
    let mut table = Table::new(&[
        "",
        "",
        "Mpps",
        "ns/packet",
        "CPU ns/packet",
        "ringway to it",
        "spread",
        "by CPU time",
        "CPU ns added",
        "",
    ]);
    for measured in all {
        rows(&mut table, measured);
    }
    print!("{}", table.render(colour()));
    println!(
        "  {} ({}); inner frames, {OUTER} bytes more on the wire; medians of {} turns of {} × {} s; {} flows; target of ringway to bare rings: {TARGET}",
        stage.driver,
        stage.device.describe(),
        args.pairs,
        Who::all().len(),
        args.seconds,
        args.flows,
    );
    for measured in all.iter().filter(|m| m.direction == Direction::Receive) {
        let offered = measured
            .offered
            .map_or("?".into(), |pps| format!("{:.3}", pps / 1e6));
        println!(
            "  receive, {} B: {offered} Mpps generated, {} frames found no room; CPU ns is of the visits to the ring only",
            measured.size, measured.overrun
        );
    }
    if Who::all().contains(&Who::XskRs) {
        all.iter().for_each(versus_xsk_rs);
    }
    Ok(())
}

fn versus_xsk_rs(measured: &Measured) {
    let ratios = measured.ratios(Who::Xsk, Who::XskRs, |s| s.pps);
    let (low, high) = spread(&ratios);
    println!(
        "  {}, {} B: bare Xsk to xsk-rs {:.2} ({low:.2}–{high:.2}), by CPU time {:.2}",
        measured.direction,
        measured.size,
        median(&ratios),
        median(&measured.ratios(Who::Xsk, Who::XskRs, |s| 1.0 / s.cpu_ns)),
    );
}

fn rows(table: &mut Table, measured: &Measured) {
    for &who in Who::all() {
        let slices = &measured.slices[who as usize];
        let pps = middle(slices, |s| s.pps);
        let mut cells: Vec<Cell> = vec![
            match who {
                Who::Rings => format!("{}, {} B", measured.direction, measured.size).into(),
                _ => "".into(),
            },
            who.name().into(),
            format!("{:.3}", pps / 1e6).into(),
            format!("{:.0}", 1e9 / pps).into(),
            format!("{:.1}", middle(slices, |s| s.cpu_ns)).into(),
        ];
        if who != Who::Ringway {
            let ratios = measured.ratios(Who::Ringway, who, |s| s.pps);
            let (low, high) = spread(&ratios);
            // The other way round: less is better.
            let by_cpu = median(&measured.ratios(Who::Ringway, who, |s| 1.0 / s.cpu_ns));
            let added = middle(&measured.slices[Who::Ringway as usize], |s| s.cpu_ns)
                - middle(slices, |s| s.cpu_ns);
            cells.extend([
                format!("{:.2}", median(&ratios)).into(),
                Cell::new(format!("{low:.2}–{high:.2}"), Mark::Dim),
                format!("{by_cpu:.2}").into(),
                format!("{added:.0}").into(),
            ]);
        }
        if who == Who::Rings {
            cells.push(match measured.reached() {
                true => Cell::new("reached", Mark::Good),
                false => Cell::new("MISSED", Mark::Bad),
            });
        }
        table.row(cells);
    }
}

fn figure(measured: &Measured) -> serde_json::Value {
    let loops: serde_json::Map<_, _> = Who::all()
        .iter()
        .map(|&who| {
            let slices = &measured.slices[who as usize];
            let ratios = measured.ratios(Who::Ringway, who, |s| s.pps);
            let by_cpu = measured.ratios(Who::Ringway, who, |s| 1.0 / s.cpu_ns);
            let pps: Vec<f64> = slices.iter().map(|s| s.pps).collect();
            let cpu: Vec<f64> = slices.iter().map(|s| s.cpu_ns).collect();
            let mut value = json!({
                "mpps": median(&pps) / 1e6, "ns_per_packet": 1e9 / median(&pps),
                "cpu_ns_per_packet": median(&cpu), "pps": pps, "cpu_ns": cpu,
                "ringway_to_it": median(&ratios), "spread": [spread(&ratios).0, spread(&ratios).1],
                "ringway_to_it_by_cpu_time": median(&by_cpu),
            });
            if who == Who::XskRs {
                let by_cpu = measured.ratios(Who::Xsk, who, |s| 1.0 / s.cpu_ns);
                value["bare_xsk_to_it"] = median(&measured.ratios(Who::Xsk, who, |s| s.pps)).into();
                value["bare_xsk_to_it_by_cpu_time"] = median(&by_cpu).into();
            }
            (who.name().to_owned(), value)
        })
        .collect();
    json!({
        "direction": measured.direction, "size": measured.size, "on_the_wire": measured.size + OUTER,
        "loops": loops, "generated_pps": measured.offered, "overrun": measured.overrun,
        "reached": measured.reached(),
    })
}
