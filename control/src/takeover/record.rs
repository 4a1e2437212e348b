//! What outlives the agent: the MAC addresses of the overlay that was here, and whether the node is given back.

use std::path::Path;

use ringway_cluster::{gateway, has_gateway};
use ringway_kernel::mac::vtep_default;
use ringway_kernel::network::Network;
use ringway_packet::mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::state::{State, StateDir, StateError, boot_id, peek};
use ringway_config::Config;

/// Part of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// That of the IPv4 device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vtep_mac: Option<String>,
    /// That of the IPv6 device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vtep_mac_v6: Option<String>,
    /// The bridge of the network before, while pods are on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bridge: Option<KeptBridge>,
    /// The node is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_back: bool,
}

/// A bridge that was narrowed, and to which networks it led before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptBridge {
    name: String,
    networks: Vec<String>,
}

impl Record {
    /// Notes the bridge, or that there is none; true if it is different.
    pub(super) fn note_bridge(&mut self, bridge: Option<(&str, &[Network])>) -> bool {
        let kept = bridge.map(|(name, networks)| KeptBridge {
            name: name.to_owned(),
            networks: networks.iter().map(|n| n.cidr.to_string()).collect(),
        });
        std::mem::replace(&mut self.bridge, kept.clone()) != kept
    }

    /// There is no bridge of ours any more.
    pub fn forget_bridge(&mut self) {
        self.bridge = None;
    }

    /// The bridge, and to which networks it led.
    pub fn bridge(&self) -> Option<(&str, Vec<Network>)> {
        let kept = self.bridge.as_ref()?;
        let cidrs = kept.networks.iter().filter_map(|text| text.parse().ok());
        let network = |cidr| Network {
            cidr,
            gateway: has_gateway(cidr).then(|| gateway(cidr)),
        };
        Some((&kept.name, cidrs.map(network).collect()))
    }

    /// Notes the MAC address of a device; true if it is another than before.
    pub(super) fn note(&mut self, v6: bool, mac: MacAddr) -> bool {
        let place = match v6 {
            true => &mut self.vtep_mac_v6,
            false => &mut self.vtep_mac,
        };
        let mac = Some(mac.to_string());
        std::mem::replace(place, mac.clone()) != mac
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The MAC address of a family.
    pub fn mac(&self, v6: bool) -> Option<MacAddr> {
        let text = if v6 {
            &self.vtep_mac_v6
        } else {
            &self.vtep_mac
        };
        text.as_ref()?.parse().ok()
    }

    /// Puts them where the configuration has what follows from the pod networks.
    pub fn complete(&self, config: &mut Config) {
        let node = &mut config.node;
        let usual = vtep_default(&node.pod_cidrs);
        for v6 in [false, true] {
            let now = match v6 {
                true => &mut node.vtep_mac_v6,
                false => &mut node.vtep_mac,
            };
            if let Some(mac) = self.mac(v6).filter(|_| *now == usual) {
                *now = mac;
            }
        }
    }
}

/// Whether the node was given back, by the state of an agent that does not run.
///
/// # Errors
/// The state cannot be read.
pub fn is_given_back(state_dir: &Path) -> Result<bool, StateError> {
    let now = boot_id();
    let marked = |state: State| state.takeover.given_back && state.boot_id == now;
    Ok(peek(state_dir)?.is_some_and(marked))
}

/// Takes the mark away.
///
/// # Errors
/// An agent serves the node, or the state cannot be read or written.
pub fn take_again(state_dir: &Path) -> Result<(), StateError> {
    let locked = StateDir::lock(state_dir)?;
    let mut state = locked.load()?;
    state.takeover.given_back = false;
    locked.save(&state)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../config/ringway.toml");

    fn config(extra: &str) -> Config {
        let text = TEXT.replace("[node]", &format!("[node]\n{extra}"));
        Config::parse(Path::new("t"), &text).unwrap()
    }

    #[test]
    fn a_noted_mac_takes_the_place_of_the_derived_one_only() {
        let mut record = Record::default();
        let mac: MacAddr = "12:c6:65:89:b4:e3".parse().unwrap();
        assert!(record.note(false, mac));
        assert!(!record.note(false, mac));
        let mut derived = config("");
        let v6 = derived.node.vtep_mac_v6;
        record.complete(&mut derived);
        assert_eq!(derived.node.vtep_mac, mac);
        // Flannel had no device for IPv6.
        assert_eq!(derived.node.vtep_mac_v6, v6);
        let mut configured = config("vtep_mac = \"0e:00:00:00:00:09\"");
        record.complete(&mut configured);
        assert_eq!(configured.node.vtep_mac.to_string(), "0e:00:00:00:00:09");
    }

    #[test]
    fn a_bridge_is_kept_with_its_networks() {
        let mut record = Record::default();
        let network = |cidr: &str, ip: &str| Network {
            cidr: cidr.parse().unwrap(),
            gateway: Some(ip.parse().unwrap()),
        };
        let networks = [
            network("10.77.1.0/24", "10.77.1.1"),
            network("fd77:1::/64", "fd77:1::1"),
        ];
        assert!(record.note_bridge(Some(("cni0", &networks))));
        assert!(!record.note_bridge(Some(("cni0", &networks))));
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read.bridge(), Some(("cni0", networks.to_vec())));
        assert!(record.note_bridge(None));
        assert_eq!(record.bridge(), None);
    }

    #[test]
    fn an_empty_one_is_not_written_and_nonsense_is_no_mac() {
        assert_eq!(serde_json::to_string(&Record::default()).unwrap(), "{}");
        let record: Record = serde_json::from_str(r#"{"vtep_mac":"no"}"#).unwrap();
        assert_eq!(record.mac(false), None);
    }
}
