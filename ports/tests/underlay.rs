//! The UDP underlay between two namespaces, over a veth pair and real kernels' error paths.
//!
//! ```text
//!   netns A  v0 ───veth─── v0  netns B        (`routed` puts a router with a narrow link between)
//!            10.9.0.1      10.9.0.2
//!            fd09::1       fd09::2
//! ```

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use common::{Netns, collect, eventually, pool, receive, veth_pair};
use ringway_ports::Pool;
use ringway_ports::socket::{
    Dest, FIRST_PORT, GsoDisabled, Lane, PathMtu, PathMtuNews, Piece, PortHolder, Received,
    SocketConfig, SocketError, SocketFds, Src, TxDrops, TxReport, UdpChecksum, UdpUnderlay,
    UnreachableNews, open_fds,
};

const PORT: u16 = 8472;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn open(ns: &Netns, config: &SocketConfig) -> UdpUnderlay {
    ns.enter(|| UdpUnderlay::open(config))
        .expect("the underlay opens")
}

/// Two joined nodes, addresses of one family.
struct Pair {
    a: Netns,
    b: Netns,
    tx: UdpUnderlay,
    rx: UdpUnderlay,
    dest: Dest,
    pool: Pool,
    report: TxReport,
}

fn pair_with(v6: bool, adjust: impl Fn(&mut SocketConfig)) -> Pair {
    let (a, b) = veth_pair();
    let local = if v6 {
        [at("[fd09::1]:8472"), at("[fd09::2]:8472")]
    } else {
        [at("10.9.0.1:8472"), at("10.9.0.2:8472")]
    };
    let mut config = SocketConfig::new(local[0]);
    adjust(&mut config);
    let tx = open(&a, &config);
    let rx = open(&b, &SocketConfig::new(local[1]));
    Pair {
        a,
        b,
        tx,
        rx,
        dest: Dest::from(local[1]),
        pool: pool(),
        report: TxReport::new(),
    }
}

fn pair(v6: bool) -> Pair {
    pair_with(v6, |_| ())
}

/// The payload of datagram `i` of `len` bytes.
fn payload(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|j| (i * 31 + j * 7) as u8).collect()
}

impl Pair {
    /// Queues datagrams of the lengths given, each an 8-byte header from the slab and the rest from one
    /// pool buffer, flushes, and returns what should arrive.
    fn send(&mut self, lengths: &[usize], hash: u32, tos: u8) -> Vec<Vec<u8>> {
        let buf = self.pool.alloc().unwrap();
        let (mut sent, mut off) = (Vec::new(), 0);
        for (i, len) in lengths.iter().enumerate() {
            let bytes = payload(i, *len);
            let (slab, header) = self.tx.slab(8).unwrap();
            header.copy_from_slice(&bytes[..8]);
            self.pool.bytes_mut(buf.id())[off..off + len - 8].copy_from_slice(&bytes[8..]);
            let pieces = [
                Piece {
                    src: Src::Slab,
                    off: slab,
                    len: 8,
                },
                Piece {
                    src: Src::Pool(buf.id()),
                    off: off as u32,
                    len: (len - 8) as u32,
                },
            ];
            self.tx.push(self.dest, hash, tos, &pieces).unwrap();
            off += len - 8;
            sent.push(bytes);
        }
        self.tx.flush(&self.pool, &mut self.report);
        self.pool.free(buf);
        sent
    }

    fn expect(&mut self, sent: &[Vec<u8>]) -> usize {
        let (got, messages) = collect(&mut self.rx, &mut self.pool, sent.len());
        assert_eq!(got.len(), sent.len());
        for (i, (got, sent)) in got.iter().zip(sent).enumerate() {
            assert!(
                got.0 == *sent,
                "datagram {i}: {} bytes arrived of {}",
                got.0.len(),
                sent.len()
            );
        }
        messages
    }
}

