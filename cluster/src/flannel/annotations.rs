//! The annotations of a Node object by which Flannel's nodes find each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringway_packet::mac::MacAddr;
use serde::Deserialize;

use super::NetConf;

/// Prefix of every key, `--kube-annotation-prefix` of flanneld.
pub const PREFIX: &str = "flannel.alpha.coreos.com";

/// Bytes of a value in a message.
const SHOWN: usize = 60;

/// What a node says of how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotations {
    /// How packets travel to it.
    pub backend: Backend,
    /// Outer IPv4 address.
    pub public_ip: Option<Ipv4Addr>,
    /// Outer IPv6 address.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Outer IPv4 address that others see, where there is NAT between.
    pub overwrite_ip: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub overwrite_ipv6: Option<Ipv6Addr>,
}

/// Flannel's backends, as far as Ringway speaks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// VXLAN; a family without a VTEP has no pods there.
    Vxlan {
        /// That of IPv4 pods.
        v4: Option<Vtep>,
        /// That of IPv6 pods.
        v6: Option<Vtep>,
    },
    /// Bare IPv4 packets in UDP.
    Udp,
    /// Another one, by its name.
    Other(String),
}

/// One end of a VXLAN tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Inner destination MAC of packets to it.
    pub mac: MacAddr,
}

/// Why annotations cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// Not an address of that family.
    #[error("annotation {PREFIX}/{key} is {value:?}, which is no {family} address")]
    Address {
        /// Key without the prefix.
        key: &'static str,
        /// What is there, shortened.
        value: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// Not the JSON of a VTEP.
    #[error(
        "annotation {PREFIX}/{key} is {value:?}; wanted {{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}} ({why})"
    )]
    Vtep {
        /// Key without the prefix.
        key: &'static str,
        /// What is there, shortened.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
struct RawVtep {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl Annotations {
    /// Reads them; `None` where the node is no member of the network (`kube-subnet-manager` is not `"true"`).
    ///
    /// # Errors
    /// A value that has to be understood is not.
    pub fn read(all: &BTreeMap<String, String>) -> Result<Option<Self>, AnnotationError> {
        let get = |key: &str| all.get(&format!("{PREFIX}/{key}")).map(String::as_str);
        if get("kube-subnet-manager") != Some("true") {
            return Ok(None);
        }
        let v4 = |key| address(key, get(key), "IPv4");
        let v6 = |key| address(key, get(key), "IPv6");
        let backend = match get("backend-type").unwrap_or("") {
            "vxlan" => Backend::Vxlan {
                v4: vtep("backend-data", get("backend-data"))?,
                v6: vtep("backend-v6-data", get("backend-v6-data"))?,
            },
            "" | "udp" => Backend::Udp,
            other => Backend::Other(shortened(other)),
        };
        Ok(Some(Self {
            backend,
            public_ip: v4("public-ip")?,
            public_ipv6: v6("public-ipv6")?,
            overwrite_ip: v4("public-ip-overwrite")?,
            overwrite_ipv6: v6("public-ipv6-overwrite")?,
        }))
    }

    /// The VTEP of a family, if there is one and it can be read, whatever else is wrong.
    pub fn vtep(all: &BTreeMap<String, String>, v6: bool) -> Option<Vtep> {
        let key = if v6 {
            "backend-v6-data"
        } else {
            "backend-data"
        };
        let text = all.get(&format!("{PREFIX}/{key}"));
        vtep(key, text.map(String::as_str)).ok().flatten()
    }

    /// Outer addresses, those to send to first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = [
            self.overwrite_ip.map(IpAddr::V4),
            self.overwrite_ipv6.map(IpAddr::V6),
            self.public_ip.map(IpAddr::V4),
            self.public_ipv6.map(IpAddr::V6),
        ];
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in all.into_iter().flatten() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Keys and values as Flannel writes them; `None` takes a key away. What the operator writes (`-overwrite`) is
    /// left out.
    ///
    /// A Flannel that starts anew takes its MAC from between the second `:` of `backend-data` and its end
    /// (`pkg/backend/vxlan/vxlan.go`), so there is not a byte more in it than Flannel has.
    pub fn write(&self) -> BTreeMap<String, Option<String>> {
        let (kind, v4, v6) = match &self.backend {
            Backend::Vxlan { v4, v6 } => ("vxlan", v4.map(json), v6.map(json)),
            Backend::Udp => ("", Some("null".to_owned()), None),
            Backend::Other(name) => (name.as_str(), None, None),
        };
        let entries = [
            ("kube-subnet-manager", Some("true".to_owned())),
            ("backend-type", Some(kind.to_owned())),
            ("backend-data", v4),
            ("backend-v6-data", v6),
            ("public-ip", self.public_ip.map(|a| a.to_string())),
            ("public-ipv6", self.public_ipv6.map(|a| a.to_string())),
        ];
        let full = |(key, value): (&str, Option<String>)| (format!("{PREFIX}/{key}"), value);
        entries.into_iter().map(full).collect()
    }
}

/// As Go's encoder writes it: no space, this order.
fn json(vtep: Vtep) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write!(
        text,
        "{{\"VNI\":{},\"VtepMAC\":\"{}\"}}",
        vtep.vni, vtep.mac
    );
    text
}

