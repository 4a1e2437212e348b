//! The underlay's packets bit by bit: its interface is a TAP, whose other side is this test.

mod common;

use std::sync::Arc;

use common::{Netns, collect, eventually, expect_silence, pool, receive};
use ringway_ports::socket::{
    Dest, PathMtu, Piece, SocketConfig, Src, TxReport, UdpChecksum, UdpUnderlay,
};
use ringway_ports::tap::{Tap, TapOptions, create_persistent};
use ringway_ports::{Batch, Frame, Pool, Port, Tail};

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

struct Wire {
    ns: Netns,
    tap: Tap,
    pool: Pool,
}

impl Wire {
    fn new() -> Wire {
        let ns = Netns::new();
        let opened = ns
            .enter(|| create_persistent("t0", &TapOptions::default()))
            .unwrap();
        ns.ip("addr add 10.9.0.1/24 dev t0");
        ns.ip("addr add fd09::1/64 dev t0 nodad");
        ns.ip("link set t0 up");
        ns.ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev t0");
        ns.ip("neigh add fd09::2 lladdr 02:00:00:00:00:02 dev t0");
        Wire {
            ns,
            tap: Tap::new(Arc::new(opened.fd), 0),
            pool: pool(),
        }
    }

    fn open(&self, config: &SocketConfig) -> UdpUnderlay {
        self.ns.enter(|| UdpUnderlay::open(config)).unwrap()
    }

    /// Sends 100 bytes to the peer and returns the frame on the wire, its checksum as the kernel left it.
    fn sent(&mut self, underlay: &mut UdpUnderlay, dest: &str, tos: u8) -> (Vec<u8>, Frame) {
        let (off, bytes) = underlay.slab(100).unwrap();
        bytes.fill(0x5a);
        let dest = Dest::from(dest.parse::<std::net::SocketAddr>().unwrap());
        underlay
            .push(
                dest,
                0,
                tos,
                &[Piece {
                    src: Src::Slab,
                    off,
                    len: 100,
                }],
            )
            .unwrap();
        let mut report = TxReport::new();
        underlay.flush(&self.pool, &mut report);
        assert_eq!(
            (report.datagrams, report.drops.total()),
            (1, 0),
            "{report:?}"
        );
        let mut batch = Batch::new();
        eventually("the datagram on the wire", || {
            batch.recycle(&mut self.pool);
            self.tap.receive(&mut self.pool, &mut batch, 1).unwrap();
            let frame = *batch.frames.first()?;
            let bytes =
                self.pool.bytes(frame.buf)[frame.start as usize..][..frame.len as usize].to_vec();
            bytes.ends_with(&[0x5a; 100]).then_some((bytes, frame))
        })
    }

    /// Puts a frame on the wire towards the node.
    fn put(&mut self, packet: &[u8]) {
        let mut batch = Batch::new();
        let buf = self.pool.alloc().unwrap();
        self.pool.bytes_mut(buf.id())[192..192 + packet.len()].copy_from_slice(packet);
        let len = packet.len() as u32;
        let offload = Default::default();
        let frame = Frame {
            buf: buf.id(),
            start: 192,
            linear: len,
            len,
            tail: Tail::default(),
            offload,
            packets: 1,
            port: 0,
            slot: ringway_ports::SHARED,
        };
        batch.push(frame, buf).unwrap();
        self.tap.transmit(&mut self.pool, &batch, &frame).unwrap();
        batch.recycle(&mut self.pool);
    }

    fn mac(&self) -> [u8; 6] {
        let text = self.ns.ip("link show dev t0");
        let text = text.split("link/ether ").nth(1).unwrap();
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(text[..17].split(':')) {
            *byte = u8::from_str_radix(digits, 16).unwrap();
        }
        mac
    }
}