fn superframe(v6: bool) {
    let mut pair = pair(v6);
    let granted = pair.tx.granted();
    assert!(
        granted.gso && granted.gro && granted.rcvbuf >= 7 << 20,
        "{granted:?}"
    );
    let mut lengths = vec![1400; 40];
    lengths.push(600);
    // Twice, so that the neighbour is known the second time and nothing waited in its queue.
    for round in 0..2 {
        pair.report.clear();
        let sent = pair.send(&lengths, 7, 0xb8 | 2);
        assert_eq!(
            (
                pair.report.messages,
                pair.report.datagrams,
                pair.report.bytes
            ),
            (1, 41, 56_600)
        );
        assert_eq!(pair.report.drops, TxDrops::default());
        let buf_messages = pair.expect(&sent);
        assert!(
            round == 0 || buf_messages == 1,
            "{buf_messages} messages: the superframe came apart"
        );
    }
    let counters = pair.rx.rx_counters(Lane::Quiet);
    assert_eq!(
        (counters.datagrams, counters.bytes, counters.overflow),
        (82, 113_200, 0)
    );
}

#[test]
fn a_superframe_goes_as_one_message_over_ipv4() {
    superframe(false);
}

#[test]
fn a_superframe_goes_as_one_message_over_ipv6() {
    superframe(true);
}

fn marks(v6: bool) {
    let mut pair = pair(v6);
    for (hash, tos) in [(0, 0), (0, 1), (u32::MAX, 0xfc), (1 << 31, 3)] {
        pair.send(&[100], hash, tos);
    }
    let (got, _) = collect(&mut pair.rx, &mut pair.pool, 4);
    let mut tos: Vec<u8> = got.iter().map(|(_, _, tos)| *tos).collect();
    tos.sort_unstable();
    assert_eq!(tos, [0, 1, 3, 0xfc]);
    let mut ports: Vec<u16> = got.iter().map(|(_, port, _)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "three of sixteen sockets were used");
    assert!(ports[0] >= FIRST_PORT, "{ports:?}");
}

#[test]
fn tos_and_source_port_arrive() {
    marks(false);
    marks(true);
}

#[test]
fn the_source_address_arrives() {
    for v6 in [false, true] {
        let mut pair = pair(v6);
        pair.send(&[100], 0, 0);
        let mut received = Received::new();
        let message = eventually("a message", || {
            receive(&mut pair.rx, &mut pair.pool, &mut received);
            received.datagrams.first().copied()
        });
        let expected = Dest::from(if v6 {
            at("[fd09::1]:1")
        } else {
            at("10.9.0.1:1")
        });
        assert_eq!((message.source, message.start), (expected.addr, 192));
        received.recycle(&mut pair.pool);
    }
}

#[test]
fn many_small_datagrams_share_a_message() {
    let mut pair = pair(false);
    let sent = pair.send(&[80; 200], 3, 0);
    assert_eq!((pair.report.messages, pair.report.datagrams), (4, 200));
    pair.expect(&sent);
}

#[test]
fn mixed_lengths_keep_their_order() {
    let mut pair = pair(false);
    let lengths: Vec<usize> = (0..300).map(|i| 60 + (i * i) % 300).collect();
    let sent = pair.send(&lengths, 3, 0);
    assert_eq!(pair.report.datagrams, 300);
    pair.expect(&sent);
}

/// A kernel without checksum offload on the egress device either segments in software (Linux ≥ 6.11) or
/// refuses with EIO; the datagrams arrive either way and the report says which.
#[test]
fn without_checksum_offload_everything_still_arrives() {
    for v6 in [false, true] {
        let mut pair = pair(v6);
        pair.a.exec("ethtool -K v0 tx off");
        let sent = pair.send(&[1400; 30], 3, 0);
        assert_eq!((pair.report.datagrams, pair.report.drops.total()), (30, 0));
        assert_eq!(pair.tx.granted().gso, pair.report.gso_disabled.is_none());
        pair.expect(&sent);
    }
}

