//! Whether rings are to be used at all: configured, or by what the driver says it can.

use std::path::Path;

use ringway_kernel::netlink::XdpFeatures;
use ringway_ports::ethtool;

use super::LARGEST;
use ringway_config::Io;

/// What a choice is made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    driver: Option<String>,
    /// `None`: this kernel cannot tell.
    features: Option<XdpFeatures>,
    mtu: u32,
    /// Known of the driver as it runs here.
    flaw: Option<&'static str>,
}

impl Facts {
    pub(super) fn of(interface: &str, index: u32, mtu: u32) -> Facts {
        let driver = ethtool::driver(interface).ok().flatten();
        Facts {
            flaw: driver
                .as_deref()
                .and_then(|name| flaw(name, is_module(name))),
            driver,
            features: XdpFeatures::of(index).ok().flatten(),
            mtu,
        }
    }
}

/// A flaw that makes a driver's zero-copy unfit for use.
///
/// `virtnet_xsk_pool_enable` (drivers/net/virtio_net.c, Linux 6.13 to at least 7.2) maps the header
/// that goes before each packet with `dma_map_single`, though it is a static variable: that of a module
/// is not in the linear mapping, and the device reads the header from whatever the wrong address holds.
fn flaw(driver: &str, is_module: bool) -> Option<&'static str> {
    (driver == "virtio_net" && is_module).then_some(
        "virtio_net, loaded as a module, sends with a header from a wrong address by zero-copy \
         (built into the kernel it does not)",
    )
}

/// Whether a driver was loaded: one that is built in has no state of initialisation.
fn is_module(driver: &str) -> bool {
    Path::new("/sys/module")
        .join(driver)
        .join("initstate")
        .exists()
}

/// Whether to use rings, and why.
pub(super) fn choose(io: Io, facts: &Facts) -> (bool, String) {
    let driver = facts.driver.as_deref().unwrap_or("of unknown name");
    match io {
        Io::Socket => (false, "configured".into()),
        Io::Xdp => (
            true,
            match facts.flaw {
                Some(flaw) => format!("configured, although {flaw}"),
                None => "configured".into(),
            },
        ),
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
            Some(_) if let Some(flaw) = facts.flaw => (false, format!("auto: {flaw}")),
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
            flaw: None,
        }
    }

    #[test]
    fn a_flaw_keeps_auto_away_and_is_told_to_who_insists() {
        assert_eq!(flaw("virtio_net", false), None);
        assert_eq!(flaw("ice", true), None);
        let facts = Facts {
            flaw: flaw("virtio_net", true),
            ..facts(Some(1 | 2 | 8), 1500)
        };
        let (auto, configured) = (choose(Io::Auto, &facts), choose(Io::Xdp, &facts));
        assert!(!auto.0 && configured.0);
        for (_, why) in [auto, configured] {
            assert!(why.contains("virtio_net, loaded as a module"), "{why}");
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