fn vtep(key: &'static str, text: Option<&str>) -> Result<Option<Vtep>, AnnotationError> {
    let Some(text) = text.filter(|t| !matches!(*t, "" | "null")) else {
        return Ok(None);
    };
    let wrong = |why: String| AnnotationError::Vtep {
        key,
        value: shortened(text),
        why,
    };
    let raw: RawVtep = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let mac: MacAddr = raw
        .mac
        .parse()
        .map_err(|_| wrong("VtepMAC is no MAC address".into()))?;
    if mac.is_multicast() || mac == MacAddr::ZERO {
        return Err(wrong("VtepMAC is no address of one station".into()));
    }
    if raw.vni > NetConf::MAX_VNI {
        return Err(wrong(format!("VNI is above {}", NetConf::MAX_VNI)));
    }
    Ok(Some(Vtep { vni: raw.vni, mac }))
}

fn address<A: std::str::FromStr>(
    key: &'static str,
    text: Option<&str>,
    family: &'static str,
) -> Result<Option<A>, AnnotationError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    let wrong = |_| AnnotationError::Address {
        key,
        value: shortened(text),
        family,
    };
    text.parse().map(Some).map_err(wrong)
}

/// At most [`SHOWN`] bytes; a message is no place for a megabyte.
fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let full = |(key, value): &(&str, &str)| (format!("{PREFIX}/{key}"), (*value).to_owned());
        entries.iter().map(full).collect()
    }

    /// As flanneld 0.27 leaves them on a dual-stack node.
    fn dual() -> BTreeMap<String, String> {
        all(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", "vxlan"),
            ("backend-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
            (
                "backend-v6-data",
                r#"{"VNI":1,"VtepMAC":"2e:41:0b:1c:9a:07"}"#,
            ),
            ("public-ip", "192.168.77.2"),
            ("public-ipv6", "fd00:77::2"),
        ])
    }

    #[test]
    fn what_flanneld_writes_is_read_and_written_back_byte_by_byte() {
        let read = Annotations::read(&dual()).unwrap().unwrap();
        let Backend::Vxlan {
            v4: Some(v4),
            v6: Some(v6),
        } = read.backend
        else {
            panic!("{read:?}");
        };
        assert_eq!(
            (v4.vni, v4.mac.to_string().as_str()),
            (1, "12:c6:65:89:b4:e3")
        );
        assert_eq!(v6.mac.to_string(), "2e:41:0b:1c:9a:07");
        let addresses: Vec<String> = read.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.168.77.2", "fd00:77::2"]);
        let written: BTreeMap<String, String> = read
            .write()
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        assert_eq!(written, dual());
    }

    #[test]
    fn flanneld_finds_its_mac_again_in_what_we_write() {
        // What pkg/backend/vxlan does: split at `:`, once, and cut the rest at the quotes.
        let read = Annotations::read(&dual()).unwrap().unwrap();
        let text = read.write()[&format!("{PREFIX}/backend-data")]
            .clone()
            .unwrap();
        let (_, mac) = text.split_once("\"VtepMAC\":\"").unwrap();
        assert_eq!(mac, "12:c6:65:89:b4:e3\"}");
    }

    #[test]
    fn a_node_without_the_mark_is_no_member() {
        for mark in ["", "false", "True"] {
            let mut annotations = dual();
            annotations.insert(format!("{PREFIX}/kube-subnet-manager"), mark.into());
            assert_eq!(Annotations::read(&annotations), Ok(None));
        }
        assert_eq!(Annotations::read(&BTreeMap::new()), Ok(None));
    }

    #[test]
    fn an_overwritten_address_is_sent_to_and_the_own_one_accepted() {
        let mut annotations = dual();
        annotations.insert(
            format!("{PREFIX}/public-ip-overwrite"),
            "203.0.113.7".into(),
        );
        let read = Annotations::read(&annotations).unwrap().unwrap();
        let addresses: Vec<String> = read.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["203.0.113.7", "192.168.77.2", "fd00:77::2"]);
    }

    #[test]
    fn the_udp_backend_has_an_empty_name_and_null_for_data() {
        let annotations = all(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", ""),
            ("backend-data", "null"),
            ("public-ip", "192.168.77.2"),
        ]);
        let read = Annotations::read(&annotations).unwrap().unwrap();
        assert_eq!(read.backend, Backend::Udp);
        assert_eq!(
            read.write()[&format!("{PREFIX}/backend-data")].as_deref(),
            Some("null")
        );
    }

    #[test]
    fn what_cannot_be_followed_is_named_with_key_and_value() {
        for (key, value, wanted) in [
            ("backend-data", "{\"VNI\":1}", "missing field `VtepMAC`"),
            (
                "backend-data",
                "{\"VNI\":16777216,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}",
                "VNI is above 16777215",
            ),
            (
                "backend-data",
                "{\"VNI\":1,\"VtepMAC\":\"ff:ff:ff:ff:ff:ff\"}",
                "no address of one station",
            ),
            ("backend-v6-data", "[]", "invalid"),
            ("public-ip", "fd00::1", "no IPv4 address"),
            ("public-ipv6", "192.168.77.2", "no IPv6 address"),
            ("public-ip-overwrite", "localhost", "no IPv4 address"),
        ] {
            let mut annotations = dual();
            annotations.insert(format!("{PREFIX}/{key}"), value.into());
            let error = Annotations::read(&annotations).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains(key), "{error}");
        }
        let mut annotations = dual();
        annotations.insert(format!("{PREFIX}/public-ip"), "é".repeat(100_000));
        let error = Annotations::read(&annotations).unwrap_err().to_string();
        assert!(error.len() < 300, "{} bytes", error.len());
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_does_no_harm(
            values in prop::collection::vec(("(backend-(type|data|v6-data)|public-ip(v6)?(-overwrite)?)", ".*"), 0..6)
        ) {
            let mut annotations = dual();
            for (key, value) in values {
                annotations.insert(format!("{PREFIX}/{key}"), value);
            }
            let _ = Annotations::read(&annotations);
        }
    }
}