fn config(local: &str) -> SocketConfig {
    SocketConfig {
        tx_ports: 1,
        ..SocketConfig::new(local.parse().unwrap())
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn ipv4_datagrams_carry_what_was_configured() {
    let mut wire = Wire::new();
    let mut underlay = wire.open(&config("10.9.0.1:8472"));
    let (bytes, frame) = wire.sent(&mut underlay, "10.9.0.2:8472", 0xba);
    assert_eq!(bytes.len(), 14 + 20 + 8 + 100);
    assert_eq!(bytes[15], 0xba, "TOS");
    assert_eq!(bytes[20] & 0x40, 0x40, "DF");
    assert!(u16::from_be_bytes([bytes[34], bytes[35]]) >= 49_152);
    assert_eq!(bytes[36..38], 8472u16.to_be_bytes());
    // The TAP takes checksums undone, so the kernel left this one.
    assert_ne!(
        frame.offload.checksum,
        ringway_packet::offload::Checksum::Complete
    );
    drop(underlay);

    let off = SocketConfig {
        checksum: UdpChecksum::Off,
        path_mtu: PathMtu::Omit,
        ..config("10.9.0.1:8472")
    };
    let mut underlay = wire.open(&off);
    assert!(underlay.granted().zero_checksum && !underlay.granted().gso);
    let (bytes, frame) = wire.sent(&mut underlay, "10.9.0.2:8472", 0);
    assert_eq!(bytes[20] & 0x40, 0, "no DF");
    assert_eq!(bytes[40..42], [0, 0], "zero checksum");
    assert_eq!(
        frame.offload.checksum,
        ringway_packet::offload::Checksum::Complete
    );
}

#[test]
fn ipv6_datagrams_carry_what_was_configured() {
    let mut wire = Wire::new();
    let mut underlay = wire.open(&config("[fd09::1]:8472"));
    let (bytes, _) = wire.sent(&mut underlay, "[fd09::2]:8472", 0xba);
    assert_eq!(bytes.len(), 14 + 40 + 8 + 100);
    assert_eq!(
        (bytes[14], bytes[15] & 0xf0),
        (0x6b, 0xa0),
        "version and traffic class"
    );
    assert_ne!(bytes[60..62], [0, 0], "checksum");
}

#[test]
fn a_zero_checksum_is_received_over_ipv4() {
    let mut wire = Wire::new();
    let mut underlay = wire.open(&config("10.9.0.1:8472"));
    let mut packet = [&wire.mac()[..], &PEER_MAC, &[8, 0]].concat();
    packet.extend([
        0x45, 0x03, 0, 128, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1,
    ]);
    let checksum = sum(&packet[14..34]);
    packet[24..26].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0xc3, 0x50, 0x21, 0x18, 0, 108, 0, 0]);
    packet.extend([0x77; 100]);
    wire.put(&packet);
    let (got, _) = collect(&mut underlay, &mut wire.pool, 1);
    assert_eq!(got, [(vec![0x77; 100], 50_000, 3)]);
    // A wrong one is not.
    packet[40] = 1;
    wire.put(&packet);
    expect_silence(&mut underlay, &mut wire.pool);
}

#[test]
fn a_zero_checksum_is_refused_over_ipv6() {
    let mut wire = Wire::new();
    let mut underlay = wire.open(&config("[fd09::1]:8472"));
    let mut packet = [&wire.mac()[..], &PEER_MAC, &[0x86, 0xdd]].concat();
    packet.extend([0x60, 0, 0, 0, 0, 108, 17, 64]);
    let address = |last| [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    packet.extend(address(2));
    packet.extend(address(1));
    packet.extend([0xc3, 0x50, 0x21, 0x18, 0, 108, 0, 0]);
    packet.extend([0x77; 100]);
    wire.put(&packet);
    expect_silence(&mut underlay, &mut wire.pool);
    // The same with its checksum arrives, so it was the checksum.
    let pseudo = [&packet[22..54], &[0, 0, 0, 108, 0, 0, 0, 17], &packet[54..]].concat();
    let checksum = sum(&pseudo);
    packet[60..62].copy_from_slice(&checksum.to_be_bytes());
    wire.put(&packet);
    collect(&mut underlay, &mut wire.pool, 1);
}

#[test]
fn an_empty_datagram_does_no_harm() {
    let mut wire = Wire::new();
    let mut underlay = wire.open(&config("10.9.0.1:8472"));
    let mut packet = [&wire.mac()[..], &PEER_MAC, &[8, 0]].concat();
    packet.extend([
        0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1,
    ]);
    let checksum = sum(&packet[14..34]);
    packet[24..26].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0xc3, 0x50, 0x21, 0x18, 0, 8, 0, 0]);
    wire.put(&packet);
    let mut received = ringway_ports::socket::Received::new();
    eventually("the empty datagram", || {
        (receive(&mut underlay, &mut wire.pool, &mut received) > 0).then_some(())
    });
    assert_eq!(
        (received.datagrams[0].len, received.datagrams[0].segment),
        (0, 1)
    );
    received.recycle(&mut wire.pool);
}
