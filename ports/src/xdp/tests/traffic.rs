//! Programs at a veth and a loopback, and traffic past them. The sockets in the map are bound to nothing,
//! so what is redirected is lost: that tells it from what passes.
//!
//! ```text
//!   b: 10.9.0.2, fd09::2 ──v0────────v0── XDP ── a: 10.9.0.1, fd09::1
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::super::{
    AttachMode, AttachOptions, Attachment, Filter, Mode, Program, Refusal, occupant,
};
use super::{Sockets, filter, ip, vacated};
use crate::common::{Netns, veth_pair};

const NATIVE: AttachOptions = AttachOptions {
    mode: AttachMode::Native,
    take_over: false,
};

const OURS: [&str; 2] = ["10.9.0.1", "fd09::1"];

/// Whether a datagram from `from` reaches a socket of `to` at that address.
fn arrives(from: &Netns, to: &Netns, address: IpAddr, port: u16) -> bool {
    reaches(from, to, address, port, Duration::from_secs(3))
}

/// Whether it does not, as far as a moment can tell.
fn is_taken(from: &Netns, to: &Netns, address: IpAddr, port: u16) -> bool {
    !reaches(from, to, address, port, Duration::from_millis(100))
}

fn reaches(from: &Netns, to: &Netns, address: IpAddr, port: u16, patience: Duration) -> bool {
    let at = SocketAddr::new(address, port);
    let socket = to.enter(|| UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(patience)).unwrap();
    from.enter(|| {
        let any = match address {
            IpAddr::V4(_) => ip("0.0.0.0"),
            IpAddr::V6(_) => ip("::"),
        };
        let sender = UdpSocket::bind((any, 0)).unwrap();
        sender.send_to(b"hello", at).unwrap();
    });
    socket.recv(&mut [0; 16]).is_ok()
}

fn tcp_works(from: &Netns, to: &Netns, at: SocketAddr) -> bool {
    // More than a segment, so that segmentation offload has its say.
    let sent = vec![0xa5; 300_000];
    let listener = to.enter(|| TcpListener::bind(at).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.enter(|| TcpStream::connect(at).unwrap());
            stream.write_all(&sent).unwrap();
        });
        let mut received = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.read_to_end(&mut received).is_ok() && received == sent
    })
}

/// Whether datagrams of both families to that port arrive.
fn both_arrive(from: &Netns, to: &Netns, port: u16) -> bool {
    OURS.iter()
        .all(|address| arrives(from, to, ip(address), port))
}

/// Whether neither does.
fn both_are_taken(from: &Netns, to: &Netns, port: u16) -> bool {
    OURS.iter()
        .all(|address| is_taken(from, to, ip(address), port))
}

#[test]
fn native_takes_what_is_ours_and_nothing_else() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let (a, b) = veth_pair();
    let program = sockets.load(&filter(&[4789]));
    let attach = || Attachment::attach("v0", &program, AttachOptions::default()).unwrap();
    assert!(both_arrive(&b, &a, 4789));

    let attachment = a.enter(attach);
    assert_eq!(attachment.mode(), Mode::Native);
    assert!(attachment.fell_back().is_none());
    assert!(attachment.is_attached());
    assert_eq!(attachment.interface(), "v0");
    assert!(both_are_taken(&b, &a, 4789), "redirected");
    assert!(both_arrive(&b, &a, 4790), "another port");
    a.ip("addr add 10.9.0.9/24 dev v0");
    assert!(arrives(&b, &a, ip("10.9.0.9"), 4789), "another address");
    b.exec("ping -q -c 2 -i 0.05 -W 2 10.9.0.1");
    b.exec("ping -q -c 2 -i 0.05 -W 2 fd09::1");
    // Datagrams in fragments.
    b.exec("ping -q -c 1 -s 4000 -W 2 10.9.0.1");
    assert!(tcp_works(&b, &a, "10.9.0.1:4789".parse().unwrap()));
    assert!(tcp_works(&b, &a, "[fd09::1]:4789".parse().unwrap()));

    sockets.map.clear(0).unwrap();
    assert!(both_arrive(&b, &a, 4789), "a queue without a socket");
    sockets.map.set(0, sockets.socket.as_fd()).unwrap();
    assert!(both_are_taken(&b, &a, 4789));

    drop(attachment);
    vacated(&a, "v0");
    assert!(both_arrive(&b, &a, 4789), "detached");
    let again = a.enter(attach);
    again.detach().unwrap();
    assert_eq!(a.enter(|| occupant("v0").unwrap()), None);
}

