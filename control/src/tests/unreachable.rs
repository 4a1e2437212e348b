//! A peer that packets do not reach.

use super::*;
use crate::sources::Subject;
use crate::tests::sources::Toy;
use crate::unreachable::QUIET;

fn shown(control: &Control) -> Vec<String> {
    let all = control.view().status.conditions.into_iter();
    let all = all.filter(|c| c.what.starts_with("peer "));
    all.map(|c| format!("{} {} {}", c.what, c.wanted, c.found))
        .collect()
}

#[test]
fn what_lasts_is_told_once_and_forgotten_when_it_is_over() {
    in_netns(|| {
        let (node, toy) = (Node::new(), Toy::default());
        let config = node.config(1);
        let acquired = Acquired::open(&config, Vec::new()).unwrap();
        let mut control = Control::assemble(config, acquired, toy.sources()).unwrap();
        let (dest, begin) = ("192.168.77.2".parse().unwrap(), Instant::now());
        // Nobody's address, as a forger may quote.
        control.note_unreachable("192.0.2.1".parse().unwrap(), libc::EHOSTUNREACH, begin);
        assert_eq!(shown(&control), [""; 0]);
        control
            .handle_event(Event::Unreachable {
                dest,
                errno: libc::ECONNREFUSED,
            })
            .unwrap();
        let refused = "peer node2 reached at 192.168.77.2 Connection refused";
        assert_eq!(shown(&control), [refused]);
        // An agent that is replaced: nobody is told.
        assert_eq!(toy.notices(), []);
        let again = |control: &mut Control, seconds: std::ops::RangeInclusive<u64>| {
            for s in seconds {
                let at = begin + Duration::from_secs(s);
                control.note_unreachable(dest, libc::EHOSTUNREACH, at);
            }
        };
        // Twice for a few seconds is not all the time between.
        again(&mut control, 0..=4);
        again(&mut control, 11..=15);
        assert_eq!(toy.notices(), []);
        again(&mut control, 16..=40);
        let notices = toy.notices();
        let [notice] = &notices[..] else {
            panic!("told once");
        };
        assert_eq!(
            (&notice.about, notice.reason),
            (&Subject::Node, "PeerUnreachable")
        );
        let words = ["node2", "192.168.77.2", "No route to host", "ip route get"];
        assert!(words.iter().all(|w| notice.note.contains(w)), "{notice:?}");
        let last = begin + Duration::from_secs(40);
        control.forget_unreachable(last + QUIET / 2);
        assert_eq!(shown(&control).len(), 1);
        control.forget_unreachable(last + QUIET);
        assert_eq!(shown(&control), [""; 0]);
        // A peer that goes takes it along.
        control.note_unreachable(dest, libc::ENETUNREACH, Instant::now());
        assert_eq!(shown(&control).len(), 1);
        let mut fewer = node.config(1);
        fewer.peers.clear();
        control
            .configure(Ok(Box::new(fewer)))
            .outcome
            .expect("no peers is right");
        control.forget_unreachable(Instant::now());
        assert_eq!(shown(&control), [""; 0]);
        control.stop();
    });
}
