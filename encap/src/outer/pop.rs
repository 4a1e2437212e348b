//! Popping: Ethernet, at most two VLAN tags, IPv4 or IPv6, UDP.
//!
//! Strict where the tunnel is concerned: no fragments (a later fragment has no UDP header, and
//! VXLAN is not to be fragmented, RFC 7348 §4.3), no IPv6 extension headers, no IPv4-mapped
//! address in an IPv6 header (it would pass for the IPv4 peer), no zero UDP checksum over IPv6.
//! Lenient where the wire is: padding after the IP packet is cut off, IPv4 options are skipped.
//! The UDP checksum itself is verified only on request ([`verify_checksum`]), because it costs a
//! pass over the payload.
//!
//! Untagged frames without IPv4 options take a short cut: one length check for all headers, then
//! compares at constant offsets. Whatever does not pass them takes the full walk, which alone makes
//! errors.

use super::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN};
use ringway_packet::addr::{mapped, unmap};
use ringway_packet::bytes::{be16, be32, be128};
use ringway_packet::{checksum, ethertype, proto};

const MAX_VLAN_TAGS: usize = 2;
/// More-fragments flag and fragment offset.
const IPV4_FRAGMENT: u16 = 0x3fff;

/// A layer of the outer frame, for error messages.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Layer {
    /// Ethernet and its VLAN tags.
    Ethernet,
    /// IPv4 header.
    Ipv4,
    /// IPv6 header.
    Ipv6,
    /// UDP header.
    Udp,
}

/// Why a frame is not an outer frame.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum PopError {
    /// A header reaches past the linear bytes.
    #[error("{layer:?} header needs {need} bytes of the frame, {have} there")]
    Truncated {
        /// The header.
        layer: Layer,
        /// End of the header, from the frame's start.
        need: usize,
        /// Linear bytes there.
        have: usize,
    },
    /// More VLAN tags than two.
    #[error("more than {MAX_VLAN_TAGS} VLAN tags")]
    VlanTags,
    /// Neither IPv4 nor IPv6.
    #[error("EtherType {ethertype:#06x} is not IP")]
    EtherType {
        /// EtherType after VLAN tags.
        ethertype: u16,
    },
    /// Version nibble and EtherType disagree.
    #[error("IP version {version} under the EtherType of IPv{expected}")]
    Version {
        /// Version nibble.
        version: u8,
        /// Version by EtherType.
        expected: u8,
    },
    /// IPv4 header length field below 20.
    #[error("IPv4 header length {bytes} is below 20")]
    Ipv4HeaderLength {
        /// Header length field in bytes.
        bytes: usize,
    },
    /// IPv4 header checksum is wrong.
    #[error("IPv4 header checksum is wrong")]
    Ipv4Checksum,
    /// An IP length field contradicts the frame or has no room for UDP.
    #[error("IP length {stated}, expected {min}..={max}")]
    IpLength {
        /// Bytes the field states (IPv4: whole packet; IPv6: after the header).
        stated: usize,
        /// Least that has room for the headers.
        min: usize,
        /// Bytes in the frame.
        max: usize,
    },
    /// A fragment.
    #[error("outer packet is a fragment; tunnels must not be fragmented")]
    Fragment,
    /// Not UDP.
    #[error("IP protocol {proto} is not UDP")]
    Protocol {
        /// Protocol or next header.
        proto: u8,
    },
    /// UDP length below 8 or above what IP carries.
    #[error("UDP length {stated}, expected 8..={max}")]
    UdpLength {
        /// Length field.
        stated: usize,
        /// Bytes IP carries.
        max: usize,
    },
    /// Zero UDP checksum over IPv6.
    #[error("zero UDP checksum over IPv6 (RFC 8200 section 8.1)")]
    ZeroChecksumIpv6,
    /// IPv4-mapped address in an IPv6 header.
    #[error("IPv4-mapped address in an IPv6 header")]
    MappedAddress,
    /// UDP checksum is wrong.
    #[error("UDP checksum is wrong")]
    UdpChecksum,
}

/// An outer frame taken apart.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Outer {
    /// Source address, IPv4 mapped.
    pub src: u128,
    /// Destination address, IPv4 mapped.
    pub dst: u128,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
    /// TOS or traffic class.
    pub tos: u8,
    /// UDP checksum field; 0 is "none" and occurs over IPv4 only.
    pub checksum: u16,
    /// Offset of the UDP payload in the frame.
    pub payload_off: usize,
    /// Length of the UDP payload.
    pub payload_len: usize,
}

