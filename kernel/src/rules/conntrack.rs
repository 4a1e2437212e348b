//! What the kernel's connection tracking knows: forgets connections of UDP, and tells of translated ones.
//!
//! Forgets connections of UDP that the kernel would go on translating, or not translating, as before.
//!
//! Translation is decided by the first packet of a connection. TCP ends with its pod; of UDP an entry lives
//! as long as the client sends, so a client of a host port would be led to a pod that is gone, and one that
//! sent before there was a pod would never be led to it.
//!
//! ctnetlink: linux/netfilter/nfnetlink_conntrack.h. Entries are dumped, and those meant are deleted by
//! their own tuple.

use std::io;
use std::net::IpAddr;

use ringway_packet::addr::from_ip;
use ringway_packet::flow::FlowKey;
use ringway_tables::Cidr;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::HostPort;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const NESTED: u16 = 1 << 15;
const UDP: u8 = 17;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 20;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    src_port: u16,
    dst_port: u16,
}

/// Connections whose destination was translated: the tuple of their answers, whose destination is the client.
///
/// # Errors
/// Connection tracking is not there or not willing.
pub fn translated() -> io::Result<Vec<FlowKey>> {
    let mut found = Vec::new();
    for v6 in [false, true] {
        dump(v6, |orig, reply, _| {
            // Masqueraded as well, the answer goes to the node's own address.
            if reply.src != orig.dst && reply.dst == orig.src {
                found.push(FlowKey {
                    src: from_ip(reply.src),
                    dst: from_ip(reply.dst),
                    src_port: reply.src_port,
                    dst_port: reply.dst_port,
                    proto: reply.protocol,
                });
            }
        })?;
    }
    Ok(found)
}

/// Forgets what is translated to these ports' pods, and what reached these ports of the node untranslated.
pub(super) fn forget_udp(ports: &[HostPort]) -> io::Result<()> {
    for v6 in [false, true] {
        let of: Vec<&HostPort> = ports.iter().filter(|p| p.pod_ip.is_ipv6() == v6).collect();
        if of.is_empty() {
            continue;
        }
        let meant = |orig: &Tuple, reply: &Tuple| {
            let untranslated = reply.src == orig.dst && reply.dst == orig.src;
            of.iter().any(|port| {
                orig.protocol == UDP
                    && orig.dst_port == port.host_port
                    && (reply.src == port.pod_ip || untranslated)
            })
        };
        forget(v6, meant)?;
    }
    Ok(())
}

/// Forgets what is translated to an address in the pod networks `own` that is not one of `live`: a pod that
/// went while no agent was there to notice.
pub(super) fn forget_udp_to_gone(own: &[Cidr], live: &[IpAddr]) -> io::Result<()> {
    for v6 in [false, true] {
        if !own.iter().any(|cidr| cidr.is_ipv6() == v6) {
            continue;
        }
        let meant = |orig: &Tuple, reply: &Tuple| {
            let pod = from_ip(reply.src);
            orig.protocol == UDP
                && reply.src != orig.dst
                && own.iter().any(|cidr| cidr.contains(pod))
                && !live.contains(&reply.src)
        };
        forget(v6, meant)?;
    }
    Ok(())
}

fn forget(v6: bool, meant: impl Fn(&Tuple, &Tuple) -> bool) -> io::Result<()> {
    let mut found = Vec::new();
    let socket = dump(v6, |orig, reply, raw| {
        if meant(&orig, &reply) {
            found.push(raw.to_vec());
        }
    })?;
    for raw in found {
        let attribute = attribute(TUPLE_ORIG | NESTED, &raw);
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        socket.send(&message(DELETE, flags, family(v6), &attribute), 0)?;
        match answers(&socket, |_| {}) {
            // It has ended by itself meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

fn family(v6: bool) -> u8 {
    (if v6 { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

/// Calls `each` with both tuples of every entry, and the first as it was read.
fn dump(v6: bool, mut each: impl FnMut(Tuple, Tuple, &[u8])) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let request = message(GET, NLM_F_REQUEST | NLM_F_DUMP, family(v6), &[]);
    socket.send(&request, 0)?;
    answers(&socket, |body| {
        let (mut orig, mut reply) = (None, None);
        for (kind, value) in attributes(body) {
            match kind {
                TUPLE_ORIG => orig = tuple(value).map(|t| (t, value)),
                TUPLE_REPLY => reply = tuple(value),
                _ => {}
            }
        }
        if let (Some((orig, raw)), Some(reply)) = (orig, reply) {
            each(orig, reply, raw);
        }
    })?;
    Ok(socket)
}

/// Reads answers up to the last one, and calls `each` with the attributes of every entry.
fn answers(socket: &Socket, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..len).unwrap_or(&[]);
        while let Some((kind, body, next)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let errno = body.get(..4).and_then(|b| b.try_into().ok());
                    return match errno.map(i32::from_ne_bytes) {
                        Some(0) => Ok(()),
                        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
                        None => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                _ => each(body.get(HEADER - 16..).unwrap_or(&[])),
            }
            rest = next;
        }
    }
}

/// Type and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..len)?;
    Some((
        kind,
        body,
        bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]),
    ))
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + attributes.len());
    bytes.extend(((HEADER + attributes.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Type and value of each attribute; ends at the first that is not whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        // The upper two bits are flags.
        Some((kind & 0x3fff, value))
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut src, mut dst, mut protocol) = (None, None, None);
    let (mut src_port, mut dst_port) = (0, 0);
    for (kind, value) in attributes(bytes) {
        match kind {
            // CTA_TUPLE_IP
            1 => {
                for (kind, value) in attributes(value) {
                    let ip = address(value);
                    match kind {
                        1 | 3 => src = ip,
                        2 | 4 => dst = ip,
                        _ => {}
                    }
                }
            }
            // CTA_TUPLE_PROTO: number, source port, destination port
            2 => {
                for (kind, value) in attributes(value) {
                    let port = || value.try_into().map_or(0, u16::from_be_bytes);
                    match kind {
                        1 => protocol = value.first().copied(),
                        2 => src_port = port(),
                        3 => dst_port = port(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Tuple {
        src: src?,
        dst: dst?,
        protocol: protocol?,
        src_port,
        dst_port,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ip = [attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2])].concat();
        let proto = [
            attribute(1, &[17]),
            attribute(2, &[0, 7]),
            attribute(3, &[0, 53]),
        ]
        .concat();
        let raw = [attribute(1 | NESTED, &ip), attribute(2 | NESTED, &proto)].concat();
        let expected = Tuple {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            protocol: 17,
            src_port: 7,
            dst_port: 53,
        };
        assert_eq!(tuple(&raw), Some(expected));
        let whole = message(GET, 0, 2, &attribute(TUPLE_ORIG | NESTED, &raw));
        let (kind, body, rest) = split(&whole).unwrap();
        assert_eq!((kind, rest), (GET, &[][..]));
        let (kind, value) = attributes(&body[4..]).next().unwrap();
        assert_eq!((kind, tuple(value)), (TUPLE_ORIG, Some(expected)));
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end]), None);
        }
        for end in 0..raw.len() {
            let _ = tuple(&raw[..end]);
        }
    }
}
