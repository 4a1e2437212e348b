//! A frame as a capture has it: the pieces it lies in, and what is put before them.

use std::iter;

use ringway_packet::bpf::Bytes;
use ringway_packet::ethertype;
use ringway_ports::{Pool, Slice};
use ringway_switch::Contents;

use super::super::Observed;

/// Ethernet header of what came without one: no addresses.
const ETHERNET: usize = 14;
/// For local experiments (IEEE 802): what a datagram that was not opened carries.
const EXPERIMENTAL: u16 = 0x88b5;

/// A frame in pieces.
pub(crate) struct View<'a> {
    made_up: [u8; ETHERNET],
    made_up_len: usize,
    /// What was put aside, or headers.
    front: &'a [u8],
    pieces: [&'a [u8]; 2],
    tail: Option<(&'a Pool, &'a [Slice])>,
    len: usize,
}

impl<'a> View<'a> {
    /// Headers and what follows them.
    pub(crate) fn of(front: &'a [u8], pieces: &[&'a [u8]]) -> View<'a> {
        let piece = |i: usize| pieces.get(i).copied().unwrap_or(&[]);
        View {
            made_up: [0; ETHERNET],
            made_up_len: 0,
            front,
            pieces: [piece(0), piece(1)],
            tail: None,
            len: front.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>(),
        }
    }

    /// As it goes on.
    pub(crate) fn leaving(seen: &Observed<'a>) -> View<'a> {
        let frame = seen.frame;
        let head = seen.pool.slice(frame.buf, frame.start, frame.linear);
        View {
            tail: Some((seen.pool, seen.tail)),
            len: frame.len as usize,
            ..View::of(head.unwrap_or(&[]), &[])
        }
    }

    /// As it came: the bytes that were put aside, and what follows them; what was taken off in between stood there.
    pub(crate) fn arrived(seen: &Observed<'a>, (saved, len): (&'a [u8], usize)) -> View<'a> {
        let mut view = View::leaving(seen);
        let taken = len.saturating_sub(view.len);
        let rest = view.front.get(saved.len().saturating_sub(taken)..);
        view.pieces[0] = rest.unwrap_or(&[]);
        view.front = saved;
        view.len = len;
        let ether_type = match (seen.contents, saved.first().map(|byte| byte >> 4)) {
            (Contents::Frame, _) => return view,
            (Contents::Packet, Some(6)) => ethertype::IPV6,
            (Contents::Packet, _) => ethertype::IPV4,
            (Contents::Datagram, _) => EXPERIMENTAL,
        };
        view.made_up[12..].copy_from_slice(&ether_type.to_be_bytes());
        view.made_up_len = ETHERNET;
        view.len += ETHERNET;
        view
    }

    /// Its bytes in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let tail = self.tail.into_iter().flat_map(|(pool, slices)| {
            let slices = slices.iter();
            slices.filter_map(move |s| pool.slice(s.buf, s.off, s.len))
        });
        iter::once(&self.made_up[..self.made_up_len])
            .chain([self.front, self.pieces[0], self.pieces[1]])
            .chain(tail)
    }
}

impl Bytes for View<'_> {
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if self.made_up_len == 0
            && let Some(bytes) = self.front.get(offset..offset.checked_add(N)?)
        {
            return bytes.try_into().ok();
        }
        let mut bytes = [0; N];
        let (mut skip, mut have) = (offset, 0);
        for part in self.parts() {
            let Some(part) = part.get(skip..) else {
                skip -= part.len();
                continue;
            };
            skip = 0;
            let take = part.len().min(N - have);
            bytes[have..have + take].copy_from_slice(&part[..take]);
            have += take;
            if have == N {
                return Some(bytes);
            }
        }
        None
    }
}
