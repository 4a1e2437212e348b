//! Nodes and pods to measure between.

use std::time::Duration;

use super::CompareError;
use crate::lab::{Family, Mode, Pod, RingwayOptions, Topology};
use crate::traffic::{self, Latency, tcp_round_trips, throughput, udp_flood};

/// A pod on the same node as the first.
pub(super) const SAME_NODE: usize = 1;
/// A pod on the other node.
pub(super) const ACROSS: usize = 2;

/// A topology with the usual three pods.
pub(super) struct Side {
    pub(super) topology: Topology,
    pub(super) pods: [Pod; 3],
}

impl Side {
    pub(super) fn ringway(mode: Mode) -> Result<Side, CompareError> {
        Side::with(Topology::ringway(mode, &RingwayOptions::default())?)
    }

    pub(super) fn kernel(mode: Mode) -> Result<Side, CompareError> {
        Side::with(Topology::kernel(mode)?)
    }

    pub(super) fn with(mut topology: Topology) -> Result<Side, CompareError> {
        let pods = topology.add_three_pods()?;
        Ok(Side { topology, pods })
    }

    /// More pods on node 1, up to `count`.
    pub(super) fn fill(&mut self, count: u8) -> Result<(), CompareError> {
        for _ in 2..count {
            self.topology.n1.add_pod()?;
        }
        Ok(())
    }

    /// Gbit/s.
    pub(super) fn tcp(&self, to: usize, streams: usize, time: Duration) -> traffic::Result<f64> {
        let (from, to) = (&self.pods[0], &self.pods[to]);
        throughput(&from.ns, &to.ns, to.ip(Family::V4), streams, time).map(|result| result.gbit)
    }

    /// 64-byte datagrams received each second, across nodes.
    pub(super) fn flood(&self, time: Duration) -> traffic::Result<f64> {
        let (from, to) = (&self.pods[0], &self.pods[ACROSS]);
        udp_flood(&from.ns, &to.ns, to.ip(Family::V4), 64, time).map(|flood| flood.received_pps)
    }

    /// Across nodes.
    pub(super) fn round_trips(&self, time: Duration) -> traffic::Result<Latency> {
        let (from, to) = (&self.pods[0], &self.pods[ACROSS]);
        tcp_round_trips(&from.ns, &to.ns, to.ip(Family::V4), time)
    }
}

/// Gbit/s and Gbit.
pub(super) fn throughput_of(
    side: &Side,
    streams: usize,
    time: Duration,
) -> traffic::Result<(f64, f64)> {
    let (from, to) = (&side.pods[0], &side.pods[ACROSS]);
    let result = throughput(&from.ns, &to.ns, to.ip(Family::V4), streams, time)?;
    Ok((result.gbit, result.bytes as f64 * 8e-9))
}