/// Parses a frame of `len` bytes whose first `frame.len()` are linear.
///
/// # Errors
/// The first thing found wrong.
#[inline(always)]
pub fn pop_outer(frame: &[u8], len: usize) -> Result<Outer, PopError> {
    let frame = &frame[..frame.len().min(len)];
    if let Some(outer) = fast4(frame, len) {
        return Ok(outer);
    }
    if let Some(outer) = fast6(frame, len) {
        return Ok(outer);
    }
    // Into a place of its own: the results of the short cuts then stay in registers.
    let mut walked = Outer::default();
    walk(frame, len, &mut walked)?;
    Ok(walked)
}

/// Ethernet, IPv4 without options, UDP; `None` for all else.
#[inline(always)]
fn fast4(frame: &[u8], len: usize) -> Option<Outer> {
    const UDP: usize = ETHERNET_LEN + IPV4_LEN;
    let h = frame.first_chunk::<{ UDP + UDP_LEN }>()?;
    if be16(h, 12) != ethertype::IPV4 || h[14] != 0x45 {
        return None;
    }
    let ip = h[ETHERNET_LEN..].first_chunk()?;
    let total = usize::from(be16(h, 16));
    let udp_len = usize::from(be16(h, UDP + 4));
    let good = be16(h, 20) & IPV4_FRAGMENT == 0
        && h[23] == proto::UDP
        && total <= len - ETHERNET_LEN
        && udp_len >= UDP_LEN
        && udp_len + IPV4_LEN <= total
        && checksum::is_plain_ipv4_right(ip);
    good.then(|| Outer {
        src: mapped(be32(h, 26)),
        dst: mapped(be32(h, 30)),
        src_port: be16(h, UDP),
        dst_port: be16(h, UDP + 2),
        tos: h[15],
        checksum: be16(h, UDP + 6),
        payload_off: UDP + UDP_LEN,
        payload_len: udp_len - UDP_LEN,
    })
}

/// Ethernet, IPv6, UDP; `None` for all else.
#[inline(always)]
fn fast6(frame: &[u8], len: usize) -> Option<Outer> {
    const UDP: usize = ETHERNET_LEN + IPV6_LEN;
    let h = frame.first_chunk::<{ UDP + UDP_LEN }>()?;
    if be16(h, 12) != ethertype::IPV6 || h[14] >> 4 != 6 {
        return None;
    }
    let payload = usize::from(be16(h, 18));
    let udp_len = usize::from(be16(h, UDP + 4));
    let (src, dst) = (be128(h, 22), be128(h, 38));
    let checksum = be16(h, UDP + 6);
    let good = h[20] == proto::UDP
        && payload <= len - UDP
        && udp_len >= UDP_LEN
        && udp_len <= payload
        && unmap(src).is_none()
        && unmap(dst).is_none()
        && checksum != 0;
    good.then(|| Outer {
        src,
        dst,
        src_port: be16(h, UDP),
        dst_port: be16(h, UDP + 2),
        tos: (be16(h, 14) >> 4) as u8,
        checksum,
        payload_off: UDP + UDP_LEN,
        payload_len: udp_len - UDP_LEN,
    })
}

/// The full walk.
#[inline(never)]
fn walk(frame: &[u8], len: usize, outer: &mut Outer) -> Result<(), PopError> {
    let [ethertype_at @ .., a, b] = header::<ETHERNET_LEN>(frame, 0, Layer::Ethernet)?;
    let mut at = ethertype_at.len() + 2;
    let mut ethertype = u16::from_be_bytes([*a, *b]);
    if ethertype == ethertype::VLAN || ethertype == ethertype::QINQ {
        (ethertype, at) = skip_vlan(frame)?;
    }
    *outer = match ethertype {
        ethertype::IPV4 => pop4(frame, at, len)?,
        ethertype::IPV6 => pop6(frame, at, len)?,
        _ => return Err(PopError::EtherType { ethertype }),
    };
    Ok(())
}

/// Verifies the UDP checksum of an outer frame. `payload_sum` is the [`checksum::sum`] over all
/// `payload_len` bytes of the UDP payload. A zero checksum (IPv4) passes: nothing was claimed.
#[inline]
pub fn verify_checksum(outer: &Outer, payload_sum: checksum::Sum) -> Result<(), PopError> {
    if outer.checksum == 0 {
        return Ok(());
    }
    let udp_len = outer.payload_len + UDP_LEN;
    // Of IPv4, too: what a mapped address has before it adds 0xffff, which is nothing.
    let pseudo = checksum::pseudo_v6(outer.src, outer.dst, proto::UDP, udp_len);
    let two = |a: u16, b: u16| checksum::Sum::of32(u32::from(a) << 16 | u32::from(b));
    let ports = two(outer.src_port, outer.dst_port);
    let sum = pseudo + ports + two(udp_len as u16, outer.checksum);
    if checksum::fold(sum + payload_sum) == 0xffff {
        Ok(())
    } else {
        Err(PopError::UdpChecksum)
    }
}