/// UDP-Lite sockets: the kernel refuses UDP_SEGMENT on them with EIO, as it does when the egress device
/// has no checksum offload (before Linux 6.11) or the route goes through IPsec.
fn lite_fds(ns: &Netns, local: SocketAddr) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    ns.enter(|| {
        let (family, receive_tos, level) = if local.is_ipv6() {
            (libc::AF_INET6, libc::IPV6_RECVTCLASS, libc::SOL_IPV6)
        } else {
            (libc::AF_INET, libc::IP_RECVTOS, libc::SOL_IP)
        };
        // SAFETY: takes no pointers.
        let fd = unsafe {
            libc::socket(
                family,
                libc::SOCK_DGRAM | libc::SOCK_NONBLOCK,
                libc::IPPROTO_UDPLITE,
            )
        };
        if fd < 0 {
            return None;
        }
        // SAFETY: the descriptor is new.
        let socket = unsafe { UdpSocket::from_raw_fd(fd) };
        // SAFETY: an int option from a live int.
        unsafe { libc::setsockopt(fd, level, receive_tos, (&raw const family).cast(), 4) };
        let mut name = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: local.port().to_be(),
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        if let IpAddr::V4(v4) = local.ip() {
            name.sin_addr.s_addr = v4.to_bits().to_be();
        }
        // SAFETY: the name is a live local of the length given.
        let result = unsafe { libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) };
        assert_eq!(result, 0);
        Some(socket.into())
    })
}

#[test]
fn refused_segmentation_is_remembered_and_nothing_is_lost() {
    let mut pair = pair(false);
    let (local, remote) = (at("10.9.0.1:0"), at("10.9.0.2:8472"));
    let (Some(tx), Some(spare), Some(rx), Some(spare_tx)) = (
        lite_fds(&pair.a, local),
        lite_fds(&pair.a, local),
        lite_fds(&pair.b, remote),
        lite_fds(&pair.b, at("10.9.0.2:0")),
    ) else {
        println!("SKIPPED: no UDP-Lite on this kernel, so EIO cannot be provoked");
        return;
    };
    let fds = SocketFds {
        rx: [spare.try_clone().unwrap(), spare],
        tx: vec![tx],
    };
    pair.tx = UdpUnderlay::adopt(&SocketConfig::new(at("10.9.0.1:8472")), fds).unwrap();
    pair.rx = UdpUnderlay::adopt(
        &SocketConfig::new(remote),
        SocketFds {
            rx: [rx.try_clone().unwrap(), rx],
            tx: vec![spare_tx],
        },
    )
    .unwrap();
    assert!(pair.tx.granted().gso);
    // Three messages: the first finds out, the second and third were grouped already.
    let lengths: Vec<usize> = [1000, 800, 900]
        .iter()
        .flat_map(|len| [*len; 20].into_iter().chain([50]))
        .collect();
    let sent = pair.send(&lengths, 3, 0);
    assert_eq!(
        (
            pair.report.datagrams,
            pair.report.messages,
            pair.report.drops.total()
        ),
        (63, 63, 0)
    );
    assert_eq!(
        pair.report.gso_disabled,
        Some(GsoDisabled {
            errno: libc::EIO,
            zero_checksum: true
        })
    );
    assert!(!pair.tx.granted().gso && pair.tx.granted().zero_checksum);
    pair.expect(&sent);
    pair.report.clear();
    let sent = pair.send(&[1400; 20], 3, 0);
    assert_eq!(
        (pair.report.messages, pair.report.gso_disabled),
        (20, None),
        "said once"
    );
    pair.expect(&sent);
}

#[test]
fn a_socket_that_cannot_segment_falls_back() {
    let mut pair = pair_with(false, |config| config.checksum = UdpChecksum::On);
    for fd in pair.tx.tx_fds() {
        let one = 1i32;
        // SAFETY: an int option from a live int.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const one).cast(),
                4,
            )
        };
    }
    let sent = pair.send(&[1400; 10], 3, 0);
    assert_eq!(
        pair.report.gso_disabled,
        Some(GsoDisabled {
            errno: libc::EINVAL,
            zero_checksum: false
        })
    );
    assert_eq!((pair.report.datagrams, pair.report.drops.total()), (10, 0));
    pair.expect(&sent);
}

