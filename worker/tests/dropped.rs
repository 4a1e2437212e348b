//! The last frames that a worker dropped, while it drops a flood. No root.

mod node;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ringway_packet::offload::VNET_HDR_LEN;
use ringway_switch::{Contents, DropReason};
use ringway_tables::PortId;
use ringway_worker::Entry;
use ringway_worker::dropped::{HEAD, KEPT};

use node::*;

const FLOOD: u64 = 20_000;

#[test]
fn a_flood_of_drops_leaves_the_last_ones_and_holds_up_nobody() {
    let (node, a, b) = Node::with_two_pods();
    let kept = node.workers[0].dropped().clone();
    assert!(DropReason::ALL.iter().all(|r| kept.of(*r).is_empty()));
    let spoofed = DropReason::SpoofedMac;
    // Somebody reads all the while.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (kept, done) = (&kept, &done);
        let reader = scope.spawn(move || {
            let mut most = 0;
            while !done.load(Relaxed) {
                most = most.max(kept.of(spoofed).len());
            }
            most
        });
        for n in 0..FLOOD {
            send(&a, &frame(3, 2, 1000, n as u8));
        }
        let dropped = |node: &Node| node.sum(|c| &c.drops[spoofed.index()]);
        eventually("the flood is dropped", || dropped(&node) == FLOOD);
        done.store(true, Relaxed);
        assert!(reader.join().unwrap() <= KEPT);
    });
    let frames = kept.of(spoofed);
    assert!(
        !frames.is_empty() && frames.len() <= KEPT,
        "{}",
        frames.len()
    );
    assert!(frames.is_sorted_by_key(|frame| frame.time));
    for kept in &frames {
        let sent = frame(3, 2, 1000, 0);
        assert_eq!(kept.entry, Entry::Port(PortId(2)));
        assert_eq!(kept.name.as_deref(), Some("pod2"));
        assert_eq!(
            (kept.contents, kept.len, kept.packets),
            (Contents::Frame, 1000, 1)
        );
        // Headers, behind them the payload of one of the flood, as they came.
        assert_eq!(kept.head()[..40], sent[VNET_HDR_LEN..][..40]);
        assert_eq!(kept.head().len(), HEAD);
        assert!(
            kept.head()[42..]
                .iter()
                .all(|byte| *byte == kept.head()[42])
        );
    }
    // Another reason has places of its own, and what is not dropped goes its way.
    std::thread::sleep(std::time::Duration::from_millis(2));
    send(&a, &frame(2, 9, 1000, 0));
    eventually("it is kept", || !kept.of(DropReason::UnknownMac).is_empty());
    assert_eq!(kept.of(spoofed).len(), frames.len());
    send(&a, &frame(2, 3, 1000, 7));
    eventually("it arrives", || received(&b) == [7]);
    let kept_in_all: usize = DropReason::ALL.iter().map(|r| kept.of(*r).len()).sum();
    assert_eq!(kept_in_all, frames.len() + 1);
    node.stop();
}
