//! The sum over a packet whose own checksum is right, or will be: its headers say it all.

use ringway_packet::parse::{Fragment, L3, Parsed};
use ringway_packet::{checksum, proto};

/// Where in a datagram's payload the inner L4 part lies, whose checksum is right or will be: it sums up to
/// the complement of its pseudo-header.
#[derive(Clone, Copy, Debug)]
pub struct InnerSum {
    /// Offset of the L4 header; even.
    pub l4: usize,
    /// End of the IP packet.
    pub end: usize,
    /// Sum of the pseudo-header.
    pub pseudo: checksum::Sum,
}

impl InnerSum {
    /// For a packet parsed as `parsed` that begins `header` bytes into the payload. `None` if it has no
    /// checksum over a pseudo-header, or is a fragment.
    #[inline]
    pub fn of(parsed: &Parsed, header: usize) -> Option<InnerSum> {
        let (l3, l4) = (usize::from(parsed.l3_off), usize::from(parsed.l4_off));
        if parsed.fragment != Fragment::None || !matches!(parsed.proto, proto::TCP | proto::UDP) {
            return None;
        }
        let end = parsed.ip_end();
        let len = end.checked_sub(l4)?;
        let pseudo = match parsed.l3 {
            L3::Ipv4 => checksum::pseudo_v4(parsed.src4(), parsed.dst4(), parsed.proto, len),
            // A routing header would put another destination into the pseudo-header.
            L3::Ipv6 if l4 == l3 + 40 => {
                checksum::pseudo_v6(parsed.src6(), parsed.dst6(), parsed.proto, len)
            }
            _ => return None,
        };
        Some(InnerSum {
            l4: header + l4,
            end: header + end,
            pseudo,
        })
    }

    /// The sum over the payload once the inner checksum is finished, from the bytes around the L4 part
    /// alone. `None` if they do not lie in the payload.
    #[inline]
    pub fn finished(&self, payload: &[u8]) -> Option<checksum::Sum> {
        let around = payload.get(..self.l4)?;
        let padding = payload.get(self.end..)?;
        let l4 = checksum::Sum::of16(!checksum::fold(self.pseudo));
        let padding = match self.end % 2 {
            0 => checksum::sum(padding),
            _ => checksum::sum(padding).swapped(),
        };
        Some(checksum::sum(around) + l4 + padding)
    }
}
