//! Flows between a sender, the kernel's choice of the lane, two queues in memory, and the worker's order.

use std::collections::VecDeque;

use super::*;

const MS: u64 = 1_000_000;
const SUPER: u32 = 65_000;
const SMALL: u32 = 600;

/// What a pod has sent: a flow's slot, its cost and which of the flow's frames it is.
#[derive(Clone, Copy, Debug)]
struct Sent(u16, u32, u64);

/// Both queues of a port and the worker that reads them, as `visit/tap.rs` does.
struct Rig {
    lane: Lane<()>,
    queues: [VecDeque<Sent>; 2],
    /// By slot: how many frames were sent, and which is to come next.
    flows: Vec<(u64, u64)>,
    now: u64,
}

impl Rig {
    fn new() -> Rig {
        Rig {
            lane: Lane::new((), Arc::new(Slots::unshared().unwrap())),
            queues: Default::default(),
            flows: vec![(0, 0); 512],
            now: 0,
        }
    }

    /// Which lane it went to.
    fn send(&mut self, slot: u16, cost: u32) -> usize {
        let number = &mut self.flows[usize::from(slot)].0;
        let chosen = self.lane.slots.choose(slot);
        self.queues[chosen].push_back(Sent(slot, cost, *number));
        *number += 1;
        chosen
    }

    /// It is lost where the kernel puts it into the queue.
    fn lose(&mut self, slot: u16, cost: u32) {
        let chosen = self.send(slot, cost);
        self.queues[chosen].pop_back();
        self.flows[usize::from(slot)].0 -= 1;
    }

    fn goes_on(&mut self, Sent(slot, _, number): Sent) {
        let next = &mut self.flows[usize::from(slot)].1;
        assert_eq!(number, *next, "of the flow in slot {slot}");
        *next += 1;
    }

    fn receive(&mut self, lane: usize, budget: usize) -> (Vec<Sent>, bool) {
        let queue = &mut self.queues[lane];
        let got: Vec<_> = queue.drain(..budget.min(queue.len())).collect();
        let more = got.len() == budget;
        (got, more)
    }

    fn visit_quiet(&mut self, budget: usize) -> bool {
        let (got, more) = self.receive(0, budget);
        if self.lane.is_backlog(got.len(), 0, more) {
            self.lane.enter_quiet(seen(&got), more, self.now);
        }
        for sent in got {
            self.goes_on(sent);
        }
        more
    }

    fn visit_bulk(&mut self, budget: usize, between: impl FnOnce(&mut Rig)) {
        let (got, more) = self.receive(1, budget);
        between(self);
        let drain = self.lane.must_drain();
        self.lane.enter_bulk(seen(&got), more, self.now);
        while drain && self.visit_quiet(64) {}
        for sent in got {
            self.goes_on(sent);
        }
        self.lane.look(self.now);
    }

    /// Both lanes to their end.
    fn finish(&mut self) {
        while self.visit_quiet(16) {}
        while !self.queues[1].is_empty() {
            self.visit_bulk(16, |_| ());
        }
        self.visit_bulk(16, |_| ());
    }
}

fn seen(sent: &[Sent]) -> impl Iterator<Item = Seen> {
    sent.iter().map(|&Sent(slot, cost, _)| Seen { slot, cost })
}

#[test]
fn bulk_gets_out_of_the_way_and_comes_back() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.send(7, SUPER);
    }
    rig.send(1, SMALL);
    rig.finish();
    assert_eq!((rig.send(7, SUPER), rig.send(1, SMALL)), (1, 0));
    rig.finish();
    assert_eq!(rig.lane.flows(), 1);
    // As long as it sends superframes it stays, however soon each is read.
    for _ in 0..100 {
        rig.now += MS;
        assert_eq!(rig.send(7, SUPER), 1);
        rig.finish();
    }
    // The same connection has requests only: first there, from the end of a window on with the others.
    let lanes: Vec<_> = std::iter::repeat_with(|| {
        rig.now += MS;
        let chosen = rig.send(7, SMALL);
        rig.finish();
        chosen
    })
    .take(30)
    .collect();
    let quiet = lanes.iter().position(|lane| *lane == 0).unwrap();
    assert!(
        quiet <= 21 && lanes[quiet..].iter().all(|lane| *lane == 0),
        "{lanes:?}"
    );
    assert_eq!(rig.lane.flows(), 0);
}

/// However many there are that stay.
#[test]
fn one_of_many_that_has_its_data_out_and_asks_is_quiet_soon() {
    let mut rig = Rig::new();
    for _ in 0..2 {
        (100..300).for_each(|slot| _ = rig.send(slot, SUPER));
        rig.send(7, SUPER);
        rig.finish();
    }
    let (mut asked, mut stayed) = (Vec::new(), 0);
    for ms in 0..100 {
        rig.now += MS;
        // Each of the others sends every ten milliseconds.
        for slot in (100..300).skip(ms % 10).step_by(10) {
            stayed += rig.send(slot, SUPER);
        }
        if ms % 5 == 0 {
            asked.push(rig.send(7, SMALL));
        }
        rig.finish();
    }
    assert!(stayed >= 1980, "{stayed} of 2000");
    let quiet = asked.iter().position(|lane| *lane == 0);
    assert!(quiet.is_some_and(|at| at <= 4), "{asked:?}");
}

