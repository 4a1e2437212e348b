//! Two looks and the time between them: rates, and what has none.

mod common;

use common::{drop, loss, many, nobody, node, seconds};
use ringway_top::{Flow, Look, Model, Pace, Shown};

fn after(looks: impl IntoIterator<Item = (Look, u64)>) -> Shown {
    let mut model = Model::default();
    for (look, at) in looks {
        model.answered(look, seconds(at));
    }
    model.shown().unwrap().clone()
}

fn flow(packets: f64) -> Flow {
    Flow {
        bits: Some(packets * 8000.0),
        packets: Some(packets),
    }
}

#[test]
fn a_first_look_has_counts_and_no_rates() {
    let shown = after([(node(10), 0)]);
    for pace in shown.pods.iter().chain(&shown.peers) {
        assert_eq!((pace.sent, pace.received, pace.drops), Default::default());
    }
    assert_eq!(shown.pods[0].dropped, 40);
    assert_eq!((shown.drops, shown.workers[0].busy), (None, None));
    assert_eq!(shown.look.drops.drops[0].rate, None);
}

#[test]
fn rates_are_what_was_added_by_the_time_between() {
    let shown = after([(node(10), 100), (node(12), 102)]);
    for (k, pace) in (1..).zip(&shown.pods) {
        let k = f64::from(k);
        assert_eq!(
            (pace.sent, pace.received),
            (flow(k * 100.0), flow(k * 50.0))
        );
    }
    let drops: Vec<_> = shown.pods.iter().map(|pace| pace.drops).collect();
    assert_eq!(drops, [Some(4.0), Some(0.0), Some(0.0)]);
    let peer = shown.peers[1];
    assert_eq!((peer.sent, peer.received), (flow(20.0), flow(40.0)));
    assert_eq!((peer.drops, peer.dropped), (Some(0.0), 0));
    let worker = shown.workers[1];
    assert_eq!(worker.busy, Some(50.0));
    assert_eq!(
        (worker.rounds, worker.with_frames),
        (Some(4000.0), Some(50.0))
    );
    assert_eq!(worker.sleeps, Some(400.0));
    assert_eq!(shown.drops, Some(4.0));
    assert_eq!(shown.look.drops.drops[0].rate, Some(4.0));
    assert_eq!(shown.look.drops.kernel[0].rate, Some(2.0));
    // Half as fast in twice the time.
    let slow = after([(node(10), 100), (node(12), 104)]);
    assert_eq!(slow.pods[0].sent, flow(50.0));
}

#[test]
fn drops_at_a_peer_are_summed_over_reasons() {
    let look = |n: u64| {
        let mut look = node(1);
        let at = [("peer", "node2", 10 * n), ("pod", "node2", 1000 * n)];
        look.drops.drops = vec![
            drop("no_route", 0, &at),
            drop("too_big", 0, &[("peer", "node2", n)]),
        ];
        look
    };
    let shown = after([(look(1), 0), (look(3), 2)]);
    assert_eq!(
        (shown.peers[0].drops, shown.peers[0].dropped),
        (Some(11.0), 33)
    );
    assert_eq!(
        (shown.peers[1].drops, shown.peers[1].dropped),
        (Some(0.0), 0)
    );
}

#[test]
fn another_run_of_the_agent_begins_anew() {
    let mut again = node(20);
    again.status.pid = 78;
    let shown = after([(node(10), 10), (again, 11)]);
    assert_eq!(shown.pods[0].sent, Flow::default());
    assert_eq!((shown.drops, shown.workers[0].busy), (None, None));
    // The same process id, by chance.
    let mut again = node(20);
    again.status.uptime_s = 1;
    assert_eq!(
        after([(node(10), 10), (again, 11)]).pods[0].sent,
        Flow::default()
    );
    // And then goes on.
    let mut later = node(22);
    later.status.pid = 78;
    let mut again = node(20);
    again.status.pid = 78;
    let shown = after([(node(10), 10), (again, 11), (later, 13)]);
    assert_eq!(shown.pods[0].sent, flow(100.0));
}

#[test]
fn a_counter_that_went_backwards_has_no_rate() {
    let mut now = node(12);
    now.pods[1].from_pod = common::traffic(3);
    now.pods[0].drops.clear();
    now.peers[0].to_peer.frames = 0;
    now.status.workers[0].busy_us = 1;
    let shown = after([(node(10), 10), (now, 12)]);
    assert_eq!(shown.pods[1].sent, Flow::default());
    // The other way goes on, and so do others.
    assert_eq!(shown.pods[1].received, flow(100.0));
    assert_eq!(shown.pods[0].sent, flow(100.0));
    assert_eq!(shown.pods[0].drops, None);
    assert_eq!(shown.peers[0].sent, Flow::default());
    assert_eq!(shown.workers[0].busy, None);
    // Nothing is larger than what was really added.
    let mut now = node(10);
    now.drops.drops[0].frames = 1;
    let shown = after([(node(10), 10), (now, 12)]);
    assert_eq!(shown.look.drops.drops[0].rate, Some(0.5));
}

