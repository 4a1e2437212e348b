//! The two questions to rtnetlink that bpf(2) cannot answer: which program an interface has, however it
//! was attached, and its MTU; and how to remove one that has no link (`IFLA_XDP`, linux/if_link.h).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Mode;
use crate::sys;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const NESTED: u16 = 1 << 15;
/// Upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;
const XDP_FLAGS_REPLACE: u32 = 1 << 4;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER_LEN: usize = 16;
const IFINFO_LEN: usize = 16;
/// `struct ifinfomsg`: offset of the index.
const IFINDEX_AT: usize = HEADER_LEN + 4;
/// An answer about one interface without statistics is some kilobytes.
const ANSWER_LEN: usize = 64 << 10;

/// An interface as far as XDP is concerned.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    /// Programs in the driver and behind it. One of a NIC's own processor is in nobody's way.
    pub(super) programs: Vec<(Mode, u32)>,
}

/// How an interface is named in a question.
#[derive(Copy, Clone, Debug)]
pub(super) enum Which<'a> {
    Name(&'a str),
    Index(u32),
}

/// Asks for an interface of the calling thread's network namespace.
pub(super) fn interface(which: Which<'_>) -> io::Result<Interface> {
    let mut attributes = Vec::new();
    let index = match which {
        Which::Index(index) => index,
        Which::Name(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.push(0);
            attribute(&mut attributes, IFLA_IFNAME, &bytes);
            0
        }
    };
    let mask = RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
    attribute(&mut attributes, IFLA_EXT_MASK, &mask);
    let answer = request(libc::RTM_GETLINK, 0, index, &attributes)?;
    if answer.len() < HEADER_LEN + IFINFO_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(parse(&answer))
}

fn parse(answer: &[u8]) -> Interface {
    let mut interface = Interface {
        index: word(&answer[IFINDEX_AT..]),
        ..Interface::default()
    };
    for (kind, value) in attributes(&answer[HEADER_LEN + IFINFO_LEN..]) {
        match kind {
            IFLA_IFNAME => {
                let text = String::from_utf8_lossy(value);
                text.trim_end_matches('\0').clone_into(&mut interface.name);
            }
            IFLA_MTU => interface.mtu = word(value),
            IFLA_XDP => {
                for (kind, value) in attributes(value) {
                    let mode = match kind {
                        IFLA_XDP_DRV_PROG_ID => Mode::Native,
                        IFLA_XDP_SKB_PROG_ID => Mode::Generic,
                        _ => continue,
                    };
                    interface.programs.push((mode, word(value)));
                }
            }
            _ => {}
        }
    }
    interface
}

/// Removes `expected` from the interface, if it is what is there in that mode and has no link.
pub(super) fn detach(index: u32, mode: Mode, expected: BorrowedFd<'_>) -> io::Result<()> {
    set(index, mode, -1, Some(expected.as_raw_fd()))
}

/// Sets the program of an interface, -1 for none, in the place of `expected` or of none.
pub(super) fn set(index: u32, mode: Mode, program: i32, expected: Option<i32>) -> io::Result<()> {
    let replace = expected.map_or(0, |_| XDP_FLAGS_REPLACE);
    let flags = mode.flags() | replace;
    let mut xdp = Vec::new();
    attribute(&mut xdp, IFLA_XDP_FD, &program.to_ne_bytes());
    attribute(&mut xdp, IFLA_XDP_FLAGS, &flags.to_ne_bytes());
    if let Some(fd) = expected {
        attribute(&mut xdp, IFLA_XDP_EXPECTED_FD, &fd.to_ne_bytes());
    }
    let mut attributes = Vec::new();
    attribute(&mut attributes, IFLA_XDP | NESTED, &xdp);
    let ack = libc::NLM_F_ACK as u16;
    request(libc::RTM_SETLINK, ack, index, &attributes).map(drop)
}

/// One message and its answer; an error of the kernel is an error.
fn request(kind: u16, flags: u16, index: u32, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let flags = flags | libc::NLM_F_REQUEST as u16;
    let mut message = vec![0u8; HEADER_LEN + IFINFO_LEN];
    message.extend_from_slice(attributes);
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[IFINDEX_AT..IFINDEX_AT + 4].copy_from_slice(&index.to_ne_bytes());
    // A socket that is not connected writes to the kernel (netlink(7)).
    let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    sys::write(socket.as_fd(), &message)?;
    let mut answer = vec![0; ANSWER_LEN];
    let len = sys::read(socket.as_fd(), &mut answer)?;
    answer.truncate(len);
    if len < HEADER_LEN + 4 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    // struct nlmsgerr: a negative errno, or zero for an acknowledgement.
    match (i32::from(kind) == libc::NLMSG_ERROR).then(|| word(&answer[HEADER_LEN..]) as i32) {
        Some(error) if error != 0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Ok(answer),
    }
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The attributes of a message or of one that nests; ends at the first that makes no sense.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first four bytes as a number, 0 if there are fewer.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_name_and_index() {
        let lo = interface(Which::Name("lo")).unwrap();
        assert_eq!((lo.name.as_str(), lo.mtu), ("lo", 65536));
        assert_eq!(interface(Which::Index(lo.index)).unwrap(), lo);
        let error = interface(Which::Name("no-such-if")).unwrap_err();
        assert_eq!(sys::errno(&error), libc::ENODEV);
        assert!(interface(Which::Name("a-name-that-is-too-long-for-linux")).is_err());
    }

    #[test]
    fn attributes_that_make_no_sense_end_the_list() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 7, b"abcde");
        attribute(&mut bytes, 8 | NESTED, b"");
        assert_eq!(bytes.len(), 16);
        let read = |bytes: &[u8]| {
            attributes(bytes)
                .map(|(k, v)| (k, v.to_vec()))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&bytes), [(7, b"abcde".to_vec()), (8, vec![])]);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).len() < 2, "{cut}");
        }
        assert_eq!(read(&[0; 8]), []);
    }
}
