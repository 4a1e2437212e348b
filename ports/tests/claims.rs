//! Path MTUs that ICMP claims, from a forger who knows addresses and ports: which are believed, and that
//! none of them makes the kernel hold datagrams back.

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Netns, eventually, pool, veth_pair};
use ringway_packet::checksum::{self, Sum};
use ringway_ports::raw::RawSender;
use ringway_ports::socket::{
    Dest, PathMtuNews, Piece, SocketConfig, Src, TxReport, UdpUnderlay, least_mtu,
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa];

/// A frame to [`MAC`] in which `router` says that a datagram from `from` to `to` was longer than `mtu`:
/// RFC 1191 section 4, RFC 4443 section 3.2.
fn too_big(from: SocketAddr, to: SocketAddr, mtu: u16) -> Vec<u8> {
    let mut udp = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    udp.extend([0x05, 0x80, 0, 0]);
    let mut frame = [MAC, [2, 0, 0, 0, 0, 0xb]].concat();
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let ip = |protocol, len: u16, src: [u8; 4], dst: [u8; 4]| {
                let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                ip.extend([src, dst].concat());
                let sum = !checksum::fold(checksum::sum(&ip));
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                ip
            };
            let (src, dst) = (from.ip().octets(), to.ip().octets());
            let mut icmp = vec![3, 4, 0, 0, 0, 0];
            icmp.extend(mtu.to_be_bytes());
            icmp.extend([ip(17, 1428, src, dst), udp].concat());
            let sum = !checksum::fold(checksum::sum(&icmp));
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip(1, 20 + icmp.len() as u16, dst, src));
            frame.extend(icmp);
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let ip = |protocol, len: u16, src: u128, dst: u128| {
                let mut ip = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
                ip[4..6].copy_from_slice(&len.to_be_bytes());
                ip.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
                ip
            };
            let (src, dst) = (from.ip().to_bits(), to.ip().to_bits());
            let mut icmp = vec![2, 0, 0, 0, 0, 0];
            icmp.extend(mtu.to_be_bytes());
            icmp.extend([ip(17, 1408, src, dst), udp].concat());
            let pseudo: Sum = checksum::pseudo_v6(dst, src, 58, icmp.len());
            let sum = !checksum::fold(pseudo + checksum::sum(&icmp));
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            frame.extend([0x86, 0xdd]);
            frame.extend(ip(58, icmp.len() as u16, dst, src));
            frame.extend(icmp);
        }
        _ => unreachable!("one family"),
    }
    frame
}

fn claims(v6: bool) {
    let (a, b) = veth_pair();
    a.ip(&format!(
        "link set v0 address {}",
        MAC.map(|byte| format!("{byte:02x}")).join(":")
    ));
    let (local, remote): (SocketAddr, SocketAddr) = if v6 {
        (
            "[fd09::1]:8472".parse().unwrap(),
            "[fd09::2]:8472".parse().unwrap(),
        )
    } else {
        (
            "10.9.0.1:8472".parse().unwrap(),
            "10.9.0.2:8472".parse().unwrap(),
        )
    };
    let config = SocketConfig {
        tx_ports: 1,
        ..SocketConfig::new(local)
    };
    let mut tx = a.enter(|| UdpUnderlay::open(&config)).unwrap();
    // Or its node says that nobody listens.
    let _listener = b.enter(|| UdpSocket::bind(remote)).unwrap();
    let forger = forger(&b);
    let from = SocketAddr::new(local.ip(), tx.source_port(0));
    let least = least_mtu(remote.ip()) as u16;
    let news = PathMtuNews {
        dest: remote.ip(),
        mtu: u32::from(least),
    };
    let mut report = TxReport::new();
    for (mtu, news, ignored) in [
        (0, &[][..], 1),
        (68, &[], 1),
        (least - 1, &[], 1),
        (least, &[news], 0),
    ] {
        assert_eq!(forger.send(&[&too_big(from, remote, mtu)]).unwrap(), 1);
        eventually("the error", || {
            tx.drain_errors(0, &mut report);
            (report.icmp_errors == 1).then_some(())
        });
        assert_eq!(
            (&report.path_mtu[..], report.path_mtu_ignored),
            (news, ignored),
            "{mtu}"
        );
        report.clear();
        // Whoever believes it sends less; the kernel refuses nothing.
        send(&mut tx, remote, 1400, &mut report);
        assert_eq!((report.datagrams, report.drops.total()), (1, 0), "{mtu}");
        report.clear();
    }
}

fn forger(ns: &Netns) -> RawSender {
    let index = ns.exec("cat /sys/class/net/v0/ifindex");
    ns.enter(|| RawSender::open(index.trim().parse().unwrap()).unwrap())
}

fn send(tx: &mut UdpUnderlay, to: SocketAddr, len: u32, report: &mut TxReport) {
    let mut pool = pool();
    let buf = pool.alloc().unwrap();
    let piece = Piece {
        src: Src::Pool(buf.id()),
        off: 0,
        len,
    };
    tx.push(Dest::from(to), 0, 0, &[piece]).unwrap();
    tx.flush(&pool, report);
    pool.free(buf);
}

#[test]
fn what_no_ipv4_path_has_is_not_believed() {
    claims(false);
}

#[test]
fn what_no_ipv6_path_has_is_not_believed() {
    claims(true);
}