#[test]
fn pods_that_come_and_go_touch_no_other() {
    let mut first = node(10);
    first.pods.remove(0);
    let mut second = node(12);
    second.pods.remove(2);
    // Another pod got the name and another port.
    second.pods[1].port = 9;
    let shown = after([(first, 10), (second, 12)]);
    assert_eq!(shown.pods.len(), 2);
    assert_eq!(shown.pods[0].sent, Flow::default());
    assert_eq!(shown.pods[1].sent, Flow::default());
    let mut back = node(14);
    back.pods[1].port = 9;
    let shown = after([(node(10), 10), (node(12), 12), (back, 14)]);
    assert_eq!(shown.pods[0].sent, flow(100.0));
    assert_eq!(shown.pods[1].sent, Flow::default());
    assert_eq!(shown.pods[2].sent, flow(300.0));
}

#[test]
fn an_agent_that_is_away_leaves_what_was_seen() {
    let mut model = Model::default();
    model.answered(node(10), seconds(10));
    model.failed("refused", seconds(11));
    model.failed("timed out", seconds(15));
    assert_eq!(model.away(seconds(15)), Some(("timed out", seconds(11))));
    assert_eq!(model.shown().unwrap().at, seconds(10));
    // The same agent: what it did meanwhile, by the time that went by.
    model.answered(node(20), seconds(20));
    assert_eq!(model.away(seconds(60)), None);
    assert_eq!(model.shown().unwrap().pods[0].sent, flow(100.0));
}

#[test]
fn an_answer_that_takes_long_is_said_to() {
    let mut model = Model::default();
    model.answered(node(10), seconds(10));
    model.asked(seconds(11));
    assert_eq!(model.away(seconds(12)), None);
    let (why, since) = model.away(seconds(13)).unwrap();
    assert_eq!(
        (why, since),
        ("it was asked and is waited for", seconds(11))
    );
    model.answered(node(14), seconds(14));
    assert_eq!(model.away(seconds(100)), None);
}

#[test]
fn paths_stay_until_they_are_asked_for_again() {
    let mut first = node(10);
    first.paths = Some(vec![common::path("node2")]);
    let shown = after([(first, 0), (node(11), 1), (node(12), 2)]);
    assert_eq!(shown.look.paths.unwrap().len(), 1);
}

#[test]
fn two_looks_at_once_divide_by_no_zero() {
    let shown = after([(node(10), 5), (node(12), 5)]);
    let rate = shown.pods[0].sent.packets.unwrap();
    assert!(rate.is_finite() && rate > 0.0, "{rate}");
    // Nor does time that goes backwards.
    let shown = after([(node(10), 5), (node(12), 4)]);
    assert!(shown.pods[0].sent.packets.unwrap().is_finite());
}

#[test]
fn nobody_and_many() {
    let shown = after([(nobody(), 0), (nobody(), 1)]);
    assert_eq!(shown.pods, Vec::<Pace>::new());
    assert_eq!(shown.drops, Some(0.0));
    let shown = after([(many(1), 0), (many(2), 1)]);
    assert_eq!((shown.pods.len(), shown.peers.len()), (110, 1000));
    assert_eq!(shown.pods[109].sent, flow(110.0));
    assert_eq!(shown.peers[999].sent, flow(1000.0));
}

#[test]
fn a_loss_of_the_kernel_that_is_new_counts_from_nothing() {
    let mut now = node(12);
    now.drops.kernel.push(loss("nic_rx_missed", "eth0", 6));
    let shown = after([(node(10), 10), (now, 12)]);
    assert_eq!(shown.look.drops.kernel[2].rate, Some(3.0));
}

#[test]
fn a_loss_of_the_kernel_that_could_not_be_read_before_has_no_rate() {
    let mut first = node(10);
    first.drops.kernel.remove(0);
    first.drops.unread = vec!["pod default/web-1: no such namespace".into()];
    let shown = after([(first, 10), (node(12), 12)]);
    let rates: Vec<_> = shown
        .look
        .drops
        .kernel
        .iter()
        .map(|loss| loss.rate)
        .collect();
    assert_eq!(rates, [None, Some(1.0)]);
}
