//! Ancillary data (cmsg(3)) to and from bytes, without the pointer walking of the C macros.

const ALIGN: usize = size_of::<usize>();
/// `struct cmsghdr`: length (the kernel's `size_t`), level, type.
const HEADER: usize = size_of::<usize>() + 8;

/// Ancillary data of one message, aligned as the kernel wants it. Holds five entries of an `int`, or three and a
/// `timespec`.
#[derive(Copy, Clone, Debug)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; Control::SIZE],
}

impl Control {
    pub(super) const SIZE: usize = 128;

    pub(super) const fn new() -> Control {
        Control {
            bytes: [0; Self::SIZE],
        }
    }

    /// Appends one entry after `used` bytes; returns the bytes used then. What does not fit is left out.
    #[inline]
    pub(super) fn put<const N: usize>(
        &mut self,
        used: usize,
        level: i32,
        kind: i32,
        data: [u8; N],
    ) -> usize {
        let end = used + HEADER + N;
        let next = end.next_multiple_of(ALIGN);
        let Some(entry) = self.bytes.get_mut(used..next) else {
            return used;
        };
        entry[..ALIGN].copy_from_slice(&(HEADER + N).to_ne_bytes());
        entry[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        entry[ALIGN + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        entry[HEADER..HEADER + N].copy_from_slice(&data);
        next
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    /// The entries in the first `len` bytes: (level, type, data).
    pub(super) fn entries(&self, len: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = self.bytes.get(..len).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let length = usize::from_ne_bytes(*rest.first_chunk()?);
            let entry = rest.get(..length).filter(|entry| entry.len() >= HEADER)?;
            let level = i32::from_ne_bytes(entry[ALIGN..ALIGN + 4].try_into().ok()?);
            let kind = i32::from_ne_bytes(entry[ALIGN + 4..HEADER].try_into().ok()?);
            rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or(&[]);
            Some((level, kind, &entry[HEADER..]))
        })
    }
}

/// An `int` of ancillary data; `IP_TOS` may come as a single byte.
pub(super) fn int(data: &[u8]) -> Option<i32> {
    match data {
        [byte] => Some(i32::from(*byte)),
        _ => data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)),
    }
}

/// A `struct timespec` of ancillary data; 0 if it is none.
pub(super) fn nanoseconds(data: &[u8]) -> u64 {
    let (words, _) = data.as_chunks::<8>();
    match words {
        [seconds, nanoseconds, ..] => {
            let [seconds, nanoseconds] =
                [seconds, nanoseconds].map(|word| u64::from_ne_bytes(*word));
            seconds
                .wrapping_mul(1_000_000_000)
                .wrapping_add(nanoseconds)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found() {
        let mut control = Control::new();
        let used = control.put(0, libc::SOL_UDP, libc::UDP_SEGMENT, 1400u16.to_ne_bytes());
        let used = control.put(used, libc::IPPROTO_IP, libc::IP_TOS, 2i32.to_ne_bytes());
        let entries: Vec<_> = control.entries(used).collect();
        assert_eq!(
            entries[0],
            (libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes()[..])
        );
        assert_eq!(
            (entries[1].0, entries[1].1, int(entries[1].2)),
            (libc::IPPROTO_IP, libc::IP_TOS, Some(2))
        );
        assert_eq!(entries.len(), 2);
        // The layout is what libc's macros compute.
        // SAFETY: pure arithmetic.
        assert_eq!(used, unsafe { libc::CMSG_SPACE(2) + libc::CMSG_SPACE(4) }
            as usize);
    }

    #[test]
    fn does_not_overrun() {
        let mut control = Control::new();
        let mut used = 0;
        for _ in 0..20 {
            used = control.put(used, 1, 2, [0; 16]);
        }
        assert_eq!(used, Control::SIZE);
        assert_eq!(control.entries(Control::SIZE).count(), 4);
        assert_eq!(control.entries(Control::SIZE + 1).count(), 0);
    }

    #[test]
    fn nonsense_lengths_end_the_walk() {
        for length in [0usize, 1, HEADER - 1, 129, usize::MAX, usize::MAX - 6] {
            let mut control = Control::new();
            control.bytes[..ALIGN].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control.entries(Control::SIZE).count(), 0, "length {length}");
        }
    }
}
