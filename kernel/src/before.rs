//! What the agent has changed on the machine, and what it was before: `ringway uninstall` puts it back.
//!
//! Only what outlives our interfaces is kept: the settings of an interface of ours go with it. It is part
//! of the state file. A reboot undoes all of it, and what was kept is forgotten then.

use serde::{Deserialize, Serialize};

use crate::sysctl::{self, SysctlError};
use ringway_ports::ethtool;

/// Settings as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Kernel settings below /proc/sys/net with their value, in the order in which they are put back.
    #[serde(default)]
    sysctls: Vec<(String, String)>,
    /// Features that were off, by interface.
    #[serde(default)]
    features: Vec<(String, String)>,
}

/// Kernel settings that change others when they are written; those have to be put back after them. Of each
/// what it drags along: `*` is every interface.
const DRAGS: [(&str, &[&str]); 2] = [
    (
        "ipv4/ip_forward",
        &["ipv4/conf/*/forwarding", "ipv4/conf/all/accept_redirects"],
    ),
    ("ipv6/conf/all/forwarding", &["ipv6/conf/*/forwarding"]),
];

/// What the agent changes of the whole machine, for who has lost the record of what it was.
pub const CHANGED: [&str; 3] = [
    "ipv4/ip_forward",
    "ipv4/conf/all/send_redirects",
    "ipv6/conf/all/forwarding",
];

impl Before {
    /// Sets a kernel setting and remembers what it was; true when it was different.
    ///
    /// # Errors
    /// The setting cannot be read or written.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, SysctlError> {
        let old = sysctl::get(key)?;
        if old == value {
            return Ok(false);
        }
        self.remember(key, old);
        for (_, dragged) in DRAGS.iter().filter(|(drags, _)| *drags == key) {
            for pattern in *dragged {
                for other in sysctl::matching(pattern) {
                    if let Ok(old) = sysctl::get(&other) {
                        self.remember(&other, old);
                    }
                }
            }
        }
        sysctl::set(key, value)
    }

    /// Whether it was changed by us.
    pub fn keeps(&self, key: &str) -> bool {
        self.sysctls.iter().any(|(known, _)| known == key)
    }

    fn remember(&mut self, key: &str, old: String) {
        if !self.keeps(key) {
            self.sysctls.push((key.to_owned(), old));
        }
    }

    /// Remembers that features of an interface were off.
    pub fn turned_on(&mut self, interface: &str, features: &[&str]) {
        for feature in features {
            let one = (interface.to_owned(), (*feature).to_owned());
            if !self.features.contains(&one) {
                self.features.push(one);
            }
        }
    }

    /// Puts everything back. What was done, and what could not be.
    pub fn put_back(&self) -> (Vec<String>, Vec<String>) {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (key, value) in &self.sysctls {
            match sysctl::set(key, value) {
                Ok(true) => done.push(format!("{key}={value}")),
                Ok(false) => {}
                // Of an interface that is gone.
                Err(e) if e.is_missing() => {}
                Err(e) => failed.push(e.to_string()),
            }
        }
        for (interface, feature) in &self.features {
            match ethtool::turn_off(interface, &[feature]) {
                Ok(changed) if changed.is_empty() => {}
                Ok(_) => done.push(format!("{feature} of {interface} off")),
                Err(e) => failed.push(format!("{feature} of {interface}: {e}")),
            }
        }
        (done, failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Netlink;
    use crate::testing::{in_netns, set_up};
    use ringway_ports::tap::{self, TapOptions};

    fn all() -> Vec<(String, String)> {
        let patterns = [
            "ipv4/ip_forward",
            "ipv4/conf/*/forwarding",
            "ipv4/conf/*/accept_redirects",
            "ipv4/conf/*/send_redirects",
            "ipv6/conf/*/forwarding",
        ];
        let keys = patterns
            .iter()
            .flat_map(|pattern| sysctl::matching(pattern));
        keys.map(|key| (key.clone(), sysctl::get(&key).unwrap()))
            .collect()
    }

    #[test]
    fn everything_is_as_it_was_also_what_was_dragged_along() {
        in_netns(|| {
            let _tap = tap::create_persistent("under0", &TapOptions::default()).unwrap();
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link("under0").unwrap().index;
            set_up(&mut netlink, index, true);
            // One interface forwards already; the others do not.
            sysctl::set("ipv4/conf/under0/forwarding", "1").unwrap();
            sysctl::set("ipv4/conf/all/accept_redirects", "0").unwrap();
            let was = all();
            let mut before = Before::default();
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                assert!(before.set(key, "1").unwrap());
                assert!(!before.set(key, "1").unwrap());
            }
            before.set("ipv4/conf/all/send_redirects", "0").unwrap();
            assert_ne!(all(), was);
            let text = serde_json::to_string(&before).unwrap();
            let read: Before = serde_json::from_str(&text).unwrap();
            let (done, failed) = read.put_back();
            assert!(!done.is_empty());
            assert_eq!(failed, [""; 0]);
            assert_eq!(all(), was);
            assert!(read.put_back().0.is_empty(), "nothing is left to do");
        });
    }

    #[test]
    fn a_feature_that_was_off_is_turned_off_again() {
        in_netns(|| {
            let wire = crate::testing::Wire::new();
            let name = &wire.here.name;
            ethtool::turn_off(name, &[ethtool::GRO]).unwrap();
            let on = ethtool::turn_on(name, &[ethtool::GRO]).unwrap();
            assert_eq!(on, [ethtool::GRO]);
            let mut before = Before::default();
            before.turned_on(name, &on);
            before.turned_on(name, &on);
            let (done, failed) = before.put_back();
            assert_eq!((done.len(), failed.len()), (1, 0));
            assert_eq!(ethtool::turn_on(name, &[ethtool::GRO]).unwrap(), on);
        });
    }
}
