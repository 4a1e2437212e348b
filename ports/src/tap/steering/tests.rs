//! The program over frames without an interface, beside the function that it repeats, and at a TAP.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use ringway_packet::steer::{self, OTHERS};
use ringway_packet::{kit, proto};

use super::*;
use crate::common::Netns;
use crate::tap::{Opened, TapOptions, create_persistent, open_queue};

/// Says why there is no program, and that the test is skipped.
fn loaded(workers: usize) -> Option<(Steering, Slots)> {
    match Steering::load(workers) {
        Ok(loaded) => Some(loaded),
        Err(SteeringError::Call { call, source }) if sys::errno(&source) == libc::EINVAL => {
            println!("SKIPPED: no steering programs in this kernel: {call}: {source}");
            None
        }
        Err(error) => panic!("{error}; this test needs root; run: make test"),
    }
}

/// The queue that the program chooses. A test run takes the MAC addresses off first.
fn queue_of(steering: &Steering, frame: &[u8]) -> usize {
    let packet = [&[0; 14], frame].concat();
    bpf::prog_test_run_socket_filter(steering.program.as_fd(), &packet).unwrap() as usize
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames = vec![
        kit::arp_request("10.77.1.2", "10.77.1.1"),
        kit::ping("10.77.1.2", "10.77.2.2").frame(),
        kit::ping("fd77:1::2", "fd77:2::2").frame(),
        vec![0; 60],
        vec![0xff; 2],
    ];
    let v4 = ("10.77.1.2:40000", "10.77.2.2:5201");
    let v6 = ("[fd77:1::2]:40000", "[fd77:2::2]:5201");
    for (a, b) in [v4, v6] {
        frames.extend([kit::tcp(a, b).frame(), kit::sctp(a, b).frame()]);
        frames.push(kit::udp(a, b).payload_len(1400).frame());
        frames.extend(kit::udp(a, b).payload_len(3000).fragments(1280));
    }
    frames.push(kit::udp(v4.0, v4.1).options(&[1; 4]).frame());
    let extension = kit::udp(v6.0, v6.1).extension(proto::HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]);
    frames.push(extension.frame());
    frames
}

#[test]
fn program_and_function_agree() {
    for workers in [1, 2, 3, 7] {
        let Some((steering, slots)) = loaded(workers) else {
            return;
        };
        let agree = |frame: &[u8]| {
            let slot = steer::slot(frame);
            let worker = usize::from(slot) % workers;
            for lane in [0, 1, 0] {
                if lane == 1 {
                    slots.set_bulk(slot);
                }
                assert_eq!(slots.count(slot), (lane == 1).then_some(0));
                let queue = worker * LANES + lane;
                let chosen = queue_of(&steering, frame);
                assert_eq!(chosen, queue, "slot {slot} of {frame:02x?}");
                if lane == 1 {
                    assert!(!slots.set_quiet(slot, 0) && slots.set_quiet(slot, 1));
                }
            }
        };
        let mut state = 1_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for frame in frames() {
            for len in 1..=frame.len().min(64) {
                agree(&frame[..len]);
            }
            agree(&frame);
            // Any byte that may count, changed.
            for _ in 0..200 {
                let mut other = frame.clone();
                let at = usize::from(random()) % other.len().min(60);
                other[at] = random();
                agree(&other);
            }
        }
    }
}

#[test]
fn a_slot_is_quiet_again_when_all_that_was_sent_there_was_read() {
    let slots = Slots::unshared().unwrap();
    let last = (SLOTS - 1) as u16;
    for slot in [OTHERS, 1, last] {
        assert_eq!((slots.choose(slot), slots.count(slot)), (0, None));
        slots.set_bulk(slot);
        let bulk: Vec<_> = (0..=last)
            .filter(|slot| slots.count(*slot).is_some())
            .collect();
        assert_eq!(bulk, [slot]);
        for _ in 0..3 {
            assert_eq!(slots.choose(slot), 1);
        }
        assert!(!slots.set_quiet(slot, 2));
        slots.settle(slot, 2);
        assert_eq!(slots.count(slot), Some(1));
        assert!(slots.set_quiet(slot, 1));
        assert_eq!((slots.choose(slot), slots.count(slot)), (0, None));
    }
}

/// What waits in a queue.
fn waiting(queue: &Opened) -> Vec<Vec<u8>> {
    let mut buf = [0; 2048];
    std::iter::from_fn(|| {
        let length = sys::read(queue.fd.as_fd(), &mut buf).ok()?;
        Some(buf[10..length].to_vec())
    })
    .collect()
}

#[test]
fn a_tap_s_frames_go_to_the_lane_of_their_flow() {
    let Some((steering, slots)) = loaded(1) else {
        return;
    };
    let ns = Netns::new();
    let options = TapOptions {
        multi_queue: true,
        owner_uid: None,
    };
    let quiet = ns.enter(|| create_persistent("t0", &options)).unwrap();
    steering.attach(quiet.fd.as_fd()).unwrap();
    let bulk = ns.enter(|| open_queue("t0", true)).unwrap();
    ns.ip("addr add 10.9.0.2/24 dev t0");
    ns.ip("link set t0 up");
    ns.ip("neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev t0");
    let socket = ns.enter(|| UdpSocket::bind("10.9.0.2:40000").unwrap());
    let of_flow = |frames: Vec<Vec<u8>>| {
        let ours = |frame: &Vec<u8>| frame[12..14] == [8, 0] && frame[23] == proto::UDP;
        frames.into_iter().filter(ours).collect::<Vec<_>>()
    };
    // The program stays without its descriptor.
    drop(steering);
    for lane in [0, 1, 0] {
        socket.send_to(b"x", "10.9.0.1:53").unwrap();
        let (quiet, bulk) = (of_flow(waiting(&quiet)), of_flow(waiting(&bulk)));
        assert_eq!((quiet.len(), bulk.len()), (1 - lane, lane));
        let frame = quiet.into_iter().chain(bulk).next().unwrap();
        match lane {
            0 => slots.set_bulk(steer::slot(&frame)),
            _ => assert!(slots.set_quiet(steer::slot(&frame), 1)),
        }
    }
    // Another flow is not concerned.
    socket.send_to(b"x", "10.9.0.1:54").unwrap();
    assert_eq!(of_flow(waiting(&quiet)).len(), 1);

    // A successor: the program of before is still there, and goes by slots that nobody has any more.
    drop((quiet, bulk));
    let Some((steering, slots)) = loaded(1) else {
        return;
    };
    let quiet = ns.enter(|| open_queue("t0", true)).unwrap();
    steering.attach(quiet.fd.as_fd()).unwrap();
    let bulk = ns.enter(|| open_queue("t0", true)).unwrap();
    socket.send_to(b"x", "10.9.0.1:53").unwrap();
    let frame = of_flow(waiting(&quiet))
        .pop()
        .expect("the flow is quiet again");
    slots.set_bulk(steer::slot(&frame));
    socket.send_to(b"x", "10.9.0.1:53").unwrap();
    assert_eq!(of_flow(waiting(&bulk)).len(), 1);
}
