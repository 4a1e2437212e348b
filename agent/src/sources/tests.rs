//! A source that does nothing but what it is told, between the agent and a control plane that answers.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

use crossbeam_channel::unbounded;

use ringway_cluster::Change;
use ringway_control::Subject;

use super::*;

/// What a source is given when it starts.
type Given = (watch::Receiver<Local>, Apply, watch::Sender<Status>);

/// A source that hands on what it was given; whether it was stopped.
fn toy(given: mpsc::Sender<Given>, noticed: mpsc::Sender<Notice>) -> (Prepared, Arc<AtomicBool>) {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    let spawn: Spawn = Box::new(move |local, apply, status| {
        given.send((local, apply, status)).unwrap();
        Ok(Started {
            stop: Box::new(move || stop.store(true, Relaxed)),
            notify: Some(Box::new(move |notice| noticed.send(notice).unwrap())),
        })
    });
    let prepared = Prepared::new("toy", Some(Contents::default()), spawn);
    (prepared, stopped)
}

fn told() -> Local {
    Local {
        node: ringway_cluster::Node::default(),
        addresses: Vec::new(),
        encap: ringway_cluster::EncapKind::Udp,
        vni: 1,
        port: 8285,
        pod_mtu: 1400,
        forwards: true,
    }
}

#[test]
fn flannels_network_is_the_default() {
    let of = |text: &str| flannels(&NetConf::parse(text).unwrap());
    let vxlan = of(
        r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan","VNI":7,"Port":4789}}"#,
    );
    let networks: Vec<String> = vxlan.cluster_cidrs.iter().map(|c| c.to_string()).collect();
    assert_eq!(networks, ["10.5.0.0/16", "fd05::/48"]);
    assert_eq!(
        (vxlan.encap, vxlan.vni, vxlan.vxlan_port),
        (EncapKind::Vxlan, 7, 4789)
    );
    let udp = of(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":9999}}"#);
    assert_eq!((udp.encap, udp.udp_port), (EncapKind::Udp, 9999));
    let other = of(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}"#);
    let usual = NetworkDefaults {
        cluster_cidrs: other.cluster_cidrs.clone(),
        ..NetworkDefaults::default()
    };
    assert_eq!(other, usual);
}

#[test]
fn nothing_starts_before_control_has_said_how_the_node_is() {
    let sources = Sources::new(Vec::new());
    let (requests, _inbox) = unbounded();
    assert!(sources.start(&requests).is_err());
}

#[test]
fn news_local_and_status_go_their_ways() {
    let (given, started) = mpsc::channel();
    let (noticed, notices) = mpsc::channel();
    let (prepared, stopped) = toy(given, noticed);
    let mut sources = Sources::new(vec![prepared]);
    assert_eq!(sources.saved(), [(Source::new("toy"), Contents::default())]);
    let control = sources.for_control();
    let notice = Notice {
        about: Subject::Node,
        reason: "AttachFailed",
        note: "n".into(),
    };
    // Before it has started there is nobody to tell.
    (control.notice)(notice.clone());
    let (requests, inbox) = unbounded();
    let mut told = told();
    (control.tell)(told.clone());
    let running = sources.start(&requests).unwrap();
    let (local, apply, status) = started.recv().unwrap();

    assert_eq!(*local.borrow(), told);
    told.pod_mtu = 1472;
    (control.tell)(told.clone());
    assert_eq!(*local.borrow(), told);

    let stands = &(control.status)()[0];
    assert_eq!((stands.name.as_str(), stands.state), ("toy", State::Stale));
    status.send_modify(|status| status.state = State::Current);
    assert_eq!((control.status)()[0].state, State::Current);

    (control.notice)(notice.clone());
    assert_eq!(notices.try_iter().collect::<Vec<_>>(), [notice]);

    let answers = std::thread::spawn(move || {
        let mut refuse = false;
        while let Ok(Request::Change(source, change, reply)) = inbox.recv() {
            assert_eq!(source, Source::new("toy"));
            assert!(matches!(*change, Change::RemovePeer(_)));
            let nobody = ringway_cluster::ClusterError::PeerIsNode { name: "x".into() };
            match std::mem::replace(&mut refuse, true) {
                false => reply(Ok(())),
                true => reply(Err(nobody.into())),
            }
        }
    });
    let change = || Change::RemovePeer("x".into());
    assert_eq!(apply(change()), Ok(()));
    let refused = apply(change()).unwrap_err();
    assert!(
        refused.contains("peer x") && refused.contains("to do"),
        "{refused}"
    );
    // Control ends: whoever waits is told, and does not wait for ever.
    requests.send(Request::Stop).unwrap();
    answers.join().unwrap();
    assert!(apply(change()).unwrap_err().contains("stopping"));

    assert!(!stopped.load(Relaxed));
    running.stop();
    assert!(stopped.load(Relaxed));
}

#[test]
fn one_that_cannot_start_ends_those_before_it() {
    let (given, _started) = mpsc::channel();
    let (first, stopped) = toy(given, mpsc::channel().0);
    let broken: Spawn = Box::new(|_, _, _| Err(io::Error::other("no thread")));
    let prepared = vec![first, Prepared::new("broken", None, broken)];
    let sources = Sources::new(prepared);
    (sources.for_control().tell)(told());
    let (requests, _inbox) = unbounded();
    let Err(error) = sources.start(&requests) else {
        panic!("it has started");
    };
    assert!(error.to_string().contains("broken: no thread"), "{error}");
    assert!(stopped.load(Relaxed));
}
