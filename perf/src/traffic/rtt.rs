//! Request and response over one TCP connection, one byte each.

use super::tcp::{accept, connect, listen};
use super::{Latency, Result, TrafficError};
use crate::lab::Netns;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Round trips for `time`, after a tenth of it to warm up.
pub fn tcp_round_trips(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    time: Duration,
) -> Result<Latency> {
    let limit = Duration::from_secs(5);
    let listener = to.run(|| listen(address))??;
    let target = listener
        .local_addr()
        .map_err(TrafficError::io("local address"))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let Ok(mut stream) = accept(&listener, limit) else {
                return;
            };
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
        let mut stream = from.run(|| connect(target, limit))??;
        let (begin, mut times, mut byte) = (Instant::now(), Vec::new(), [7]);
        while begin.elapsed() < time {
            let start = Instant::now();
            stream
                .write_all(&byte)
                .and_then(|()| stream.read_exact(&mut byte))
                .map_err(TrafficError::io(format!("round trip to {target}")))?;
            times.push(start.elapsed());
        }
        Ok(Latency::of(&times[times.len() / 10..]))
    })
}
