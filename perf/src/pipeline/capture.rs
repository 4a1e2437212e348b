//! Where frames come from: a pcap file, or made in memory.
//!
//! What is made is UDP from one pod to 250 addresses of one network (a /24 or a /64), each flow with
//! a source port and destination of its own, neighbours in the order of sending of different flows.
//! For `decap` each frame is carried in VXLAN from a peer's underlay address to ours.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, ensure};
use ringway_encap::Encap;
use ringway_encap::outer::{Fields, OuterHeader, OuterSpec, TransportSpec, UdpChecksum};
use ringway_packet::checksum;
use ringway_packet::flow::flow_hash;
use ringway_packet::kit;
use ringway_packet::mac::MacAddr;
use ringway_packet::parse::parse;

use super::Scenario;
use crate::lab::Family;

/// VXLAN as Flannel and the Linux kernel have it.
pub(crate) const VXLAN_PORT: u16 = 8472;
/// Bytes of the frame check sequence: counted in sizes, as in RFC 2544, and never in memory.
const FCS: u16 = 4;
/// Bytes in front of a frame while its outer headers are written.
const HEADROOM: usize = 128;
const SRC_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// Length of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Every frame, in bytes on the wire with the frame check sequence, as in RFC 2544.
    Bytes(u16),
    /// Simple IMIX: of twelve frames seven of 64, four of 594, one of 1,518 bytes.
    Imix,
}

impl Size {
    const MIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];

    /// Bytes of the `i`-th frame in memory.
    fn of(self, i: usize) -> usize {
        let wire = match self {
            Size::Bytes(bytes) => bytes,
            Size::Imix => Size::MIX[i % Size::MIX.len()],
        };
        usize::from(wire - FCS)
    }

    /// Frames that hold `flows` flows and the whole mix.
    fn frames(self, flows: u32) -> usize {
        match self {
            Size::Bytes(_) => flows as usize,
            Size::Imix => (flows as usize).next_multiple_of(Size::MIX.len()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Bytes(bytes) => write!(f, "{bytes}"),
            Size::Imix => f.write_str("imix"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        match text.parse() {
            Ok(bytes @ 64..=1518) => Ok(Size::Bytes(bytes)),
            _ if text.eq_ignore_ascii_case("imix") => Ok(Size::Imix),
            _ => Err("expected bytes on the wire, 64 to 1518, or imix".into()),
        }
    }
}

/// `4` or `6` on the command line.
pub(super) fn family(text: &str) -> Result<Family, String> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err("expected 4 or 6".into()),
    }
}

/// Frames to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// For decap, frames have outer headers.
    pub scenario: Scenario,
    /// Of the (inner) packets.
    pub family: Family,
    /// Of the outer headers.
    pub underlay: Family,
    /// Different pairs of source port and destination address.
    pub flows: u32,
    /// Of the (inner) frame. IPv6 has no UDP packet in 64 bytes: there it is 66.
    pub size: Size,
}

impl Traffic {
    /// 64-byte frames, the underlay of the pods' family.
    pub fn small(scenario: Scenario, family: Family, flows: u32) -> Traffic {
        Traffic {
            scenario,
            family,
            underlay: family,
            flows,
            size: Size::Bytes(64),
        }
    }

    /// The frames.
    ///
    /// # Errors
    /// Outer headers that cannot be written: not with the sizes [`Size`] allows.
    pub fn frames(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let headers = 14 + self.family.udp_overhead();
        let inner = (0..self.size.frames(self.flows)).map(|i| {
            let flow = i as u32 % self.flows;
            let (src, dst) = ends(self.family, flow);
            kit::udp(src, dst)
                .macs(SRC_MAC, DST_MAC)
                .id(i as u16)
                .payload_len(self.size.of(i).saturating_sub(headers))
                .frame()
        });
        if !self.scenario.is_decap() {
            return Ok(inner.collect());
        }
        let outer = outer(self.underlay, MacAddr([2, 0, 0, 0, 0x99, 1]))?;
        inner.map(|frame| carried(&outer, &frame)).collect()
    }
}

/// Source and destination of a flow. Source ports repeat after 60,000 flows, with other destinations.
fn ends(family: Family, flow: u32) -> ((IpAddr, u16), (IpAddr, u16)) {
    let port = 1024 + (u64::from(flow) * 7919 % 60_000) as u16;
    let host = 2 + ((flow + flow / 60_000) % 250) as u16;
    let (src, dst): (IpAddr, IpAddr) = match family {
        Family::V4 => (
            Ipv4Addr::new(10, 1, 1, 2).into(),
            Ipv4Addr::new(10, 2, 0, host as u8).into(),
        ),
        Family::V6 => (
            Ipv6Addr::new(0xfd10, 1, 0, 0, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0xfd10, 2, 0, 0, 0, 0, 0, host).into(),
        ),
    };
    ((src, port), (dst, 5201))
}

/// Our underlay address and the peer's.
pub(crate) fn underlay(family: Family) -> (IpAddr, IpAddr) {
    let of = |node: u8| -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(192, 168, 177, node).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x177, 0, 0, 0, 0, 0, node.into()).into(),
        }
    };
    (of(1), of(2))
}

