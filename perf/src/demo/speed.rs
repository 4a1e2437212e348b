//! TCP throughput beside the kernel, in turns.

use super::DemoError;
use crate::lab::{Family, Mode, Pod, Topology};
use crate::table::{Cell, Mark, Progress, Table};
use crate::traffic::{median, throughput};
use std::time::Duration;

/// Measurements of each.
pub(super) const TURNS: usize = 2;

pub(super) struct Row {
    path: &'static str,
    other: &'static str,
    ringway: f64,
    kernel: f64,
}

pub(super) fn measure(
    pods: &[Pod; 3],
    time: Duration,
    progress: &mut Progress,
) -> Result<Vec<Row>, DemoError> {
    progress.step("two kernel nodes for comparison: bridge and VXLAN");
    let mut kernel = Topology::kernel(Mode::Cloud)?;
    let kernel_pods = kernel.add_three_pods()?;
    let mut rows = Vec::new();
    for (path, other, to) in [
        ("same node", "kernel bridge", 1),
        ("across nodes", "kernel VXLAN", 2),
    ] {
        let mut gbits = [Vec::new(), Vec::new()];
        for turn in 1..=TURNS {
            for (gbits, (name, pods)) in gbits
                .iter_mut()
                .zip([("ringway", pods), (other, &kernel_pods)])
            {
                progress.step(&format!("TCP {path}, {name}, {turn} of {TURNS}"));
                let result =
                    throughput(&pods[0].ns, &pods[to].ns, pods[to].ip(Family::V4), 1, time)?;
                gbits.push(result.gbit);
            }
        }
        rows.push(Row {
            path,
            other,
            ringway: median(&gbits[0]),
            kernel: median(&gbits[1]),
        });
    }
    Ok(rows)
}

pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["TCP, one stream", "ringway", "beside it", "", "ratio"]);
    for row in rows {
        table.row(vec![
            row.path.into(),
            Cell::new(format!("{:.2} Gbit/s", row.ringway), Mark::Good),
            row.other.into(),
            format!("{:.2} Gbit/s", row.kernel).into(),
            format!("{:.2}", row.ringway / row.kernel).into(),
        ]);
    }
    table
}