fn narrow_interface(v6: bool) {
    let mut pair = pair(v6);
    let news = if v6 { "fd09::2" } else { "10.9.0.2" };
    pair.a.ip("link set v0 mtu 1300");
    let news = PathMtuNews {
        dest: news.parse().unwrap(),
        mtu: 1300,
    };
    pair.send(&[1400], 3, 0);
    assert_eq!((pair.report.datagrams, pair.report.drops.too_long), (0, 1));
    assert_eq!(pair.report.path_mtu, [news]);
    // A superframe: its short last datagram fits, and segmentation stays on.
    pair.report.clear();
    let sent = pair.send(&[1400, 1400, 1400, 500], 3, 0);
    assert_eq!((pair.report.datagrams, pair.report.drops.too_long), (1, 3));
    assert_eq!(pair.report.path_mtu, [news]);
    assert!(pair.report.gso_disabled.is_none() && pair.tx.granted().gso);
    pair.expect(&sent[3..]);
    // What fits goes as one message again.
    pair.report.clear();
    let fits = 1300 - if v6 { 48 } else { 28 };
    let sent = pair.send(&[fits; 10], 3, 0);
    assert_eq!(
        (
            pair.report.messages,
            pair.report.datagrams,
            pair.report.drops.total()
        ),
        (1, 10, 0)
    );
    pair.expect(&sent);
}

#[test]
fn a_narrow_interface_is_reported_over_ipv4() {
    narrow_interface(false);
}

#[test]
fn a_narrow_interface_is_reported_over_ipv6() {
    narrow_interface(true);
}

#[test]
fn fragmentation_can_be_allowed() {
    for v6 in [false, true] {
        let mut pair = pair_with(v6, |config| config.path_mtu = PathMtu::Omit);
        let sent = pair.send(&[4000, 4000, 4000, 100], 3, 0);
        assert_eq!((pair.report.datagrams, pair.report.drops.total()), (4, 0));
        pair.expect(&sent);
    }
}

/// A router between A and B whose link to B carries 1,400 bytes.
#[test]
fn the_path_mtu_of_an_icmp_error_is_reported() {
    for v6 in [false, true] {
        let (a, r) = veth_pair();
        let b = Netns::new();
        r.ip(&format!(
            "link add v1 mtu 1400 type veth peer name v0 mtu 1400 netns {}",
            b.name
        ));
        for (ns, dev, host) in [(&r, "v1", 1), (&b, "v0", 2)] {
            ns.ip(&format!("addr add 10.9.1.{host}/24 dev {dev}"));
            ns.ip(&format!("addr add fd09:1::{host}/64 dev {dev} nodad"));
            ns.ip(&format!("link set {dev} up"));
        }
        r.enter(|| {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
            }
        });
        for (ns, v4, v6) in [(&a, "10.9.0.2", "fd09::2"), (&b, "10.9.1.1", "fd09:1::1")] {
            ns.ip(&format!("route add default via {v4}"));
            ns.ip(&format!("route add default via {v6}"));
        }
        let (local, remote) = if v6 {
            ("[fd09::1]:8472", "[fd09:1::2]:8472")
        } else {
            ("10.9.0.1:8472", "10.9.1.2:8472")
        };
        let tx = open(&a, &SocketConfig::new(at(local)));
        let rx = open(&b, &SocketConfig::new(at(remote)));
        let mut pair = Pair {
            a,
            b,
            tx,
            rx,
            dest: Dest::from(at(remote)),
            pool: pool(),
            report: TxReport::new(),
        };
        let news = PathMtuNews {
            dest: at(remote).ip(),
            mtu: 1400,
        };
        // It goes out and is lost at the router. The next to be sent hears of it, as a run of datagrams
        // or alone, and is sent all the same.
        for lengths in [&[1300][..], &[1300; 8]] {
            pair.send(&[1450], 3, 0);
            assert!(pair.report.path_mtu.is_empty());
            let sent = eventually("the path MTU", || {
                pair.report.clear();
                let sent = pair.send(lengths, 3, 0);
                if pair.report.path_mtu == [news] {
                    return Some(sent);
                }
                pair.expect(&sent);
                None
            });
            let count = lengths.len() as u64;
            let report = &pair.report;
            assert_eq!((report.messages, report.datagrams), (1, count));
            assert_eq!((report.icmp_errors, report.drops.total()), (1, 0));
            pair.expect(&sent);
            pair.report.clear();
        }
        // A ring sends from the same port, and no send finds out.
        pair.send(&[1450], 3, 0);
        let ports: Vec<u16> = pair.tx.tx_fds().map(port_of).collect();
        let index = ports
            .iter()
            .position(|port| *port == pair.tx.source_port(3));
        pair.report.clear();
        eventually("the path MTU", || {
            assert!(!pair.tx.drain_errors(index.unwrap(), &mut pair.report));
            (pair.report.path_mtu == [news]).then_some(())
        });
        assert_eq!((pair.report.icmp_errors, pair.report.datagrams), (1, 0));
    }
}

