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

    /// Three more pods, placed as the usual ones.
    pub(super) fn others(&mut self) -> Result<[Pod; 3], CompareError> {
        Ok(self.topology.add_three_pods()?)
    }

    /// 64-byte datagrams received each second.
    pub(super) fn flood(&self, to: usize, time: Duration) -> traffic::Result<f64> {
        let (from, to) = (&self.pods[0], &self.pods[to]);
        udp_flood(&from.ns, &to.ns, to.ip(Family::V4), 64, time).map(|flood| flood.received_pps)
    }

    /// One after the other, as fast as they go.
    pub(super) fn round_trips(&self, to: usize, time: Duration) -> traffic::Result<Latency> {
        let (from, to) = (&self.pods[0], &self.pods[to]);
        tcp_round_trips(&from.ns, &to.ns, to.ip(Family::V4), time)
    }
}

/// Gbit/s and Gbit.
pub(super) fn throughput_between(
    side: &Side,
    to: usize,
    streams: usize,
    time: Duration,
) -> traffic::Result<(f64, f64)> {
    let (from, to) = (&side.pods[0], &side.pods[to]);
    let result = throughput(&from.ns, &to.ns, to.ip(Family::V4), streams, time)?;
    Ok((result.gbit, result.bytes as f64 * 8e-9))
}
