//! A node of the kernel's VXLAN over a veth that passes superpackets whole, as between the nodes of kind
//! or k3d: what its pods send in one system call arrives as it was meant.

use crate::common::{LIMIT, assert_none};
use crate::harness::{network_test, skipped};
use crate::rings::{ring_test, xdp};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use ringway_packet::{kit, mac::MacAddr};
use ringway_perf::lab::{
    Family, Mode, Netns, NodeKind, Pod, RingwayOptions, Topology, Wire, installed, run,
};
use ringway_perf::traffic::{Pattern, transfer};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 7777;

fn beside_kernel() -> (Topology, [Pod; 3]) {
    on(Wire::Veth(Mode::Full), RingwayOptions::default())
}

fn on(wire: Wire<'_>, options: RingwayOptions) -> (Topology, [Pod; 3]) {
    let ringway = NodeKind::Ringway(options);
    let mut topology = Topology::on(wire, ringway, NodeKind::KernelVxlan).unwrap();
    let pods = topology.add_three_pods().unwrap();
    (topology, pods)
}

/// Sends `payload` in segments of `size`; the datagrams that arrive, with their sources.
fn send_segmented(
    [from, to]: [&Pod; 2],
    family: Family,
    payload: &[u8],
    size: i32,
    wanted: usize,
) -> Vec<(IpAddr, Vec<u8>)> {
    let target = SocketAddr::new(to.ip(family), PORT);
    let receiver = to.ns.run(|| UdpSocket::bind(target)).unwrap().unwrap();
    let source = SocketAddr::new(from.ip(family), 0);
    let sender = from.ns.run(|| UdpSocket::bind(source)).unwrap().unwrap();
    setsockopt(&sender, UdpGsoSegment, &size).unwrap();
    sender.send_to(payload, target).unwrap();
    let mut got = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // When all are there, a moment for what should not be.
        let wait = if got.len() < wanted { 1000 } else { 200 };
        receiver
            .set_read_timeout(Some(Duration::from_millis(wait)))
            .unwrap();
        match receiver.recv_from(&mut buffer) {
            Ok((len, source)) => got.push((source.ip(), buffer[..len].to_vec())),
            Err(_) => return got,
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Pattern::new(5).fill(&mut bytes);
    bytes
}

/// Checks that exactly the segments arrive, from whom they come, and that nothing was dropped.
fn check(
    topology: &mut Topology,
    pods: [&Pod; 2],
    family: Family,
    payload: &[u8],
    size: usize,
) -> Option<String> {
    let before = topology.n1.drops().unwrap();
    let expected: Vec<_> = payload
        .chunks(size)
        .map(|piece| (pods[0].ip(family), piece.to_vec()))
        .collect();
    let got = send_segmented(pods, family, payload, size as i32, expected.len());
    let drops = topology.n1.drops().unwrap().since(&before);
    let right = got.iter().zip(&expected).filter(|(a, b)| a == b).count();
    (got != expected || drops.total() > 0).then(|| {
        let from: BTreeSet<IpAddr> = got.iter().map(|(source, _)| *source).collect();
        format!(
            "{family}, {} bytes by {size}: {} datagrams arrived, from {from:?}, {right} of {} right; drops: {drops}",
            payload.len(),
            got.len(),
            expected.len(),
        )
    })
}

#[test]
fn segmented_udp_arrives_in_its_datagrams() {
    network_test(
        "segmented_udp_arrives_in_its_datagrams",
        Duration::from_secs(60),
        || {
            let (mut topology, [p1, _, p3]) = beside_kernel();
            let mut failures = Vec::new();
            for family in Family::BOTH {
                for (len, size) in [(10_000, 1000), (9_501, 1000), (64_000, 1372), (2_000, 33)] {
                    let payload = bytes(len);
                    failures.extend(check(&mut topology, [&p3, &p1], family, &payload, size));
                }
            }
            assert_none(&failures);
        },
    );
}

/// A ring has no field for the size of segments: with native XDP a veth's other end sends no superpackets.
#[test]
fn segmented_udp_arrives_by_rings() {
    let name = "segmented_udp_arrives_by_rings";
    ring_test(name, Duration::from_secs(60), || {
        let (mut topology, [p1, _, p3]) = on(Wire::Veth(Mode::Full), xdp());
        let status = topology.n1.agent().unwrap().json(&["status"]).unwrap();
        assert_eq!(status["underlay"]["rings"][0]["mode"], "native", "{status}");
        let mut failures = Vec::new();
        for family in Family::BOTH {
            for (len, size) in [(10_000, 1000), (2_000, 700), (900, 100)] {
                let payload = bytes(len);
                failures.extend(check(&mut topology, [&p3, &p1], family, &payload, size));
            }
            if let Err(error) = transfer(&p3.ns, &p1.ns, p1.ip(family), 3_000_001, LIMIT) {
                failures.push(format!("{family}, TCP: {error}"));
            }
        }
        assert_none(&failures);
    });
}

#[test]
fn a_frame_in_a_payload_is_not_delivered() {
    network_test(
        "a_frame_in_a_payload_is_not_delivered",
        Duration::from_secs(60),
        || {
            let (mut topology, [p1, _, p3]) = beside_kernel();
            let mut failures = Vec::new();
            for family in Family::BOTH {
                let v6 = family == Family::V6;
                let from = if v6 { "[fd77:2::99]:9" } else { "10.77.2.99:9" };
                let to = SocketAddr::new(p1.ip(family), PORT).to_string();
                let (vtep1, vtep2) = ([0x0a, 0x58, 10, 77, 1, 0], [0x0a, 0x58, 10, 77, 2, 0]);
                let forged = kit::udp(from, &*to)
                    .macs(MacAddr(vtep2), MacAddr(vtep1))
                    .payload(b"forged");
                // Where a datagram of 200 bytes would begin: behind VXLAN, Ethernet, IP and UDP.
                let headers = if v6 { 70 } else { 50 };
                let mut payload = vec![b'A'; 200 - headers];
                payload.extend([8, 0, 0, 0, 0, 0, 1, 0]);
                payload.extend(forged.frame());
                payload.resize(400 - headers, 0);
                payload.extend([b'B'; 100]);
                failures.extend(check(&mut topology, [&p3, &p1], family, &payload, 200));
            }
            assert_none(&failures);
        },
    );
}

/// The node forwards what comes for its client: without the size of its segments it could not.
#[test]
fn a_service_on_a_kernel_node_echoes_3_mb() {
    let name = "a_service_on_a_kernel_node_echoes_3_mb";
    if !installed("nft") {
        return skipped(name, "nft is not installed");
    }
    network_test(name, Duration::from_secs(60), || {
        let (mut topology, [p1, _, p3]) = beside_kernel();
        let node = topology.n1.ns.clone();
        let before = topology.n1.drops().unwrap();
        let mut failures = Vec::new();
        for (family, vip) in Family::BOTH.into_iter().zip(["10.96.0.13", "fd96::13"]) {
            let service = SocketAddr::new(vip.parse().unwrap(), 80);
            let backend = SocketAddr::new(p3.ip(family), 8080);
            translate(&node, service, backend);
            if let Err(error) = echo(&p1.ns, service, &p3.ns, backend, 3_000_001) {
                failures.push(format!("{family}: {error}"));
            }
        }
        let drops = topology.n1.drops().unwrap().since(&before);
        let odd: BTreeSet<&str> = ["unknown_vni", "malformed_ipv4", "malformed_ipv6"].into();
        failures.extend(
            odd.into_iter()
                .filter(|reason| drops.get(reason) > 0)
                .map(|reason| format!("{reason}: {}", drops.get(reason))),
        );
        assert_none(&failures);
    });
}

fn translate(node: &Netns, service: SocketAddr, backend: SocketAddr) {
    let ip = if service.is_ipv6() { "ip6" } else { "ip" };
    let (vip, port) = (service.ip(), service.port());
    let script = format!(
        "table {ip} services {{ chain pre {{ type nat hook prerouting priority dstnat;
         {ip} daddr {vip} tcp dport {port} dnat {ip} to {backend}; }}\n}}"
    );
    node.run(|| run("nft", &[script])).unwrap().unwrap();
}

