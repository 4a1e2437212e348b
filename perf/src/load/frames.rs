//! The frames: a template for each size, and what differs from packet to packet.
//!
//! Flow, stamp and checksums are written over a copy of the template. The sum of what stays the same is
//! known, so the UDP checksum costs no look at the payload.

use std::net::IpAddr;

use ringway_packet::mac::MacAddr;
use ringway_packet::{checksum, ipv4, ipv6, kit, proto, udp};

use super::stamp::{STAMP, Stamp};
use super::{LoadError, Mix};
use crate::lab::Family;

/// Ethernet header.
const ETHERNET: usize = 14;
/// Source ports of flows.
const FIRST_PORT: u16 = 1024;
const PORTS: u32 = 64_000;

/// Where packets come from and go to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flow {
    /// Source and destination MAC.
    pub macs: (MacAddr, MacAddr),
    /// First source address.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// Flows: source ports from 1024 on, dealt out to the source addresses in turn.
    pub flows: u32,
    /// Source addresses, counting up from the first.
    pub addresses: u32,
}

struct Template {
    bytes: Vec<u8>,
    /// Of pseudo-header, UDP header and payload, without source and stamp.
    sum: checksum::Sum,
}

/// Makes the frames of one run.
pub struct Frames {
    flow: Flow,
    mix: Mix,
    run: u32,
    templates: Vec<Template>,
}

impl Frames {
    /// Frames of `mix`, made to fit the family, of run `run`.
    ///
    /// # Errors
    /// Two families, a frame that is too long, more flows than source ports.
    pub fn new(flow: Flow, mix: &Mix, run: u32) -> Result<Frames, LoadError> {
        let (from, to) = (flow.from, flow.to);
        if from.is_ipv4() != to.is_ipv4() {
            return Err(LoadError::Families { from, to });
        }
        let addresses = flow.addresses.max(1);
        if flow.flows.div_ceil(addresses) > PORTS {
            return Err(LoadError::Flows {
                flows: flow.flows,
                addresses,
                most: PORTS,
            });
        }
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let mix = mix.fit(family)?;
        let templates = mix.sizes().map(|size| template(&flow, size)).collect();
        Ok(Frames {
            flow: Flow {
                flows: flow.flows.max(1),
                addresses,
                ..flow
            },
            mix,
            run,
            templates,
        })
    }

    /// The sizes there are.
    pub fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Which run it is.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Writes packet `seq` to the beginning of `out`, which has room for the largest; returns its length.
    #[inline]
    pub fn data(&self, out: &mut [u8], seq: u64, time: u64) -> usize {
        let size = self.mix.index(seq, self.flow.flows);
        let stamp = Stamp {
            kind: super::Kind::Data,
            run: self.run,
            seq,
            time,
        };
        self.write(
            out,
            size,
            (seq % u64::from(self.flow.flows)) as u32,
            &stamp.encode(),
        )
    }

    /// Writes a packet that says that `sent` packets were sent.
    pub fn end(&self, out: &mut [u8], sent: u64, time: u64) -> usize {
        let stamp = Stamp {
            kind: super::Kind::End,
            run: self.run,
            seq: sent,
            time,
        };
        self.write(out, 0, 0, &stamp.encode())
    }

    #[inline]
    fn write(&self, out: &mut [u8], size: usize, flow: u32, stamp: &[u8; STAMP]) -> usize {
        let template = &self.templates[size];
        let len = template.bytes.len();
        let out = &mut out[..len];
        out.copy_from_slice(&template.bytes);
        let (address, port) = (flow % self.flow.addresses, flow / self.flow.addresses);
        let port = FIRST_PORT + port as u16;
        let (l4, source) = match self.flow.from {
            IpAddr::V4(from) => {
                let l4 = ETHERNET + ipv4::MIN_LEN;
                let source = from.to_bits().wrapping_add(address);
                out[ETHERNET + ipv4::field::SRC..][..4].copy_from_slice(&source.to_be_bytes());
                ipv4::fill_checksum(&mut out[ETHERNET..l4]);
                (l4, checksum::Sum::of32(source))
            }
            IpAddr::V6(from) => {
                let source = from.to_bits().wrapping_add(address.into()).to_be_bytes();
                out[ETHERNET + ipv6::field::SRC..][..16].copy_from_slice(&source);
                (ETHERNET + ipv6::LEN, checksum::sum(&source))
            }
        };
        let sum = template.sum + source + checksum::Sum::of16(port) + checksum::sum(stamp);
        out[l4 + udp::field::SRC_PORT..][..2].copy_from_slice(&port.to_be_bytes());
        out[l4 + udp::field::CHECKSUM..][..2]
            .copy_from_slice(&checksum::finish_udp(sum).to_be_bytes());
        out[l4 + udp::LEN..][..STAMP].copy_from_slice(stamp);
        len
    }
}

