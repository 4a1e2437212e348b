//! Whoever observes a worker sees each frame at its verdict. No root.

mod node;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ringway_packet::kit;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_switch::trace::Step;
use ringway_switch::{DropReason, Verdict};
use ringway_tables::PortId;
use ringway_worker::observe::capture::Selection;
use ringway_worker::observe::steps::{Item, Steps, Wanted};
use ringway_worker::{Command, Entry, Observed, Observer, ObserverId, Outer};

use node::*;

const OBSERVER: ObserverId = ObserverId(7);

/// What was seen of one frame.
#[derive(Debug)]
struct Seen {
    entry: Entry,
    verdict: Verdict,
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// Tells what it sees.
struct Teller {
    steps: Vec<Step>,
    to: Sender<Seen>,
}

impl Observer for Teller {
    fn step(&mut self, step: &Step) {
        self.steps.push(*step);
    }

    fn verdict(&mut self, frame: &Observed<'_>) {
        let _ = self.to.send(Seen {
            entry: frame.entry,
            verdict: frame.verdict,
            bytes: frame.pieces().collect::<Vec<_>>().concat(),
            steps: std::mem::take(&mut self.steps),
        });
    }

    fn outer(&mut self, _: &Outer<'_>) {}
}

fn observe(node: &Node) -> Receiver<Seen> {
    let (to, seen) = unbounded();
    let steps = Vec::new();
    let teller = Teller { steps, to };
    node.workers[0].send(Command::Observe(OBSERVER, Box::new(teller)));
    seen
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(Duration::from_secs(5)).unwrap()
}

#[test]
fn every_frame_is_seen_at_its_verdict_and_so_is_what_the_switch_makes() {
    let (node, a, b) = Node::with_two_pods();
    let seen = observe(&node);
    // Switched untouched: what is seen is what arrives.
    let switched = frame(2, 3, 1000, 1);
    send(&a, &switched);
    let first = next(&seen);
    assert_eq!(first.entry, Entry::Port(PortId(2)));
    assert_eq!(first.verdict, Verdict::Deliver(PortId(3)));
    assert_eq!(first.bytes, switched[VNET_HDR_LEN..]);
    assert!(matches!(first.steps[0], Step::FromPort(PortId(2))));
    assert!(matches!(first.steps.last(), Some(Step::Verdict(_))));
    eventually("it arrives", || received(&b) == [1]);
    // Answered: the answer is seen, too.
    let ask = kit::arp_request("10.77.1.2", "10.77.1.3");
    send(&a, &[&[0; VNET_HDR_LEN][..], &ask].concat());
    let asked = next(&seen);
    assert_eq!((asked.verdict, asked.bytes), (Verdict::Answered, ask));
    let answer = next(&seen);
    assert_eq!(answer.entry, Entry::Switch);
    assert_eq!(answer.verdict, Verdict::Deliver(PortId(2)));
    let mut arrived = [0; 100];
    eventually("the answer arrives", || {
        a.recv(&mut arrived)
            .is_ok_and(|len| arrived[VNET_HDR_LEN..len] == answer.bytes)
    });
    // Dropped.
    send(&a, &frame(3, 2, 1000, 2));
    let dropped = next(&seen);
    assert_eq!(dropped.verdict, Verdict::Drop(DropReason::SpoofedMac));
    // Nobody any more: what comes now goes its way, and the observer is gone.
    node.workers[0].send(Command::Unobserve(OBSERVER));
    send(&a, &frame(2, 3, 1000, 3));
    eventually("it arrives", || received(&b) == [3]);
    assert!(seen.recv().is_err());
    node.stop();
}

#[test]
fn a_live_trace_has_the_steps_of_so_many_frames_and_no_more() {
    let (node, a, b) = Node::with_two_pods();
    let selection = Selection::default();
    selection.set_port(PortId(2), true);
    let left = Arc::new(AtomicU32::new(2));
    let wanted = Wanted {
        selection: Arc::new(selection),
        filter: None,
        left: left.clone(),
    };
    let (steps, mut reader) = Steps::new(wanted, 2);
    node.workers[0].send(Command::Observe(OBSERVER, Box::new(steps)));
    // From pod 2, to it, and once more.
    let first = frame(2, 3, 1000, 1);
    send(&a, &first);
    eventually("it arrives", || received(&b) == [1]);
    send(&b, &frame(3, 2, 1000, 2));
    eventually("it arrives", || received(&a) == [2]);
    send(&a, &frame(2, 3, 1000, 3));
    eventually("it arrives", || received(&b) == [3]);
    assert_eq!(left.load(Relaxed), 0);
    let mut next = || match reader.take() {
        Some(Item::Frame(seen)) => Some(seen),
        other => {
            assert!(other.is_none(), "{other:?}");
            None
        }
    };
    let (seen, answer) = (next().unwrap(), next().unwrap());
    assert!(next().is_none());
    assert_eq!(seen.entry, Entry::Port(PortId(2)));
    assert_eq!(seen.verdict, Verdict::Deliver(PortId(3)));
    assert_eq!(
        (seen.len, seen.head()),
        (1000, &first[VNET_HDR_LEN..][..128])
    );
    let kinds: Vec<&Step> = seen.steps().collect();
    assert!(
        matches!(
            kinds[..],
            [
                Step::FromPort(PortId(2)),
                Step::Parsed(_),
                Step::Sender(..),
                Step::Admitted,
                Step::Mac(_, Some(PortId(3))),
                Step::Rewritten(..),
                Step::Verdict(_)
            ]
        ),
        "{kinds:?}"
    );
    assert_eq!(answer.entry, Entry::Port(PortId(3)));
    node.workers[0].send(Command::Unobserve(OBSERVER));
    eventually("the observer is gone", || reader.is_over());
    node.stop();
}
