//! Request and response over one TCP connection, one byte each.

use super::{Latency, Placed, Probe, Question, Result};
use crate::lab::Netns;
use std::net::IpAddr;
use std::time::Duration;

/// Round trips for `time`, after a tenth of it to warm up.
pub fn tcp_round_trips(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    time: Duration,
) -> Result<Latency> {
    let probe = Probe {
        from,
        to,
        address,
        placed: Placed::default(),
        time,
        pause: Duration::ZERO,
    };
    let times = probe.run(Question::Tcp(1))?;
    Ok(Latency::of(&times[times.len() / 10..]))
}
