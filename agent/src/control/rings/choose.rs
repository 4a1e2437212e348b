//! Whether rings are to be used at all: configured, or by what the driver says it can.

use ringway_ports::ethtool;

use super::LARGEST;
use crate::config::Io;
use crate::netlink::XdpFeatures;

/// What a choice is made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    driver: Option<String>,
    /// `None`: this kernel cannot tell.
    features: Option<XdpFeatures>,
    mtu: u32,
}

impl Facts {
    pub(super) fn of(interface: &str, index: u32, mtu: u32) -> Facts {
        Facts {
            driver: ethtool::driver(interface).ok().flatten(),
            features: XdpFeatures::of(index).ok().flatten(),
            mtu,
        }
    }
}

/// Whether to use rings, and why.
pub(super) fn choose(io: Io, facts: &Facts) -> (bool, String) {
    let driver = facts.driver.as_deref().unwrap_or("of unknown name");
    match io {
        Io::Socket => (false, "configured".into()),
        Io::Xdp => (true, "configured".into()),
        Io::Auto => match facts.features {
            None => (
                false,
                format!("auto: this kernel does not say what driver {driver} can do with XDP"),
            ),
            Some(f) if !(f.basic() && f.redirect() && f.zero_copy()) => (
                false,
                format!(
                    "auto: driver {driver} has no AF_XDP zero-copy; by copying, rings gain packets per second but lose segmentation offload"
                ),
            ),
            Some(_) if facts.mtu as usize > LARGEST => (
                false,
                format!(
                    "auto: MTU {} is above {LARGEST}, the most that fits one AF_XDP frame",
                    facts.mtu
                ),
            ),
            Some(_) => (true, format!("auto: driver {driver} has AF_XDP zero-copy")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(bits: Option<u64>, mtu: u32) -> Facts {
        Facts {
            driver: Some("made_up".into()),
            features: bits.map(|bits| XdpFeatures {
                bits,
                ..XdpFeatures::default()
            }),
            mtu,
        }
    }

    #[test]
    fn auto_takes_rings_only_where_nothing_is_copied_and_says_why() {
        let all = Some(1 | 2 | 8);
        for (facts, expected, words) in [
            (facts(all, 1500), true, ["made_up", "zero-copy"]),
            (
                facts(Some(1 | 2), 1500),
                false,
                ["made_up", "no AF_XDP zero-copy"],
            ),
            (facts(all, 9001), false, ["9001", "3818"]),
            (facts(None, 1500), false, ["made_up", "does not say"]),
        ] {
            let (chosen, why) = choose(Io::Auto, &facts);
            assert_eq!(chosen, expected, "{why}");
            for word in words {
                assert!(why.contains(word), "{why}");
            }
            assert!(choose(Io::Xdp, &facts).0);
            assert!(!choose(Io::Socket, &facts).0);
        }
    }
}
