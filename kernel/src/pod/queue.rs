//! How a pod's TAP queues.
//!
//! A TAP has a queue of its own for each descriptor, as long as the interface's queue length says, and drops
//! what finds no room there. It never pushes back, so a queueing discipline above it is empty at all times,
//! and there is none: for the 256 queues of a multi-queue TAP the default ones take 6.4 MB and up to 40 ms.
//!
//! What the switch does not read waits there, counted in frames, not bytes: 1000 superframes of 64 KB are
//! half a minute at 20 Mbit/s, and whoever sends beside a bulk stream waits for all of it. So for a pod whose
//! bandwidth is limited superframes are made smaller and the queue shorter, to what the rate sends in a
//! tenth of a second. What does not fit is refused there, and TCP in the pod slows down at once.

use crate::gso;
use crate::netlink::{LinkChange, Netlink};
use crate::netns::{Netns, run_in};
use crate::pod::error::InterfaceError;

const MS: u64 = 1_000_000;
/// A superframe, in time at the rate.
const SUPERFRAME: u64 = 10 * MS;
/// All that waits, in time at the rate.
const QUEUE: u64 = 100 * MS;
/// Frames that may wait at least: a burst of small ones must not be refused.
const LEAST: u64 = 16;
/// Frames that may wait as a rule, for each queue of the TAP: what the kernel gives an Ethernet device
/// (`DEFAULT_TX_QUEUE_LEN`, include/net/pkt_sched.h).
const USUAL: u32 = 1000;

/// How large superframes are, and how many frames may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Superframes.
    pub gso: gso::GsoLimits,
    /// Frames of a queue.
    pub len: u32,
}

impl Queue {
    /// For a pod with this MTU that sends at most `egress` bytes per second.
    pub fn of(mtu: u16, egress: Option<u64>) -> Self {
        let Some(rate) = egress else {
            return Self {
                gso: gso::limits(mtu),
                len: USUAL,
            };
        };
        let packet = u64::from(mtu) + 14;
        let segments = bytes_in(SUPERFRAME, rate) / packet;
        let gso = gso::at_most(mtu, u32::try_from(segments).unwrap_or(u32::MAX));
        let frames = bytes_in(QUEUE, rate) / (u64::from(gso.segments) * packet);
        let len = frames.clamp(LEAST, u64::from(USUAL)) as u32;
        Self { gso, len }
    }

    /// Sets it on an interface that has the default queueing discipline, as one that an earlier version
    /// made; true if so.
    ///
    /// # Errors
    /// The interface is not there, or the kernel refuses.
    pub fn repair(&self, netns: &Netns, ifname: &str) -> Result<bool, InterfaceError> {
        let mut pod = run_in(netns, Netlink::open)??;
        let index = pod.link(ifname)?.index;
        if !pod.has_default_qdisc(index)? {
            return Ok(false);
        }
        // First, or every queue of the default one is made as long.
        pod.set_noqueue(index)?;
        pod.change_link(index, &self.change())?;
        Ok(true)
    }

    /// What it means for the interface.
    pub fn change(&self) -> LinkChange<'static> {
        LinkChange {
            gso_max_size: Some(self.gso.size),
            gso_max_segs: Some(self.gso.segments),
            tx_queue_len: Some(self.len),
            ..LinkChange::default()
        }
    }
}

/// Bytes that pass in `nanoseconds` at `rate` bytes per second.
fn bytes_in(nanoseconds: u64, rate: u64) -> u64 {
    const SECOND: u128 = 1_000_000_000;
    let bytes = u128::from(nanoseconds) * u128::from(rate) / SECOND;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of a superframe, frames of the queue, at a rate in bit/s; 0 is none.
    fn at(rate: u64) -> (u32, u32) {
        let queue = Queue::of(1450, (rate > 0).then_some(rate / 8));
        (queue.gso.segments, queue.len)
    }

    #[test]
    fn little_waits_at_any_rate() {
        assert_eq!(at(0), (44, 1000));
        assert_eq!(at(1000), (1, 16));
        assert_eq!(at(20_000_000), (17, 16));
        assert_eq!(at(1_000_000_000), (44, 194));
        assert_eq!(at(100_000_000_000), (44, 1000));
    }
}
