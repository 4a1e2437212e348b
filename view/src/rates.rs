//! What counters grew by between two looks.

use std::collections::HashMap;
use std::time::Duration;

use crate::{Drop, DropAt, Drops, KernelLoss};

/// Enters the rates of a look, `elapsed` after the one before. What was not there then was zero; what has become
/// less (the agent was started anew, a pod took another's place) began again.
pub fn enter(now: &mut Drops, before: &Drops, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let rate = |now: u64, before: Option<u64>| {
        let before = before.filter(|before| *before <= now).unwrap_or(0);
        Some((now - before) as f64 / seconds)
    };
    let total = |drop: &Drop| drop.frames + drop.lost_packets;
    let reasons: HashMap<&str, u64> = before
        .drops
        .iter()
        .map(|drop| (drop.reason.as_str(), total(drop)))
        .collect();
    let key = |reason: &str, at: &DropAt| [reason, &at.kind, &at.name].map(str::to_owned);
    let mut places = HashMap::new();
    for drop in &before.drops {
        places.extend(drop.at.iter().map(|at| (key(&drop.reason, at), at.packets)));
    }
    let kernel: HashMap<(&str, &str), u64> = before
        .kernel
        .iter()
        .map(
            |KernelLoss {
                 counter, at, count, ..
             }| ((counter.as_str(), at.as_str()), *count),
        )
        .collect();
    for drop in &mut now.drops {
        drop.rate = rate(total(drop), reasons.get(drop.reason.as_str()).copied());
        for at in &mut drop.at {
            at.rate = rate(at.packets, places.get(&key(&drop.reason, at)).copied());
        }
    }
    for loss in &mut now.kernel {
        let known = kernel.get(&(loss.counter.as_str(), loss.at.as_str()));
        loss.rate = rate(loss.count, known.copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(frames: u64, at: u64, kernel: u64) -> Drops {
        let at = DropAt {
            kind: "pod".into(),
            name: "web".into(),
            direction: "from".into(),
            packets: at,
            rate: None,
        };
        let drop = Drop {
            reason: "spoofed_mac".into(),
            frames,
            at: vec![at],
            ..Drop::default()
        };
        let loss = KernelLoss {
            counter: "tap_tx_dropped".into(),
            at: "pod web".into(),
            count: kernel,
            rate: None,
            cause: String::new(),
            remedy: String::new(),
        };
        Drops {
            drops: vec![drop],
            kernel: vec![loss],
            ..Drops::default()
        }
    }

    fn rates(before: &Drops, mut now: Drops) -> [f64; 3] {
        enter(&mut now, before, Duration::from_secs(2));
        let drop = &now.drops[0];
        [drop.rate, drop.at[0].rate, now.kernel[0].rate].map(Option::unwrap)
    }

    #[test]
    fn rates_are_what_was_added_since() {
        assert_eq!(rates(&look(4, 40, 1), look(10, 140, 2)), [3.0, 50.0, 0.5]);
        assert_eq!(rates(&look(4, 40, 1), look(4, 40, 1)), [0.0; 3]);
        // New, and begun again.
        assert_eq!(rates(&Drops::default(), look(2, 4, 6)), [1.0, 2.0, 3.0]);
        assert_eq!(rates(&look(100, 100, 100), look(2, 4, 6)), [1.0, 2.0, 3.0]);
    }
}