#[test]
fn requests_alone_are_never_bulk() {
    let mut rig = Rig::new();
    for _ in 0..1000 {
        rig.now += MS / 10;
        for slot in 0..40 {
            assert_eq!(rig.send(slot, 2000), 0);
        }
        // In visits as long as a busy worker makes them.
        while rig.visit_quiet(16) {}
    }
}

#[test]
fn what_was_sent_before_goes_before() {
    let mut rig = Rig::new();
    for _ in 0..16 {
        rig.send(7, SUPER);
    }
    assert!(rig.visit_quiet(4));
    // Twelve are still in the quiet lane; what comes now is in the other, and that is visited first.
    assert_eq!(rig.send(7, SUPER), 1);
    rig.visit_bulk(16, |_| ());
    assert_eq!(rig.flows[7], (17, 17));
    // The first frame there is sent while the lane is read.
    let mut rig = Rig::new();
    for _ in 0..16 {
        rig.send(7, SUPER);
    }
    assert!(rig.visit_quiet(4));
    rig.visit_bulk(16, |rig| assert_eq!(rig.send(7, SUPER), 1));
    rig.finish();
    assert_eq!(rig.flows[7], (17, 17));
}

#[test]
fn a_flow_whose_frames_were_lost_comes_back_when_it_is_silent() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.send(7, SUPER);
    }
    rig.finish();
    rig.send(7, SUPER);
    for _ in 0..3 {
        rig.lose(7, SUPER);
    }
    let lanes = |rig: &mut Rig, time: u64| {
        let until = rig.now + time * MS;
        while rig.now < until {
            rig.now += 8 * MS;
            rig.finish();
        }
        rig.lane.flows()
    };
    assert_eq!(lanes(&mut rig, 900), 1);
    assert_eq!(lanes(&mut rig, 200), 0);
    assert_eq!(rig.send(7, SMALL), 0);
}

#[test]
fn no_frame_passes_another_of_its_flow_whatever_happens_when() {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut rig = Rig::new();
    let (mut changes, mut before) = (0, [0; 6]);
    while changes < 20_000 {
        rig.now += random(MS / 2);
        let slot = random(6) as u16;
        let (burst, cost) = match random(8) {
            0 => (1 + random(20), SUPER),
            1 => (1 + random(100), SMALL),
            2 => {
                rig.now += random(30) * MS;
                (1, SMALL)
            }
            _ => (1, SMALL),
        };
        for _ in 0..burst {
            let chosen = rig.send(slot, cost);
            changes +=
                usize::from(std::mem::replace(&mut before[usize::from(slot)], chosen) != chosen);
        }
        match random(4) {
            0 => rig.finish(),
            1 => drop(rig.visit_quiet(1 + random(20) as usize)),
            _ => rig.visit_bulk(1 + random(20) as usize, |rig| {
                if random(2) == 0 {
                    rig.send(slot, cost);
                }
            }),
        }
    }
    rig.finish();
    assert!(rig.flows.iter().all(|(sent, came)| sent == came));
}

#[test]
fn more_flows_than_there_are_slots_cost_no_more() {
    let mut rig = Rig::new();
    let lane = &mut rig.lane;
    for now in 0..3 {
        for slot in 0..steer::SLOTS as u16 {
            let seen = [Seen {
                slot,
                cost: 2 * SUPER,
            }; 2];
            lane.enter_quiet(seen.into_iter(), true, now * MS);
        }
    }
    assert_eq!(lane.flows(), 1024);
    lane.enter_bulk([].into_iter(), false, 4 * MS);
    for now in 1..4 {
        lane.look(now * 2000 * MS);
    }
    assert_eq!(lane.flows(), 0);
}

#[test]
fn a_flow_whose_superframes_the_kernel_cuts_comes_back_when_it_is_silent() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.send(7, SUPER);
    }
    rig.finish();
    // Counted once, and twice in the queue.
    assert_eq!(rig.send(7, SMALL), 1);
    rig.queues[1].push_back(Sent(7, SMALL, 9));
    rig.flows[7].0 += 1;
    rig.finish();
    for _ in 0..50 {
        rig.now += 8 * MS;
        assert_eq!(rig.send(7, SMALL), 1);
        rig.finish();
    }
    for _ in 0..140 {
        rig.now += 8 * MS;
        rig.finish();
    }
    assert_eq!((rig.lane.flows(), rig.send(7, SMALL)), (0, 0));
}

#[test]
fn counts_stay_small_whatever_is_lost_or_cut() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.send(7, SUPER);
    }
    rig.finish();
    let slots = rig.lane.slots.clone();
    let window = |rig: &mut Rig, sent: u32, read: u32| {
        for _ in 0..sent {
            slots.choose(7);
        }
        let seen = Seen {
            slot: 7,
            cost: SMALL,
        };
        let seen = std::iter::repeat_n(seen, read as usize);
        rig.lane.enter_bulk(seen, true, rig.now);
        rig.now += 8 * MS;
        rig.lane.look(rig.now);
        slots.count(7)
    };
    // Half of them lost, all read, two for each that was counted.
    for (sent, read) in [(400_000, 200_000), (400_000, 400_000), (200_000, 400_000)] {
        for _ in 0..12 {
            let count = window(&mut rig, sent, read).expect("it is bulk all the time");
            assert!(count < 3 << 20, "{count} with {sent} sent and {read} read");
        }
    }
}