fn port_of(fd: &OwnedFd) -> u16 {
    let socket = UdpSocket::from(fd.try_clone().unwrap());
    socket.local_addr().unwrap().port()
}

#[test]
fn icmp_port_unreachable_kills_nothing() {
    for v6 in [false, true] {
        let mut pair = pair(v6);
        let open = pair.dest;
        for _ in 0..20 {
            pair.dest = Dest { port: 9, ..open };
            pair.send(&[100], 3, 0);
            std::thread::sleep(Duration::from_millis(2));
            pair.dest = open;
            let sent = pair.send(&[1400; 5], 3, 0);
            pair.expect(&sent);
        }
        assert_eq!(
            (pair.report.datagrams, pair.report.drops.total()),
            (120, 0),
            "{:?}",
            pair.report
        );
        assert!(pair.report.icmp_errors > 0, "the errors really came");
        let news = UnreachableNews {
            dest: open.into(),
            errno: libc::ECONNREFUSED,
        };
        assert_eq!(pair.report.unreachable, [news]);
    }
}

#[test]
fn no_route_is_counted_and_passes() {
    let mut pair = pair(false);
    let open = pair.dest;
    pair.dest = Dest::from(at("203.0.113.1:8472"));
    pair.send(&[1000, 1000], 3, 0);
    assert_eq!(
        (pair.report.datagrams, pair.report.drops.unreachable),
        (0, 2)
    );
    assert_eq!(pair.report.last_errno, libc::ENETUNREACH);
    let news = UnreachableNews {
        dest: pair.dest.into(),
        errno: libc::ENETUNREACH,
    };
    assert_eq!(pair.report.unreachable, [news]);
    pair.dest = open;
    let sent = pair.send(&[100], 3, 0);
    pair.expect(&sent);
}

#[test]
fn pieces_that_point_nowhere_are_counted_and_the_rest_goes() {
    let mut pair = pair(false);
    let bad = [
        Piece {
            src: Src::Slab,
            off: u32::MAX,
            len: 100,
        },
        Piece {
            src: Src::Slab,
            off: 0,
            len: u32::MAX,
        },
    ];
    for piece in bad {
        pair.tx.push(pair.dest, 3, 0, &[piece]).unwrap();
    }
    let sent = pair.send(&[100], 3, 0);
    assert_eq!((pair.report.drops.invalid, pair.report.datagrams), (2, 1));
    pair.expect(&sent);
}

