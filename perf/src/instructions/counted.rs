//! What is counted, run under valgrind: each scenario's packets within one call of [`counted`].

use std::hint::black_box;

use anyhow::Context;
use ringway_packet::gro::Coalescer;
use ringway_packet::gso::Segmenter;
use ringway_packet::parse::parse;
use ringway_packet::{checksum, kit};
use serde::{Deserialize, Serialize};

use crate::lab::Family;
use crate::pipeline::{Fill, Scenario, Traffic, Work};

/// Frames per batch.
const BATCH: usize = 64;
/// Packets of a scenario: whole visits, of 64 to a port and 256 to a ring, and each of 1,000 flows equally often.
const PACKETS: usize = 32_000;
/// The superframe: segments, and payload bytes of each.
const SEGMENTS: usize = 44;
const SEGMENT: u16 = 1398;
/// Superframes that are counted.
const SUPERFRAMES: usize = 20;

/// What the counted process says on standard output; counts come from valgrind in the same order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Features of the CPU that code is chosen by at run time.
    pub(super) cpu: String,
    /// Name and packets of each.
    pub(super) scenarios: Vec<(String, usize)>,
}

/// The one function that valgrind counts in, by its name.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let done = work();
    black_box(&done);
    done
}

/// Runs every scenario and says which.
///
/// # Errors
/// A scenario cannot be set up, or its packets are not forwarded.
pub fn main() -> anyhow::Result<()> {
    let mut scenarios = Vec::new();
    for scenario in Scenario::ALL {
        for family in Family::BOTH {
            for flows in [1, 1000] {
                let name =
                    format!("{scenario} {family}, {flows} flows").replace(" 1 flows", " 1 flow");
                pipeline(scenario, family, flows).with_context(|| name.clone())?;
                scenarios.push((name, PACKETS));
            }
        }
    }
    for family in Family::BOTH {
        segmentation(family)?;
        scenarios.push((format!("segmentation {family} TCP"), SUPERFRAMES * SEGMENTS));
    }
    for family in Family::BOTH {
        coalescing(family)?;
        scenarios.push((format!("coalescing {family} TCP"), SUPERFRAMES * SEGMENTS));
    }
    let cpu = cpu();
    println!("{}", serde_json::to_string(&Counted { cpu, scenarios })?);
    Ok(())
}

fn pipeline(scenario: Scenario, family: Family, flows: u32) -> anyhow::Result<()> {
    let work = Work::of(&Traffic::small(scenario, family, flows), Fill::TINY)?;
    let mut lane = work.lane(BATCH)?;
    // What is done once is not counted: pages touched, symbols resolved.
    lane.batch()?;
    let once = lane.forwarded();
    let batches = PACKETS as u64 / once.max(1);
    counted(&mut || (0..batches).try_for_each(|_| lane.batch()))?;
    let all = PACKETS as u64 + once;
    anyhow::ensure!(
        lane.forwarded() == all,
        "{} of {all} packets forwarded, dropped: {:?}",
        lane.forwarded(),
        lane.drops()
    );
    Ok(())
}

fn superframe(family: Family) -> (Vec<u8>, ringway_packet::offload::Offload) {
    let (src, dst) = match family {
        Family::V4 => ("10.77.1.2:1", "10.77.2.2:2"),
        Family::V6 => ("[fd77:1::2]:1", "[fd77:2::2]:2"),
    };
    let payload: Vec<u8> = (0..SEGMENTS * usize::from(SEGMENT))
        .map(|i| (i * 7) as u8)
        .collect();
    kit::tcp(src, dst)
        .payload(&payload)
        .offloaded(Some(SEGMENT))
}

/// Headers of all segments, checksums over their payload included.
fn segmentation(family: Family) -> anyhow::Result<()> {
    let (frame, offload) = superframe(family);
    let once = || -> anyhow::Result<()> {
        let parsed = parse(&frame, frame.len())?;
        let segmenter = Segmenter::new(black_box(&frame), &parsed, &offload, frame.len())?;
        let mut header = [0; 128];
        for i in 0..segmenter.count() {
            let payload = &frame[segmenter.header_len()..][segmenter.payload(i)];
            segmenter.write_header(i, checksum::sum(payload), &mut header);
            black_box(&mut header);
        }
        Ok(())
    };
    once()?;
    counted(&mut || (0..SUPERFRAMES).try_for_each(|_| once()))
}

/// Segments with unverified checksums into one superframe.
fn coalescing(family: Family) -> anyhow::Result<()> {
    let (frame, offload) = superframe(family);
    let parsed = parse(&frame, frame.len())?;
    let segmenter = Segmenter::new(&frame, &parsed, &offload, frame.len())?;
    let mut segments = Vec::new();
    for i in 0..segmenter.count() {
        let payload = &frame[segmenter.header_len()..][segmenter.payload(i)];
        let mut segment = vec![0; segmenter.header_len()];
        segmenter.write_header(i, checksum::sum(payload), &mut segment);
        segment.extend_from_slice(payload);
        let parsed = parse(&segment, segment.len())?;
        segments.push((segment, parsed));
    }
    let mut coalescer = Coalescer::new();
    let head = segments[0].0[..128].to_vec();
    let mut scratch = head.clone();
    let mut once = || -> anyhow::Result<()> {
        scratch.copy_from_slice(&head);
        coalescer.begin();
        for (id, (segment, parsed)) in segments.iter().enumerate() {
            let payload = &segment[usize::from(parsed.payload_off)..];
            coalescer.offer(id as u32, segment, parsed, segment.len(), payload, false);
        }
        let merged = coalescer.group(0).map_or(0, |group| group.count);
        anyhow::ensure!(
            usize::from(merged) == segments.len(),
            "{merged} of {} segments merged",
            segments.len()
        );
        black_box(coalescer.finish(0, &mut scratch));
        Ok(())
    };
    once()?;
    counted(&mut || (0..SUPERFRAMES).try_for_each(|_| once()))
}

/// Those by which the C library's `memcpy` is chosen; valgrind has no AVX-512 to show.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    [&[std::env::consts::ARCH], &features[..]]
        .concat()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_runs() {
        for scenario in Scenario::ALL {
            for family in Family::BOTH {
                pipeline(scenario, family, 1000).unwrap();
            }
        }
        for family in Family::BOTH {
            segmentation(family).unwrap();
            coalescing(family).unwrap();
        }
        assert_eq!(PACKETS % BATCH, 0);
        assert_eq!(PACKETS % 1000, 0);
    }
}
