//! The end of a key: `10.5.34.0-24`, or `10.5.34.0-24&fc00:0:0:22::-64`.

use std::fmt;
use std::str::FromStr;

use ringway_tables::Cidr;

use super::shown;

/// The pod networks of one node. Every node has an IPv4 one; the layout has no key for one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnets {
    /// IPv4.
    pub v4: Cidr,
    /// IPv6, in a dual-stack cluster.
    pub v6: Option<Cidr>,
}

/// A key that names no subnets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no subnets ({why}); wanted 10.5.34.0-24 or 10.5.34.0-24&fc00:0:0:22::-64")]
pub struct KeyError {
    /// The end of the key.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Subnets {
    /// Both, IPv4 first.
    pub fn all(&self) -> Vec<Cidr> {
        std::iter::once(self.v4).chain(self.v6).collect()
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.v4.network(), self.v4.prefix_len())?;
        match self.v6 {
            Some(v6) => write!(f, "&{}-{}", v6.network(), v6.prefix_len()),
            None => Ok(()),
        }
    }
}

impl FromStr for Subnets {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = |why: String| KeyError {
            text: shown(text),
            why,
        };
        let one = |part: &str, v6: bool| {
            let (address, len) = part.split_once('-').ok_or("no prefix length")?;
            let address = address.parse().map_err(|_| "no address".to_owned())?;
            let len = len.parse().map_err(|_| "no prefix length".to_owned())?;
            let cidr = Cidr::new(address, len).map_err(|e| e.to_string())?;
            let family = if v6 { "not IPv6" } else { "not IPv4" };
            (cidr.is_ipv6() == v6)
                .then_some(cidr)
                .ok_or(family.to_owned())
        };
        let (v4, v6) = match text.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (text, None),
        };
        Ok(Self {
            v4: one(v4, false).map_err(wrong)?,
            v6: v6.map(|v6| one(v6, true)).transpose().map_err(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_flanneld_writes_is_read_and_written_the_same() {
        for text in [
            "10.5.34.0-24",
            "10.5.34.0-24&fc00::-64",
            "10.5.34.0-24&fc00:0:0:22::-64",
        ] {
            let subnets: Subnets = text.parse().unwrap();
            assert_eq!(subnets.to_string(), text);
        }
        let both: Subnets = "10.5.34.0-24&fc00::-64".parse().unwrap();
        let all: Vec<String> = both.all().iter().map(Cidr::to_string).collect();
        assert_eq!(all, ["10.5.34.0/24", "fc00::/64"]);
    }

    #[test]
    fn other_keys_are_refused_and_named() {
        for (text, wanted) in [
            ("", "no prefix length"),
            ("10.5.34.0", "no prefix length"),
            ("10.5.34.0/24", "no prefix length"),
            ("10.5.34.0-33", "33"),
            ("10.5.34.1-24", "10.5.34.0/24"),
            ("fc00::-64", "not IPv4"),
            ("10.5.34.0-24&10.6.0.0-24", "not IPv6"),
            ("10.5.34.0-24&", "no prefix length"),
            ("10.5.34.0-24&::ffff:10.6.0.0-120", "IPv6 notation"),
            ("x\u{1b}[0m-24", "no address"),
        ] {
            let error = text.parse::<Subnets>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
            assert!(!error.contains('\u{1b}'));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_does_no_harm(text in "[0-9a-f.:&-]{0,60}|.*") {
            if let Ok(subnets) = text.parse::<Subnets>() {
                prop_assert_eq!(subnets.to_string().parse::<Subnets>(), Ok(subnets));
            }
        }
    }
}