/// A frame of `size` bytes, with source, stamp and checksum zero.
fn template(flow: &Flow, size: usize) -> Template {
    let family = if flow.to.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let headers = ETHERNET + family.udp_overhead();
    let payload: Vec<u8> = std::iter::repeat_n(0, STAMP)
        .chain((0..).map(|i: u32| i as u8))
        .take(size - headers)
        .collect();
    let mut bytes = kit::udp((flow.from, 0), (flow.to, flow.port))
        .macs(flow.macs.0, flow.macs.1)
        .dont_fragment()
        .payload(&payload)
        .frame();
    let l4 = headers - udp::LEN;
    bytes[l4 + udp::field::CHECKSUM..][..2].fill(0);
    let len = bytes.len() - l4;
    let pseudo = match flow.to {
        IpAddr::V4(to) => checksum::pseudo_v4(0, to.to_bits(), proto::UDP, len),
        IpAddr::V6(to) => checksum::pseudo_v6(0, to.to_bits(), proto::UDP, len),
    };
    let sum = pseudo + checksum::sum(&bytes[l4..]);
    Template { bytes, sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::parse::parse;
    use std::collections::BTreeSet;

    fn flow(from: &str, to: &str, flows: u32, addresses: u32) -> Flow {
        Flow {
            macs: (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            port: 9,
            flows,
            addresses,
        }
    }

    #[test]
    fn every_frame_is_whole_and_its_checksums_are_right() {
        for (from, to) in [("10.0.0.1", "10.0.1.2"), ("fd00::1", "fd00::ff")] {
            let frames = Frames::new(flow(from, to, 10, 3), &Mix::imix(), 77).unwrap();
            let (mut out, mut sources) = (vec![0xaa; 2000], BTreeSet::new());
            for seq in 0..240 {
                let len = frames.data(&mut out, seq, seq * 1_000_003);
                let parsed = parse(&out[..len], len).unwrap();
                assert!(kit::l4_is_right(&out[14..len]), "{to} {seq}");
                assert_eq!(parsed.ip_end(), len);
                if to.contains('.') {
                    assert_eq!(checksum::fold(checksum::sum(&out[14..34])), 0xffff);
                    sources.insert((out[26..30].to_vec(), parsed.src_port));
                } else {
                    sources.insert((out[22..38].to_vec(), parsed.src_port));
                }
                assert_eq!(parsed.dst_port, 9);
                let stamp = Stamp::decode(&out[usize::from(parsed.payload_off)..len]).unwrap();
                assert_eq!(
                    (stamp.run, stamp.seq, stamp.time),
                    (77, seq, seq * 1_000_003)
                );
            }
            assert_eq!(sources.len(), 10, "{sources:?}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_mix() {
        let count = |to, from, wanted: [usize; 3]| {
            let frames = Frames::new(flow(from, to, 1, 1), &Mix::imix(), 1).unwrap();
            let mut out = vec![0; 2000];
            let mut counts = [0; 3];
            for seq in 0..1200 {
                let len = frames.data(&mut out, seq, 0);
                counts[wanted.iter().position(|&size| size == len).unwrap()] += 1;
            }
            assert_eq!(counts, [700, 400, 100]);
        };
        count("10.0.1.2", "10.0.0.1", [64, 570, 1400]);
        count("fd00::2", "fd00::1", [84, 570, 1400]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |flow: Flow, size| {
            Frames::new(flow, &Mix::one(size), 1)
                .err()
                .unwrap()
                .to_string()
        };
        let mixed = refused(flow("10.0.0.1", "fd00::1", 1, 1), 64);
        assert!(mixed.contains("two families"), "{mixed}");
        let many = refused(flow("10.0.0.1", "10.0.0.2", 200_000, 2), 64);
        assert!(
            many.contains("200000 flows") && many.contains("64000"),
            "{many}"
        );
        assert!(Frames::new(flow("10.0.0.1", "10.0.0.2", 128_000, 2), &Mix::one(64), 1).is_ok());
        let long = refused(flow("10.0.0.1", "10.0.0.2", 1, 1), 10_000);
        assert!(long.contains("10000"), "{long}");
    }
}