#[test]
fn a_full_receive_buffer_is_counted() {
    let mut pair = pair(false);
    let small = SocketConfig {
        rcvbuf: 4096,
        ..SocketConfig::new(at("10.9.0.2:8473"))
    };
    pair.rx = open(&pair.b, &small);
    pair.dest.port = 8473;
    for _ in 0..20 {
        pair.send(&[1400; 10], 3, 0);
    }
    std::thread::sleep(Duration::from_millis(20));
    let mut received = Received::new();
    while receive(&mut pair.rx, &mut pair.pool, &mut received) > 0 {
        received.recycle(&mut pair.pool);
    }
    pair.send(&[100], 3, 0);
    eventually("the overflow counter", || {
        receive(&mut pair.rx, &mut pair.pool, &mut received);
        received.recycle(&mut pair.pool);
        (pair.rx.rx_counters(Lane::Quiet).overflow > 0).then_some(())
    });
}

#[test]
fn an_empty_pool_loses_nothing() {
    let mut pair = pair(false);
    let sent = pair.send(&[500; 3], 3, 0);
    std::thread::sleep(Duration::from_millis(10));
    let (mut empty, mut received) = (Pool::heap(1, 2048), Received::new());
    let taken = empty.alloc().unwrap();
    assert_eq!(receive(&mut pair.rx, &mut empty, &mut received), 0);
    for lane in Lane::ALL {
        assert_eq!(pair.rx.rx_counters(lane).no_buffer, 1);
    }
    empty.free(taken);
    pair.expect(&sent);
}

#[test]
fn a_taken_port_names_its_holder() {
    let (a, _b) = veth_pair();
    let config = SocketConfig::new(at("10.9.0.1:8472"));
    a.enter(|| {
        let held = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        let Err(SocketError::PortTaken {
            holder: PortHolder::Process { pid, .. },
            ..
        }) = open_fds(&config).map(drop)
        else {
            panic!("the port is held");
        };
        assert_eq!(pid, std::process::id());
        drop(held);
    });
    a.ip("link add flannel.1 type vxlan id 1 dstport 8472 local 10.9.0.1 dev v0");
    a.ip("link set flannel.1 up");
    let error = a.enter(|| open_fds(&config)).unwrap_err().to_string();
    assert!(
        error.contains("8472") && error.contains("10.9.0.1") && error.contains("flannel.1"),
        "{error}"
    );
    a.ip("link del flannel.1");
    a.enter(|| open_fds(&config)).unwrap();
}

#[test]
fn mistakes_have_their_own_errors() {
    let (a, _b) = veth_pair();
    let good = SocketConfig::new(at("10.9.0.1:8472"));
    let error = |config: SocketConfig| a.enter(|| UdpUnderlay::open(&config)).expect_err("refused");
    assert!(matches!(
        error(SocketConfig::new(at("10.9.9.9:8472"))),
        SocketError::NoSuchAddress { .. }
    ));
    let config = SocketConfig {
        device: Some("nope".into()),
        ..good.clone()
    };
    assert!(matches!(error(config), SocketError::Device { device, .. } if device == "nope"));
    for tx_ports in [0, 65] {
        let config = SocketConfig {
            tx_ports,
            ..good.clone()
        };
        assert!(matches!(
            error(config),
            SocketError::TxPorts { limit: 64, .. }
        ));
    }
    let config = SocketConfig {
        checksum: UdpChecksum::Off,
        ..SocketConfig::new(at("[fd09::1]:8472"))
    };
    assert!(matches!(
        error(config),
        SocketError::ZeroChecksumIpv6 { .. }
    ));
}

#[test]
fn workers_share_a_port_and_families_do_not_collide() {
    let (a, _b) = veth_pair();
    let shared = SocketConfig {
        workers: 2,
        device: Some("v0".into()),
        ..SocketConfig::new(at("10.9.0.1:8472"))
    };
    let one = open(&a, &shared);
    let two = open(&a, &shared);
    let six = open(&a, &SocketConfig::new(at("[fd09::1]:8472")));
    // What is handed over goes on working.
    let adopted = UdpUnderlay::adopt(&shared, two.into_fds()).unwrap();
    assert_eq!(adopted.granted(), one.granted());
    assert_eq!(six.tx_fds().count(), 2 * 8);
}
