//! Whole numbers and the range each may have.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Problem;
use super::validate::Located;

/// Every key that is a number, with its least and its greatest value.
pub(super) const RANGES: [(&str, i128, i128); 11] = [
    ("underlay.vni", 1, 0xff_ffff),
    ("underlay.vxlan_port", 1, 65_535),
    ("underlay.udp_port", 1, 65_535),
    ("underlay.xdp_busy_poll_us", 0, 10_000),
    // `MAX_TX_PORTS` pairs; several workers may have as many each.
    ("underlay.source_ports", 1, 64),
    // 1 Mbit/s, and as much again for answers, is what nobody should miss.
    ("underlay.probes", 0, 1000),
    // One worker per queue of a TAP at most (`MAX_TAP_QUEUES` is 256); more than this has never been tried.
    ("workers.count", 1, 64),
    // CPU_SETSIZE of sched_setaffinity(2).
    ("workers.cpus", 0, 1023),
    ("workers.idle_spin_us", 0, 1_000_000),
    // Some 22 series each.
    ("metrics.peers", 0, 1024),
    // What every IPv4 host takes (RFC 791); 1280 where the peer has IPv6 addresses only (RFC 8200).
    ("peers.mtu", 576, 65_535),
];

/// The range of a key; `[i]` in it is an element's.
pub(super) fn range_of(key: &str) -> Option<(i128, i128)> {
    let mut name = key.to_owned();
    if let (Some(from), Some(to)) = (key.find('['), key.find(']')) {
        name.replace_range(from..=to, "");
    }
    let found = RANGES.iter().find(|(known, ..)| *known == name);
    found.map(|(_, min, max)| (*min, *max))
}

/// A number as it stands in the file. Whatever else stands there is kept, to be told with the range.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    Other(String),
}

impl Number {
    /// Its value, if that is in the range of its key.
    pub(super) fn read<T: TryFrom<i128>>(&self, key: &str) -> Located<T> {
        let (min, max) = range_of(key).unwrap_or((0, i128::MAX));
        self.read_within(key, min, max)
    }

    /// The same where the range depends on other keys.
    pub(super) fn read_within<T: TryFrom<i128>>(
        &self,
        key: &str,
        min: i128,
        max: i128,
    ) -> Located<T> {
        let problem = match self {
            Number::Whole(value) if (min..=max).contains(value) => match T::try_from(*value) {
                Ok(value) => return Ok(value),
                Err(_) => Problem::Range {
                    value: *value,
                    min,
                    max,
                },
            },
            Number::Whole(value) => Problem::Range {
                value: *value,
                min,
                max,
            },
            Number::Other(value) => Problem::NotWhole {
                value: value.clone(),
                min,
                max,
            },
        };
        Err((key.to_owned(), problem))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number::Whole(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Number, E> {
        Ok(Number::Whole(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Number, E> {
        Ok(Number::Other(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number::Other(value.to_string()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Number, E> {
        Ok(Number::Other(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Number, E> {
        Ok(Number::Other(format!("{value:?}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Number, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Number::Other("a list".into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Number, A::Error> {
        while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Number::Other("a table or a date".into()))
    }
}