#[inline(always)]
fn header<const N: usize>(frame: &[u8], at: usize, layer: Layer) -> Result<&[u8; N], PopError> {
    frame
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .ok_or(PopError::Truncated {
            layer,
            need: at + N,
            have: frame.len(),
        })
}

/// Returns the EtherType behind the tags and the offset of what follows it.
#[cold]
fn skip_vlan(frame: &[u8]) -> Result<(u16, usize), PopError> {
    let mut at = ETHERNET_LEN;
    for _ in 0..MAX_VLAN_TAGS {
        let [_, _, a, b] = header::<4>(frame, at, Layer::Ethernet)?;
        at += 4;
        let ethertype = u16::from_be_bytes([*a, *b]);
        if ethertype != ethertype::VLAN && ethertype != ethertype::QINQ {
            return Ok((ethertype, at));
        }
    }
    Err(PopError::VlanTags)
}

#[inline]
fn pop4(frame: &[u8], at: usize, len: usize) -> Result<Outer, PopError> {
    let ip = header::<IPV4_LEN>(frame, at, Layer::Ipv4)?;
    if ip[0] >> 4 != 4 {
        return Err(PopError::Version {
            version: ip[0] >> 4,
            expected: 4,
        });
    }
    let header_len = usize::from(ip[0] & 0xf) * 4;
    if header_len < IPV4_LEN {
        return Err(PopError::Ipv4HeaderLength { bytes: header_len });
    }
    let Some(whole) = frame.get(at..at + header_len) else {
        let need = at + header_len;
        return Err(PopError::Truncated {
            layer: Layer::Ipv4,
            need,
            have: frame.len(),
        });
    };
    if checksum::fold(checksum::sum(whole)) != 0xffff {
        return Err(PopError::Ipv4Checksum);
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let (min, max) = (header_len + UDP_LEN, len - at);
    if total < min || total > max {
        return Err(PopError::IpLength {
            stated: total,
            min,
            max,
        });
    }
    if u16::from_be_bytes([ip[6], ip[7]]) & IPV4_FRAGMENT != 0 {
        return Err(PopError::Fragment);
    }
    if ip[9] != proto::UDP {
        return Err(PopError::Protocol { proto: ip[9] });
    }
    let src = mapped(u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]));
    let dst = mapped(u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]));
    pop_udp(
        frame,
        at + header_len,
        total - header_len,
        Addresses {
            src,
            dst,
            tos: ip[1],
        },
    )
}

#[inline]
fn pop6(frame: &[u8], at: usize, len: usize) -> Result<Outer, PopError> {
    let ip = header::<IPV6_LEN>(frame, at, Layer::Ipv6)?;
    if ip[0] >> 4 != 6 {
        return Err(PopError::Version {
            version: ip[0] >> 4,
            expected: 6,
        });
    }
    let payload = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let max = len - at - IPV6_LEN;
    if payload < UDP_LEN || payload > max {
        return Err(PopError::IpLength {
            stated: payload,
            min: UDP_LEN,
            max,
        });
    }
    match ip[6] {
        proto::UDP => {}
        proto::FRAGMENT => return Err(PopError::Fragment),
        proto => return Err(PopError::Protocol { proto }),
    }
    let mut address = [0; 16];
    address.copy_from_slice(&ip[8..24]);
    let src = u128::from_be_bytes(address);
    address.copy_from_slice(&ip[24..40]);
    let dst = u128::from_be_bytes(address);
    if src >> 32 == 0xffff || dst >> 32 == 0xffff {
        return Err(PopError::MappedAddress);
    }
    let tos = ip[0] << 4 | ip[1] >> 4;
    let outer = pop_udp(frame, at + IPV6_LEN, payload, Addresses { src, dst, tos })?;
    if outer.checksum == 0 {
        return Err(PopError::ZeroChecksumIpv6);
    }
    Ok(outer)
}

struct Addresses {
    src: u128,
    dst: u128,
    tos: u8,
}

#[inline(always)]
fn pop_udp(frame: &[u8], at: usize, max: usize, ip: Addresses) -> Result<Outer, PopError> {
    let udp = header::<UDP_LEN>(frame, at, Layer::Udp)?;
    let stated = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if stated < UDP_LEN || stated > max {
        return Err(PopError::UdpLength { stated, max });
    }
    Ok(Outer {
        src: ip.src,
        dst: ip.dst,
        src_port: u16::from_be_bytes([udp[0], udp[1]]),
        dst_port: u16::from_be_bytes([udp[2], udp[3]]),
        tos: ip.tos,
        checksum: u16::from_be_bytes([udp[6], udp[7]]),
        payload_off: at + UDP_LEN,
        payload_len: stated - UDP_LEN,
    })
}

#[cfg(test)]
mod tests;
