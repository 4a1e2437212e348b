//! The full walk: every kind of frame, and every error.

use super::{
    Addresses, DONT_FRAGMENT, ETHERNET, FRAGMENT_BITS, Fragment, L3, Layer, MAX_EXTENSION_BYTES,
    MAX_EXTENSIONS, MAX_VLAN_TAGS, ParseError, Parsed,
};
use crate::bytes::{be16, be32};
use crate::{checksum, ethertype, proto};

/// Fragment offset field of IPv4, in 8-byte units.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// `bytes[at..]`, refused if it has not `need` bytes.
#[inline(always)]
fn rest(bytes: &[u8], at: usize, need: usize, layer: Layer) -> Result<&[u8], ParseError> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    if rest.len() < need {
        let have = u16::try_from(rest.len()).unwrap_or(u16::MAX);
        return Err(ParseError::Truncated {
            layer,
            need: need as u16,
            have,
        });
    }
    Ok(rest)
}

#[inline(never)]
pub(super) fn frame(head: &[u8], len: usize) -> Result<Parsed, ParseError> {
    let mut at = ETHERNET;
    let mut ethertype = be16(rest(head, 0, ETHERNET, Layer::Ethernet)?, 12);
    let mut vlan_tags = 0;
    while matches!(ethertype, ethertype::VLAN | ethertype::QINQ) {
        if vlan_tags == MAX_VLAN_TAGS {
            return Err(ParseError::VlanTags {
                limit: MAX_VLAN_TAGS,
            });
        }
        ethertype = be16(rest(head, at, 4, Layer::Ethernet)?, 2);
        at += 4;
        vlan_tags += 1;
    }
    let mut parsed = empty(ethertype, at as u16);
    parsed.vlan_tags = vlan_tags;
    match ethertype {
        ethertype::IPV4 => ipv4(head, len, parsed),
        ethertype::IPV6 => ipv6(head, len, parsed),
        ethertype::ARP => arp(head, parsed),
        _ => Ok(parsed),
    }
}

#[inline(never)]
pub(super) fn packet(head: &[u8], len: usize) -> Result<Parsed, ParseError> {
    match rest(head, 0, 1, Layer::Ipv4)?[0] >> 4 {
        4 => ipv4(head, len, empty(ethertype::IPV4, 0)),
        6 => ipv6(head, len, empty(ethertype::IPV6, 0)),
        version => Err(ParseError::IpVersion { version }),
    }
}

fn empty(ethertype: u16, l3_off: u16) -> Parsed {
    Parsed {
        l3: L3::Other,
        ethertype,
        vlan_tags: 0,
        l3_off,
        l4_off: l3_off,
        payload_off: l3_off,
        ip_len: 0,
        proto: 0,
        fragment: Fragment::None,
        ip_options: false,
        dont_fragment: false,
        ttl: 0,
        tos: 0,
        src_port: 0,
        dst_port: 0,
        addresses: Addresses::default(),
    }
}

fn arp(head: &[u8], parsed: Parsed) -> Result<Parsed, ParseError> {
    let arp = rest(
        head,
        usize::from(parsed.l3_off),
        crate::arp::LEN,
        Layer::Arp,
    )?;
    if be32(arp, 0) != 0x0001_0800 || be16(arp, 4) != 0x0604 {
        let (hardware, protocol, lengths) = (be16(arp, 0), be16(arp, 2), be16(arp, 4));
        return Err(ParseError::ArpFormat {
            hardware,
            protocol,
            lengths,
        });
    }
    Ok(Parsed {
        l3: L3::Arp,
        ..parsed
    })
}

fn ipv4(head: &[u8], len: usize, mut parsed: Parsed) -> Result<Parsed, ParseError> {
    let at = usize::from(parsed.l3_off);
    let ip = rest(head, at, 20, Layer::Ipv4)?;
    if ip[0] >> 4 != 4 {
        return Err(ParseError::Ipv4Version {
            version: ip[0] >> 4,
        });
    }
    let header = u16::from(ip[0] & 0xf) * 4;
    if header < 20 {
        return Err(ParseError::Ipv4HeaderLength { bytes: header });
    }
    let ip = rest(head, at, usize::from(header), Layer::Ipv4)?;
    let (stated, max) = (be16(ip, 2), (len - at) as u32);
    if stated < header || u32::from(stated) > max {
        return Err(ParseError::Ipv4TotalLength {
            stated,
            min: header,
            max,
        });
    }
    let sum = checksum::sum(&ip[..usize::from(header)]);
    if checksum::fold(sum) != 0xffff {
        let found = be16(ip, 10);
        let expected = checksum::finish(sum + checksum::Sum::of16(!found));
        return Err(ParseError::Ipv4Checksum { found, expected });
    }
    let fragment = be16(ip, 6);
    parsed.l3 = L3::Ipv4;
    parsed.l4_off = parsed.l3_off + header;
    parsed.ip_len = u32::from(stated);
    parsed.proto = ip[9];
    parsed.fragment = match (fragment & FRAGMENT_BITS, fragment & FRAGMENT_OFFSET) {
        (0, _) => Fragment::None,
        (_, 0) => Fragment::First,
        _ => Fragment::Later,
    };
    parsed.ip_options = header > 20;
    parsed.dont_fragment = fragment & DONT_FRAGMENT != 0;
    parsed.ttl = ip[8];
    parsed.tos = ip[1];
    if let Some(addresses) = ip[12..].first_chunk() {
        parsed.addresses = Addresses::of4(addresses);
    }
    l4(head, parsed)
}

