//! The frames that are measured with, and the tables that forward them.
//!
//! Inner frames are UDP with a right checksum, from one address to 250 in one /24, each flow with a source
//! port of its own; neighbours in the order of sending are of different flows.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::kit;
use ringway_packet::mac::MacAddr;

use super::Direction;
use crate::lab::Family;
use crate::pipeline::Scenario;
use crate::pipeline::plan::{Plan, Tables};

/// The device's underlay address.
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 177, 1);
/// That of the other end.
pub(super) const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 168, 177, 2);
/// VXLAN at either.
pub(super) const PORT: u16 = 8472;

/// Bytes of the outer headers.
pub(super) const OUTER: usize = 50;

const VTEP: MacAddr = MacAddr([0x0a, 0x58, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([0x0a, 0x58, 0, 0, 0, 2]);
const GATEWAY: MacAddr = MacAddr([2, 0x52, 0x57, 0, 0, 1]);
/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 42;
const HEADROOM: usize = 128;

/// Inner frames of `size` bytes, to `dst`.
fn inner(flows: u16, size: usize, src: MacAddr, dst: MacAddr) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|i| {
            let from = (IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), 1024 + i);
            let last = 1 + (i % 250) as u8;
            let to = (IpAddr::V4(Ipv4Addr::new(10, 2, 0, last)), 9);
            kit::udp(from, to)
                .macs(src, dst)
                .payload_len(size.saturating_sub(HEADERS))
                .frame()
        })
        .collect()
}

/// What goes over the wire towards `dst`, whose MAC is `mac`.
pub(super) fn on_the_wire(
    flows: u16,
    size: usize,
    (src, dst): (Ipv4Addr, Ipv4Addr),
    mac: MacAddr,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x99, 2]),
        dst_mac: mac,
        src: src.into(),
        dst: dst.into(),
        encap: Encap::Vxlan { vni: 1 },
        transport: TransportSpec::Udp {
            dst_port: PORT,
            checksum: UdpChecksum::Zero,
        },
        ttl: 64,
        dont_fragment: true,
    };
    let header = OuterHeader::new(&spec)?;
    inner(flows, size, FAR, VTEP)
        .into_iter()
        .enumerate()
        .map(|(i, frame)| {
            let mut bytes = vec![0; HEADROOM];
            bytes.extend_from_slice(&frame);
            let fields = Fields {
                src_port: 49_152 | i as u16,
                tos: 0,
                id: 0,
            };
            let at = header
                .push(&mut bytes, HEADROOM, frame.len(), fields, None)
                .context("outer headers")?;
            Ok(bytes.split_off(at))
        })
        .collect()
}

/// The tables for a direction, and the frames: with outer headers to receive, without to transmit.
pub(super) fn plan(direction: Direction, flows: u16, size: usize) -> anyhow::Result<Plan> {
    let (scenario, frames) = match direction {
        Direction::Receive => (
            Scenario::Decap,
            on_the_wire(flows, size, (THEIRS, OURS), MacAddr([2, 0, 0, 0, 0x99, 1]))?,
        ),
        Direction::Transmit => (Scenario::Encap, inner(flows, size, FAR, GATEWAY)),
    };
    let tables = Tables {
        scenario,
        routes: 0,
        peers: 0,
        pods: 0,
        underlay: Family::V4,
    };
    Plan::of(&tables, frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_asked_for() {
        for size in [64, 1400] {
            for direction in [Direction::Receive, Direction::Transmit] {
                let outer = if direction == Direction::Receive {
                    OUTER
                } else {
                    0
                };
                let plan = plan(direction, 300, size).unwrap();
                assert_eq!(plan.frames.len(), 300);
                assert!(plan.frames.iter().all(|f| f.bytes.len() == size + outer));
            }
        }
    }
}
