//! Which size each packet has.

use std::str::FromStr;

use super::LoadError;
use super::stamp::STAMP;
use crate::lab::Family;

/// Ethernet header.
const ETHERNET: usize = 14;
/// Longest frame: an MTU of 9,000 and the Ethernet header.
const LONGEST: usize = 9014;

/// Sizes of frames, without frame check sequence, and how often each comes.
///
/// `imix` is 7 : 4 : 1 of 64, 570 and 1,400 bytes: the Internet mix of router tests, its largest size cut to
/// what passes a tunnel over an MTU of 1,500; 344 bytes on average.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mix {
    parts: Vec<(usize, u32)>,
    /// A round: index into `parts`, as evenly spread as can be.
    round: Vec<u8>,
}

impl Mix {
    /// One size for all.
    pub fn one(size: usize) -> Mix {
        Mix::of(vec![(size, 1)])
    }

    /// 7 : 4 : 1 of 64, 570 and 1,400 bytes.
    pub fn imix() -> Mix {
        Mix::of(vec![(64, 7), (570, 4), (1400, 1)])
    }

    fn of(parts: Vec<(usize, u32)>) -> Mix {
        let total: u32 = parts.iter().map(|part| part.1).sum();
        // The one that is furthest behind its share comes next.
        let mut credit = vec![0i64; parts.len()];
        let round = (0..total)
            .map(|_| {
                for (credit, part) in credit.iter_mut().zip(&parts) {
                    *credit += i64::from(part.1);
                }
                let next = (0..parts.len()).max_by_key(|&i| credit[i]).unwrap_or(0);
                credit[next] -= i64::from(total);
                next as u8
            })
            .collect();
        Mix { parts, round }
    }

    /// The same for packets of `family`: what is too small for its headers and the stamp becomes as small
    /// as can be (IPv4: 64 bytes, IPv6: 84).
    ///
    /// # Errors
    /// A size is above 9,014.
    pub fn fit(&self, family: Family) -> Result<Mix, LoadError> {
        let least = Mix::least(family);
        let too_long = self.parts.iter().find(|part| part.0 > LONGEST);
        if let Some(&(size, _)) = too_long {
            return Err(LoadError::Size {
                size,
                least,
                most: LONGEST,
            });
        }
        Ok(Mix::of(
            self.parts
                .iter()
                .map(|&(size, weight)| (size.max(least), weight))
                .collect(),
        ))
    }

    /// The smallest frame with a stamp.
    pub fn least(family: Family) -> usize {
        ETHERNET + family.udp_overhead() + STAMP
    }

    /// Sizes.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.parts.iter().map(|part| part.0)
    }

    /// The largest.
    pub fn largest(&self) -> usize {
        self.sizes().max().unwrap_or(0)
    }

    /// Which of [`sizes`](Self::sizes) packet `seq` of `flows` flows has. Every flow gets every size: each
    /// turn around the flows begins elsewhere in the round (by 5, which has no divisor in common with 12).
    #[inline]
    pub fn index(&self, seq: u64, flows: u32) -> usize {
        let flows = u64::from(flows.max(1));
        let at = (seq % flows).wrapping_add((seq / flows).wrapping_mul(5));
        usize::from(self.round[(at % self.round.len() as u64) as usize])
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(size, _)] = self.parts[..] {
            return write!(f, "{size} B");
        }
        let sizes: Vec<String> = self.sizes().map(|size| size.to_string()).collect();
        let weights: Vec<String> = self.parts.iter().map(|part| part.1.to_string()).collect();
        write!(f, "IMIX {} of {} B", weights.join(":"), sizes.join("/"))
    }
}

impl FromStr for Mix {
    type Err = String;
    fn from_str(text: &str) -> Result<Mix, String> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Mix::imix());
        }
        match text.parse::<usize>() {
            Ok(size) if (60..=LONGEST).contains(&size) => Ok(Mix::one(size)),
            _ => Err(format!(
                "`{text}` is not a size: bytes of the frame from 60 to {LONGEST}, or imix"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_has_its_proportions_for_any_number_of_flows() {
        let mix = Mix::imix();
        for flows in [1, 2, 5, 12, 24, 1000] {
            let mut counts = [0u32; 3];
            let packets = 12 * u64::from(flows) * 10;
            for seq in 0..packets {
                counts[mix.index(seq, flows)] += 1;
            }
            let unit = packets as u32 / 12;
            assert_eq!(counts, [7 * unit, 4 * unit, unit], "{flows} flows");
        }
        // Spread out: never more than two of the small ones in a row, and no two large ones close.
        let round: Vec<usize> = (0..12).map(|seq| mix.index(seq, 12)).collect();
        assert!(!round.windows(3).any(|w| w == [0, 0, 0]), "{round:?}");
    }

    #[test]
    fn every_flow_gets_every_size() {
        let mix = Mix::imix();
        for flows in [1, 6, 12, 36] {
            for flow in 0..u64::from(flows) {
                let seen: std::collections::BTreeSet<usize> = (0..12)
                    .map(|turn| mix.index(turn * u64::from(flows) + flow, flows))
                    .collect();
                assert_eq!(seen.len(), 3, "flow {flow} of {flows}");
            }
        }
    }

    #[test]
    fn sizes_are_read_and_fitted() {
        assert_eq!("64".parse(), Ok(Mix::one(64)));
        assert_eq!("IMIX".parse(), Ok(Mix::imix()));
        for bad in ["59", "9015", "-1", "large", ""] {
            let error = bad.parse::<Mix>().unwrap_err();
            assert!(error.contains("60 to 9014"), "{error}");
        }
        assert_eq!(Mix::one(64).fit(Family::V4).unwrap(), Mix::one(64));
        let six = Mix::imix().fit(Family::V6).unwrap();
        assert_eq!(six.sizes().collect::<Vec<_>>(), [84, 570, 1400]);
        assert_eq!(six.to_string(), "IMIX 7:4:1 of 84/570/1400 B");
        assert!(Mix::one(9015).fit(Family::V4).is_err());
    }
}