fn ipv6(head: &[u8], len: usize, mut parsed: Parsed) -> Result<Parsed, ParseError> {
    let at = usize::from(parsed.l3_off);
    let ip = rest(head, at, 40, Layer::Ipv6)?;
    if ip[0] >> 4 != 6 {
        return Err(ParseError::Ipv6Version {
            version: ip[0] >> 4,
        });
    }
    let (stated, max) = (be16(ip, 4), (len - at - 40) as u32);
    if u32::from(stated) > max {
        return Err(ParseError::Ipv6PayloadLength { stated, max });
    }
    parsed.l3 = L3::Ipv6;
    parsed.l4_off = parsed.l3_off + 40;
    parsed.ip_len = u32::from(stated) + 40;
    parsed.proto = ip[6];
    parsed.dont_fragment = true;
    parsed.ttl = ip[7];
    parsed.tos = (be16(ip, 0) >> 4) as u8;
    if let Some(addresses) = ip[8..].first_chunk() {
        parsed.addresses = Addresses::of6(addresses);
    }
    extensions(&head[..head.len().min(parsed.ip_end())], &mut parsed)?;
    l4(head, parsed)
}

/// Walks the extension headers (RFC 8200 section 4) up to the L4 header, or up to the first bytes
/// of a later fragment.
fn extensions(ip: &[u8], parsed: &mut Parsed) -> Result<(), ParseError> {
    let mut bytes = 0;
    for index in 0..=MAX_EXTENSIONS {
        let kind = parsed.proto;
        if !is_extension(kind) {
            return Ok(());
        }
        if index == MAX_EXTENSIONS {
            return Err(ParseError::Ipv6ExtensionCount {
                limit: MAX_EXTENSIONS,
            });
        }
        if kind == proto::HOP_BY_HOP && index > 0 {
            return Err(ParseError::Ipv6HopByHop { index });
        }
        let at = usize::from(parsed.l4_off);
        let header = rest(ip, at, 8, Layer::Ipv6Extensions)?;
        let length = u16::from(header[1]);
        let length = match kind {
            proto::FRAGMENT => 8,
            proto::AUTHENTICATION if length == 0 => {
                return Err(ParseError::AuthenticationLength { bytes: 8 });
            }
            proto::AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        bytes += length;
        if bytes > MAX_EXTENSION_BYTES {
            return Err(ParseError::Ipv6ExtensionLength {
                bytes,
                limit: MAX_EXTENSION_BYTES,
            });
        }
        let header = rest(ip, at, usize::from(length), Layer::Ipv6Extensions)?;
        parsed.ip_options = true;
        parsed.l4_off += length;
        parsed.proto = header[0];
        if kind == proto::FRAGMENT {
            let field = be16(header, 2);
            if field >> 3 != 0 {
                parsed.fragment = Fragment::Later;
                return Ok(());
            }
            if field & 1 != 0 {
                parsed.fragment = Fragment::First;
            }
        }
    }
    Ok(())
}

fn is_extension(next: u8) -> bool {
    matches!(
        next,
        proto::HOP_BY_HOP
            | proto::ROUTING
            | proto::FRAGMENT
            | proto::AUTHENTICATION
            | proto::DESTINATION_OPTIONS
    )
}

fn l4(head: &[u8], mut parsed: Parsed) -> Result<Parsed, ParseError> {
    parsed.payload_off = parsed.l4_off;
    if parsed.fragment == Fragment::Later {
        return Ok(parsed);
    }
    let at = usize::from(parsed.l4_off);
    let carried = (parsed.ip_end() - at) as u32;
    let head = &head[..head.len().min(parsed.ip_end())];
    let (header, ports) = match (parsed.proto, parsed.l3) {
        (proto::TCP, _) => {
            let tcp = rest(head, at, 20, Layer::Tcp)?;
            let bytes = u16::from(tcp[12] >> 4) * 4;
            if bytes < 20 {
                return Err(ParseError::TcpDataOffset { bytes });
            }
            (rest(head, at, usize::from(bytes), Layer::Tcp)?, Some(bytes))
        }
        (proto::UDP, _) => {
            let udp = rest(head, at, 8, Layer::Udp)?;
            let stated = be16(udp, 4);
            // The length of a fragmented datagram covers all its fragments.
            let fits = u32::from(stated) <= carried || parsed.fragment == Fragment::First;
            if stated < 8 || !fits {
                return Err(ParseError::UdpLength {
                    stated,
                    max: carried,
                });
            }
            (udp, Some(8))
        }
        (proto::SCTP, _) => (rest(head, at, 12, Layer::Sctp)?, Some(12)),
        (proto::ICMPV4, L3::Ipv4) | (proto::ICMPV6, L3::Ipv6) => {
            rest(head, at, 8, Layer::Icmp)?;
            parsed.payload_off += 8;
            return Ok(parsed);
        }
        _ => return Ok(parsed),
    };
    if let Some(length) = ports {
        parsed.src_port = be16(header, 0);
        parsed.dst_port = be16(header, 2);
        parsed.payload_off += length;
    }
    Ok(parsed)
}