/// Outer headers of a peer towards us, whose MAC is `dst_mac`.
fn outer(family: Family, dst_mac: MacAddr) -> anyhow::Result<OuterHeader> {
    let (ours, theirs) = underlay(family);
    let spec = OuterSpec {
        src_mac: MacAddr([2, 0, 0, 0, 0x99, 2]),
        dst_mac,
        src: theirs,
        dst: ours,
        encap: Encap::Vxlan { vni: 1 },
        transport: TransportSpec::Udp {
            dst_port: VXLAN_PORT,
            checksum: match family {
                Family::V4 => UdpChecksum::Zero,
                Family::V6 => UdpChecksum::Full,
            },
        },
        ttl: 64,
        dont_fragment: true,
    };
    Ok(OuterHeader::new(&spec)?)
}

/// `frame` behind its outer headers.
fn carried(header: &OuterHeader, frame: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADROOM];
    bytes.extend_from_slice(frame);
    let parsed = parse(frame, frame.len()).context("an inner frame just made")?;
    let fields = Fields {
        src_port: 49_152 | flow_hash(&parsed) as u16,
        tos: 0,
        id: 0,
    };
    let sum = header.needs_sum().then(|| checksum::sum(frame));
    let at = header
        .push(&mut bytes, HEADROOM, frame.len(), fields, sum)
        .context("outer headers")?;
    Ok(bytes.split_off(at))
}

/// The frames of a pcap file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = ringway_ports::pcap::Reader::new(std::io::BufReader::new(file))
        .with_context(|| format!("{} is not a pcap file", path.display()))?;
    let mut frames = Vec::new();
    while let Some(record) = reader
        .next_packet()
        .with_context(|| format!("{}: after {} frames", path.display(), frames.len()))?
    {
        frames.push(record.bytes.to_vec());
    }
    ensure!(!frames.is_empty(), "{} holds no frame", path.display());
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ringway_encap::outer::{pop_outer, verify_checksum};
    use ringway_packet::parse::L3;

    use super::*;

    /// Addresses and ports.
    fn flow(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let parsed = parse(frame, frame.len()).unwrap();
        let (l3, l4) = (usize::from(parsed.l3_off), usize::from(parsed.l4_off));
        let addresses = l3 + if parsed.l3 == L3::Ipv4 { 12 } else { 8 };
        (frame[addresses..l4].to_vec(), frame[l4..l4 + 4].to_vec())
    }

    #[test]
    fn every_flow_is_another_also_beyond_the_number_of_source_ports() {
        for family in Family::BOTH {
            let frames = Traffic::small(Scenario::Encap, family, 130_000)
                .frames()
                .unwrap();
            let different: HashSet<_> = frames.iter().map(|f| flow(f)).collect();
            assert_eq!(
                (frames.len(), different.len()),
                (130_000, 130_000),
                "{family}"
            );
            let hosts: HashSet<_> = different.iter().map(|(addresses, _)| addresses).collect();
            assert_eq!(hosts.len(), 250, "{family}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_wire_without_the_check_sequence() {
        let lengths = |family, size| -> Vec<usize> {
            let traffic = Traffic {
                size,
                ..Traffic::small(Scenario::Forward, family, 3)
            };
            traffic.frames().unwrap().iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(Family::V4, Size::Bytes(64)), [60; 3]);
        assert_eq!(lengths(Family::V6, Size::Bytes(64)), [62; 3]);
        assert_eq!(lengths(Family::V6, Size::Bytes(1400)), [1396; 3]);
        let mut mix = lengths(Family::V4, Size::Imix);
        mix.sort_unstable();
        assert_eq!(mix, [[60; 7].as_slice(), &[590; 4], &[1514]].concat());
    }

    #[test]
    fn a_size_is_bytes_or_imix() {
        for good in ["64", "imix", "1518"] {
            assert_eq!(good.parse::<Size>().unwrap().to_string(), good);
        }
        for bad in ["63", "1519", "", "-1", "mix"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_peer_carries_has_right_checksums_and_the_inner_frame_whole() {
        for (family, underlay) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
            let traffic = Traffic {
                underlay,
                ..Traffic::small(Scenario::Decap, family, 300)
            };
            let inner = Traffic {
                scenario: Scenario::Encap,
                ..traffic
            };
            let frames = traffic.frames().unwrap().into_iter();
            let mut ports = HashSet::new();
            for (frame, expected) in frames.zip(inner.frames().unwrap()) {
                let outer = pop_outer(&frame, frame.len()).unwrap();
                verify_checksum(&outer, checksum::sum(&frame[outer.payload_off..])).unwrap();
                assert_eq!(outer.dst_port, VXLAN_PORT);
                let (_, theirs) = super::underlay(underlay);
                assert_eq!(ringway_packet::addr::to_ip(outer.src), theirs);
                assert_eq!(frame[outer.payload_off + 8..], expected[..]);
                assert!(kit::l4_is_right(&expected[14..]));
                ports.insert(outer.src_port);
            }
            assert!(ports.len() > 250, "{} outer source ports", ports.len());
        }
    }
}