#[test]
fn another_program_changes_ports_and_addresses_at_run_time() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let (a, b) = veth_pair();
    let first = sockets.load(&filter(&[4789]));
    let attachment = a.enter(|| Attachment::attach("v0", &first, NATIVE).unwrap());
    let before = a.enter(|| occupant("v0").unwrap().unwrap());
    assert!(both_are_taken(&b, &a, 4789));

    attachment.replace(&sockets.load(&filter(&[8472]))).unwrap();
    let after = a.enter(|| occupant("v0").unwrap().unwrap());
    assert_eq!(before.link, after.link);
    assert_ne!(before.program, after.program);
    assert!(both_arrive(&b, &a, 4789));
    assert!(both_are_taken(&b, &a, 8472));

    let routed = Filter {
        cidrs: vec![(ip("10.9.0.8"), 30), (ip("fd09::8"), 125)],
        ..filter(&[8472])
    };
    a.ip("addr add 10.9.0.9/24 dev v0");
    a.ip("addr add fd09::9/64 dev v0 nodad");
    assert!(arrives(&b, &a, ip("10.9.0.9"), 53));
    // The map may be another one, too.
    let others = Sockets::new().unwrap();
    attachment.replace(&others.load(&routed)).unwrap();
    assert!(is_taken(&b, &a, ip("10.9.0.9"), 53));
    assert!(is_taken(&b, &a, ip("fd09::9"), 53));
    assert!(both_are_taken(&b, &a, 8472));

    // Itself once more, and the old one.
    attachment.replace(&first).unwrap();
    attachment.replace(&first).unwrap();
    assert!(both_arrive(&b, &a, 8472));
    assert!(both_are_taken(&b, &a, 4789));
}

#[test]
fn generic_is_what_remains_where_the_driver_has_nothing() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    let program = sockets.load(&Filter {
        addresses: vec![ip("127.0.0.1"), ip("::1")],
        ports: vec![4789],
        cidrs: vec![],
    });
    ns.enter(|| {
        let error = Attachment::attach("lo", &program, NATIVE).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("interface lo: the driver does not support native XDP"),
            "{error}"
        );
        let attachment = Attachment::attach("lo", &program, AttachOptions::default()).unwrap();
        assert_eq!(attachment.mode(), Mode::Generic);
        let refusal = attachment.fell_back().unwrap();
        assert!(
            matches!(
                refusal,
                Refusal::Unsupported {
                    mode: Mode::Native,
                    ..
                }
            ),
            "{refusal}"
        );
        assert_eq!(occupant("lo").unwrap().unwrap().mode, Mode::Generic);
    });
    let attachment =
        ns.enter(|| Attachment::attach("lo", &program, AttachOptions::default()).unwrap());
    for address in ["127.0.0.1", "::1"] {
        // The loopback's MAC addresses are zero, which is not a group.
        assert!(is_taken(&ns, &ns, ip(address), 4789), "{address}");
        assert!(arrives(&ns, &ns, ip(address), 4790), "{address}");
    }
    drop(attachment);
    vacated(&ns, "lo");
    assert!(arrives(&ns, &ns, ip("::1"), 4789));
}

#[test]
fn generic_can_be_asked_for_and_works_the_same() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let (a, b) = veth_pair();
    let program: Program = sockets.load(&filter(&[4789]));
    let want = AttachOptions {
        mode: AttachMode::Generic,
        take_over: false,
    };
    let attachment = a.enter(|| Attachment::attach("v0", &program, want).unwrap());
    assert_eq!(attachment.mode(), Mode::Generic);
    assert!(attachment.fell_back().is_none());
    assert!(both_are_taken(&b, &a, 4789));
    assert!(both_arrive(&b, &a, 4790));
    attachment.replace(&sockets.load(&filter(&[4790]))).unwrap();
    assert!(both_arrive(&b, &a, 4789));
    assert!(both_are_taken(&b, &a, 4790));
}
