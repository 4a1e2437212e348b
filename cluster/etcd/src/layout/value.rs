//! What a key of a subnet holds (Flannel's `LeaseAttrs`):
//! `{"PublicIP":"10.77.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"…"}}`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringway_cluster::flannel::{Backend, NetConf, Vtep};
use ringway_packet::mac::MacAddr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shown;

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Outer IPv4 address.
    pub public_ip: Option<Ipv4Addr>,
    /// Outer IPv6 address.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Encapsulation.
    pub backend: Backend,
}

/// A value that says nothing of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Another kind of text.
    #[error("its value {value:?} is not Flannel's JSON: {why}")]
    Json {
        /// The value, shortened.
        value: String,
        /// Why not.
        why: String,
    },
    /// VNI or MAC address.
    #[error(
        "its {key} is {value:?}; wanted {{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}} ({why})"
    )]
    Vtep {
        /// Which.
        key: &'static str,
        /// What it is, shortened.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
struct Read {
    #[serde(rename = "PublicIP")]
    public_ip: Option<Ipv4Addr>,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<Ipv6Addr>,
    #[serde(rename = "BackendType", default)]
    kind: Option<String>,
    #[serde(rename = "BackendData", default)]
    data: Value,
    #[serde(rename = "BackendV6Data", default)]
    data_v6: Value,
}

/// In Go's order, and with what Go leaves out left out.
#[derive(Serialize)]
struct Written {
    #[serde(rename = "PublicIP")]
    public_ip: Ipv4Addr,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<Ipv6Addr>,
    #[serde(rename = "BackendType", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    data_v6: Option<Data>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl Attributes {
    /// Reads a value.
    ///
    /// # Errors
    /// It is not what Flannel writes.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let read: Read = serde_json::from_str(text).map_err(|e| ValueError::Json {
            value: shown(text),
            why: e.to_string(),
        })?;
        let backend = match read.kind.as_deref().unwrap_or("") {
            "vxlan" => Backend::Vxlan {
                v4: vtep("BackendData", &read.data)?,
                v6: vtep("BackendV6Data", &read.data_v6)?,
            },
            "" | "udp" => Backend::Udp,
            other => Backend::Other(shown(other)),
        };
        Ok(Self {
            // Go writes the address 0.0.0.0 where there is none.
            public_ip: read.public_ip.filter(|a| !a.is_unspecified()),
            public_ipv6: read.public_ipv6.filter(|a| !a.is_unspecified()),
            backend,
        })
    }

    /// Outer addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.public_ip.map(IpAddr::V4);
        v4.into_iter()
            .chain(self.public_ipv6.map(IpAddr::V6))
            .collect()
    }

    /// The value, byte by byte as Flannel writes it.
    pub fn write(&self) -> String {
        let data = |vtep: &Vtep| Data {
            vni: vtep.vni,
            mac: vtep.mac.to_string(),
        };
        let (kind, v4, v6) = match &self.backend {
            Backend::Vxlan { v4, v6 } => (Some("vxlan".into()), v4.as_ref(), v6.as_ref()),
            Backend::Udp => (None, None, None),
            Backend::Other(name) => (Some(name.clone()), None, None),
        };
        let written = Written {
            public_ip: self.public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            public_ipv6: self.public_ipv6,
            kind,
            data: v4.map(data),
            data_v6: v6.map(data),
        };
        // Names, addresses and numbers always have a form in JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

fn vtep(key: &'static str, value: &Value) -> Result<Option<Vtep>, ValueError> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = |why: String| ValueError::Vtep {
        key,
        value: shown(&value.to_string()),
        why,
    };
    let data: Data = serde_json::from_value(value.clone()).map_err(|e| wrong(e.to_string()))?;
    let mac: MacAddr = data
        .mac
        .parse()
        .map_err(|_| wrong("no MAC address".into()))?;
    if mac.is_multicast() || mac == MacAddr::ZERO {
        return Err(wrong("no MAC address of one station".into()));
    }
    if data.vni > NetConf::MAX_VNI {
        return Err(wrong(format!("the VNI is above {}", NetConf::MAX_VNI)));
    }
    Ok(Some(Vtep { vni: data.vni, mac }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_flanneld_writes_is_read_and_written_byte_by_byte() {
        for text in [
            r#"{"PublicIP":"10.77.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}}"#,
            r#"{"PublicIP":"10.77.0.2","PublicIPv6":"fd00:77::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"},"BackendV6Data":{"VNI":1,"VtepMAC":"2e:41:0b:1c:9a:07"}}"#,
            r#"{"PublicIP":"10.77.0.2","PublicIPv6":null}"#,
        ] {
            assert_eq!(Attributes::parse(text).unwrap().write(), text);
        }
        // A reservation, as people write one, and null for data.
        for text in [
            r#"{"PublicIP": "10.77.0.2"}"#,
            r#"{"PublicIP":"10.77.0.2","PublicIPv6":null,"BackendData":null}"#,
        ] {
            let read = Attributes::parse(text).unwrap();
            assert_eq!(read.backend, Backend::Udp);
            assert_eq!(read.addresses(), ["10.77.0.2".parse::<IpAddr>().unwrap()]);
        }
        let none = Attributes::parse(r#"{"PublicIP":"0.0.0.0"}"#).unwrap();
        assert!(none.addresses().is_empty());
    }

    #[test]
    fn other_backends_are_kept_by_name() {
        let text =
            r#"{"PublicIP":"10.77.0.2","BackendType":"wireguard","BackendData":{"PublicKey":"x"}}"#;
        let backend = Attributes::parse(text).unwrap().backend;
        assert_eq!(backend, Backend::Other("wireguard".into()));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (text, wanted) in [
            ("", "is not Flannel's JSON"),
            ("[]", "is not Flannel's JSON"),
            (r#"{"PublicIP":"fd00::1"}"#, "is not Flannel's JSON"),
            (
                r#"{"BackendType":"vxlan","BackendData":{"VNI":1}}"#,
                "VtepMAC",
            ),
            (
                r#"{"BackendType":"vxlan","BackendData":{"VNI":16777216,"VtepMAC":"12:c6:65:89:b4:e3"}}"#,
                "above 16777215",
            ),
            (
                r#"{"BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}}"#,
                "BackendV6Data",
            ),
        ] {
            let error = Attributes::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let error = Attributes::parse(&"é".repeat(100_000)).unwrap_err();
        assert!(error.to_string().len() < 400);
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_does_no_harm(
            text in ".*", key in "BackendType|BackendData|PublicIP", value in "null|[0-9]{1,20}|\"[^\"\\\\]*\"|\\{\\}"
        ) {
            let _ = Attributes::parse(&text);
            let _ = Attributes::parse(&format!("{{\"BackendType\":\"vxlan\",\"{key}\":{value}}}"));
        }
    }
}