/// `bytes` to `target` and back from the server at `bind`.
fn echo(
    from: &Netns,
    target: SocketAddr,
    to: &Netns,
    bind: SocketAddr,
    len: usize,
) -> Result<(), String> {
    let listener = to.run(|| TcpListener::bind(bind)).unwrap().unwrap();
    let client = from.run(|| TcpStream::connect_timeout(&target, LIMIT));
    let mut client = client.unwrap().map_err(|e| format!("connect: {e}"))?;
    let (mut server, _) = listener.accept().map_err(|e| format!("accept: {e}"))?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
    }
    let sent = bytes(len);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 128 << 10];
            while let Ok(n @ 1..) = server.read(&mut buffer) {
                if server.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            // An end of the connection either way, so that nobody waits for the other.
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut writer = client.try_clone().unwrap();
        let writer = scope.spawn({
            let sent = &sent;
            move || {
                let written = writer.write_all(sent);
                let _ = writer.shutdown(Shutdown::Write);
                written
            }
        });
        let mut got = vec![0; len];
        let mut done = 0;
        let begin = Instant::now();
        let read = loop {
            match client.read(&mut got[done..]) {
                Ok(0) => break Ok(()),
                Ok(n) => done += n,
                Err(e) => break Err(e),
            }
            if done == len {
                break Ok(());
            }
            // A byte now and then, by retransmission, is a stall too.
            if begin.elapsed() > 5 * LIMIT {
                break Err(std::io::ErrorKind::TimedOut.into());
            }
        };
        let _ = client.shutdown(Shutdown::Both);
        let written = writer.join().unwrap();
        read.map_err(|e| format!("{done} of {len} bytes came back, then: {e}"))?;
        written.map_err(|e| format!("write: {e}"))?;
        match got == sent {
            true => Ok(()),
            false => Err(format!("{done} of {len} bytes came back, or others")),
        }
    })
}
