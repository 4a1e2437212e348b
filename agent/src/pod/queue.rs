//! How much may wait inside a pod whose bandwidth is limited.
//!
//! What the switch does not read waits in the TAP's queue, which counts frames, not bytes: 1000
//! superframes of 64 KB are half a minute at 20 Mbit/s, and whoever sends beside a bulk stream waits for
//! all of it. So the superframes are made smaller and the queue shorter, to what the rate sends in a
//! tenth of a second. What does not fit is refused there, and TCP in the pod slows down at once.

use crate::gso;
use crate::limits::Limit;
use crate::netlink::{LinkChange, Netlink};
use crate::netns::{Netns, run_in};
use crate::pod::interface::{InterfaceError, MULTI_QUEUE_TX_LEN};

const MS: u64 = 1_000_000;
/// A superframe, in time at the rate.
const SUPERFRAME: u64 = 10 * MS;
/// All that waits, in time at the rate.
const QUEUE: u64 = 100 * MS;
/// Frames that may wait at least: a burst of small ones must not be refused.
const LEAST: u64 = 16;
/// Frames a TAP holds if nobody chooses (`ether_setup`, net/ethernet/eth.c).
const USUAL: u32 = 1000;

/// What to set for a pod that sends at most by `egress`; without it, what a pod has as a rule.
fn settings(mtu: u16, multi_queue: bool, egress: Option<&Limit>) -> (gso::Limits, u32) {
    let usual = if multi_queue {
        MULTI_QUEUE_TX_LEN
    } else {
        USUAL
    };
    let Some(limit) = egress else {
        return (gso::limits(mtu), usual);
    };
    let packet = u64::from(mtu) + 14;
    let segments = limit.bucket.bytes_in(SUPERFRAME) / packet;
    let gso = gso::at_most(mtu, u32::try_from(segments).unwrap_or(u32::MAX));
    let frames = limit.bucket.bytes_in(QUEUE) / (u64::from(gso.segments) * packet);
    let len = frames.clamp(LEAST, u64::from(usual)) as u32;
    (gso, len)
}

/// Makes a pod's queue fit its limit, or as usual without one. `multi_queue` must be what the interface
/// was made with.
///
/// # Errors
/// The interface is not there, or the kernel refuses.
pub fn fit(
    netns: &Netns,
    ifname: &str,
    mtu: u16,
    multi_queue: bool,
    egress: Option<&Limit>,
) -> Result<(), InterfaceError> {
    let mut pod = run_in(netns, Netlink::open)??;
    let index = pod.link(ifname)?.index;
    let (gso, len) = settings(mtu, multi_queue, egress);
    pod.change_link(
        index,
        &LinkChange {
            gso_max_size: Some(gso.size),
            gso_max_segs: Some(gso.segments),
            tx_queue_len: Some(len),
            ..LinkChange::default()
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use ringway_cni::api::Bandwidth;

    /// Segments of a superframe, frames of the queue.
    fn at(rate: u64, multi_queue: bool) -> (u32, u32) {
        let asked = Bandwidth {
            egress_rate: rate,
            ..Bandwidth::default()
        };
        let limits = Limits::new(&asked).unwrap();
        let (gso, len) = settings(1450, multi_queue, limits.egress.as_ref());
        (gso.segments, len)
    }

    #[test]
    fn little_waits_at_any_rate() {
        assert_eq!(at(0, false), (44, 1000));
        assert_eq!(at(0, true), (44, 128));
        assert_eq!(at(1000, false), (1, 16));
        assert_eq!(at(20_000_000, false), (17, 16));
        assert_eq!(at(1_000_000_000, false), (44, 194));
        assert_eq!(at(1_000_000_000, true), (44, 128));
    }
}
