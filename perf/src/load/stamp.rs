//! What a generated datagram says of itself: the first 22 bytes of its UDP payload, in network order.
//!
//! ```text
//!   0         2             6                              14                             22
//!   ├─ kind ──┼─ run ───────┼─ sequence number ────────────┼─ sent at, ns ────────────────┤
//! ```
//! As long as a frame of 64 bytes has room for it over IPv4. The UDP checksum covers it.

/// Bytes of a stamp.
pub const STAMP: usize = 22;

/// Which datagram it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One to be counted.
    Data,
    /// Sent a few times at the end: its sequence number says how many were to be counted.
    End,
}

impl Kind {
    const fn magic(self) -> u16 {
        match self {
            Kind::Data => u16::from_be_bytes(*b"RG"),
            Kind::End => u16::from_be_bytes(*b"RE"),
        }
    }
}

/// A stamp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// What it marks.
    pub kind: Kind,
    /// Which run of a generator: packets of an earlier one that come late are not this one's.
    pub run: u32,
    /// From 0.
    pub seq: u64,
    /// CLOCK_MONOTONIC of the sender, ns.
    pub time: u64,
}

impl Stamp {
    /// As it travels.
    #[inline]
    pub fn encode(&self) -> [u8; STAMP] {
        let mut out = [0; STAMP];
        out[..2].copy_from_slice(&self.kind.magic().to_be_bytes());
        out[2..6].copy_from_slice(&self.run.to_be_bytes());
        out[6..14].copy_from_slice(&self.seq.to_be_bytes());
        out[14..].copy_from_slice(&self.time.to_be_bytes());
        out
    }

    /// The stamp of a UDP payload; `None`: not one of ours.
    #[inline]
    pub fn decode(payload: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP] = payload.first_chunk()?;
        let [k0, k1, r0, r1, r2, r3, ref rest @ ..] = *bytes;
        let kind = [Kind::Data, Kind::End]
            .into_iter()
            .find(|kind| kind.magic() == u16::from_be_bytes([k0, k1]))?;
        let (seq, time) = rest.split_first_chunk::<8>()?;
        Some(Stamp {
            kind,
            run: u32::from_be_bytes([r0, r1, r2, r3]),
            seq: u64::from_be_bytes(*seq),
            time: u64::from_be_bytes(*time.first_chunk()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let stamp = Stamp {
            kind: Kind::Data,
            run: 0x0102_0304,
            seq: 5,
            time: 0x0600_0000_0000_0007,
        };
        let bytes = *b"RG\x01\x02\x03\x04\0\0\0\0\0\0\0\x05\x06\0\0\0\0\0\0\x07";
        assert_eq!(stamp.encode(), bytes);
        assert_eq!(Stamp::decode(&bytes), Some(stamp));
        let end = Stamp {
            kind: Kind::End,
            ..stamp
        };
        assert_eq!(Stamp::decode(&end.encode()), Some(end));
        // What follows is payload.
        assert_eq!(
            Stamp::decode(&[&bytes[..], b"anything"].concat()),
            Some(stamp)
        );
    }

    #[test]
    fn what_is_not_a_stamp_is_none() {
        let good = Stamp {
            kind: Kind::Data,
            run: 1,
            seq: 2,
            time: 3,
        }
        .encode();
        assert_eq!(Stamp::decode(&good[..STAMP - 1]), None);
        assert_eq!(Stamp::decode(&[]), None);
        assert_eq!(Stamp::decode(&[0xff; 64]), None);
        let mut bent = good;
        bent[1] ^= 1;
        assert_eq!(Stamp::decode(&bent), None);
    }
}
