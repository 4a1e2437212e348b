//! `net-conf.json`: what Flannel's network is. In the ConfigMap `kube-flannel-cfg`, or in etcd.

use std::net::IpAddr;

use ringway_tables::Cidr;
use serde_json::{Map, Value};

/// The network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConf {
    /// All IPv4 pods, if IPv4 is enabled.
    pub network: Option<Cidr>,
    /// All IPv6 pods, if IPv6 is enabled.
    pub ipv6_network: Option<Cidr>,
    /// Bits of a node's own network, for etcd: 24 unless said.
    pub subnet_len: Option<u8>,
    /// The first network to be given to a node, for etcd.
    pub subnet_min: Option<IpAddr>,
    /// The last one.
    pub subnet_max: Option<IpAddr>,
    /// The same three for IPv6.
    pub ipv6_subnet_len: Option<u8>,
    /// The first IPv6 network to be given.
    pub ipv6_subnet_min: Option<IpAddr>,
    /// The last one.
    pub ipv6_subnet_max: Option<IpAddr>,
    /// How packets travel.
    pub backend: BackendConf,
}

/// `Backend` of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendConf {
    /// VXLAN.
    Vxlan {
        /// VXLAN network identifier; 1 unless said.
        vni: u32,
        /// UDP port; 8472, Linux' default, unless said.
        port: u16,
        /// Nodes of one layer-2 network do not encapsulate.
        direct_routing: bool,
    },
    /// UDP; port 8285 unless said. It is Flannel's default where `Backend` is missing.
    Udp {
        /// UDP port.
        port: u16,
    },
    /// Another one, by its name.
    Other(String),
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetConfError {
    /// No JSON object.
    #[error("net-conf.json is no JSON object: {why}")]
    Json {
        /// What the parser says.
        why: String,
    },
    /// A key with a value that it cannot have.
    #[error("net-conf.json: {key} is {value}; wanted {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is there, shortened.
        value: String,
        /// What may be there.
        wanted: &'static str,
    },
    /// Neither family has a network.
    #[error(
        "net-conf.json: neither Network nor IPv6Network is there and enabled; wanted the network of all pods"
    )]
    Nothing,
}

/// Keys as Go matches them: any case.
struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        let exact = self.0.get(key);
        let any = || self.0.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
        exact
            .or_else(|| any().map(|(_, value)| value))
            .filter(|v| !v.is_null())
    }

    fn read<T>(
        &self,
        key: &'static str,
        wanted: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, NetConfError> {
        let wrong = |value: &Value| NetConfError::Value {
            key,
            value: value.to_string().chars().take(60).collect(),
            wanted,
        };
        let value = self.get(key);
        value.map(|v| read(v).ok_or_else(|| wrong(v))).transpose()
    }

    fn number<T: TryFrom<u64>>(
        &self,
        key: &'static str,
        wanted: &'static str,
    ) -> Result<Option<T>, NetConfError> {
        self.read(key, wanted, |v| T::try_from(v.as_u64()?).ok())
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, NetConfError> {
        self.read(key, "true or false", Value::as_bool)
    }

    fn address(&self, key: &'static str, v6: bool) -> Result<Option<IpAddr>, NetConfError> {
        let wanted = if v6 {
            "an IPv6 address"
        } else {
            "an IPv4 address"
        };
        let read = |v: &Value| {
            v.as_str()?
                .parse()
                .ok()
                .filter(|a: &IpAddr| a.is_ipv6() == v6)
        };
        self.read(key, wanted, read)
    }

    fn network(&self, key: &'static str, v6: bool) -> Result<Option<Cidr>, NetConfError> {
        let wanted = if v6 {
            "an IPv6 network, as fd77::/48"
        } else {
            "an IPv4 network, as 10.244.0.0/16"
        };
        self.read(key, wanted, |v| {
            let (address, len) = v.as_str()?.split_once('/')?;
            let cidr = Cidr::containing(address.parse().ok()?, len.parse().ok()?).ok()?;
            (cidr.is_ipv6() == v6).then_some(cidr)
        })
    }
}

impl NetConf {
    /// The largest VNI: 24 bits (RFC 7348 section 5).
    pub const MAX_VNI: u32 = (1 << 24) - 1;

    /// Reads the JSON.
    ///
    /// # Errors
    /// It is none, or a value of it cannot be.
    pub fn parse(text: &str) -> Result<Self, NetConfError> {
        let json = |why: String| NetConfError::Json { why };
        let value: Value = serde_json::from_str(text).map_err(|e| json(e.to_string()))?;
        let Value::Object(map) = &value else {
            return Err(json("it is another kind of value".into()));
        };
        let keys = Keys(map);
        let v4 = keys.flag("EnableIPv4")?.unwrap_or(true);
        let v6 = keys.flag("EnableIPv6")?.unwrap_or(false);
        let network = keys.network("Network", false)?.filter(|_| v4);
        let ipv6_network = keys.network("IPv6Network", true)?.filter(|_| v6);
        if network.is_none() && ipv6_network.is_none() {
            return Err(NetConfError::Nothing);
        }
        Ok(Self {
            network,
            ipv6_network,
            subnet_len: keys.number("SubnetLen", "bits, 1 to 30")?,
            subnet_min: keys.address("SubnetMin", false)?,
            subnet_max: keys.address("SubnetMax", false)?,
            ipv6_subnet_len: keys.number("IPv6SubnetLen", "bits, 1 to 126")?,
            ipv6_subnet_min: keys.address("IPv6SubnetMin", true)?,
            ipv6_subnet_max: keys.address("IPv6SubnetMax", true)?,
            backend: backend(&keys)?,
        })
    }

    /// The networks that there are, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = Cidr> {
        self.network.into_iter().chain(self.ipv6_network)
    }
}

fn backend(keys: &Keys<'_>) -> Result<BackendConf, NetConfError> {
    let empty = Map::new();
    let map = keys.read("Backend", "an object", |v| v.as_object().cloned())?;
    let backend = Keys(map.as_ref().unwrap_or(&empty));
    let kind = backend.read("Type", "a name", |v| v.as_str().map(str::to_lowercase))?;
    let port = |default| {
        let port = backend.number("Port", "a port, 1 to 65535")?;
        Ok(port.filter(|p| *p != 0).unwrap_or(default))
    };
    Ok(match kind.as_deref().unwrap_or("udp") {
        "vxlan" => {
            let vni = backend.number("VNI", "a VNI, 1 to 16777215")?.unwrap_or(1);
            if vni > NetConf::MAX_VNI {
                let (key, value, wanted) = ("VNI", vni.to_string(), "a VNI, 1 to 16777215");
                return Err(NetConfError::Value { key, value, wanted });
            }
            BackendConf::Vxlan {
                vni,
                port: port(8472)?,
                direct_routing: backend.flag("DirectRouting")?.unwrap_or(false),
            }
        }
        "udp" => BackendConf::Udp { port: port(8285)? },
        other => BackendConf::Other(other.chars().take(60).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_manifest_that_everybody_installs() {
        let conf = NetConf::parse(
            r#"{
                "Network": "10.244.0.0/16",
                "EnableNFTables": false,
                "Backend": {"Type": "vxlan"}
            }"#,
        )
        .unwrap();
        assert_eq!(conf.network.unwrap().to_string(), "10.244.0.0/16");
        assert_eq!(conf.ipv6_network, None);
        let (vni, port, direct_routing) = (1, 8472, false);
        assert_eq!(
            conf.backend,
            BackendConf::Vxlan {
                vni,
                port,
                direct_routing
            }
        );
    }

    #[test]
    fn both_families_with_a_vni_and_a_port() {
        let conf = NetConf::parse(
            r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd77::/48",
                "backend":{"type":"VXLAN","VNI":4096,"Port":4789,"DirectRouting":true}}"#,
        )
        .unwrap();
        assert_eq!(conf.networks().count(), 2);
        let (vni, port, direct_routing) = (4096, 4789, true);
        assert_eq!(
            conf.backend,
            BackendConf::Vxlan {
                vni,
                port,
                direct_routing
            }
        );
    }

    #[test]
    fn without_a_backend_it_is_udp() {
        let conf = NetConf::parse(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        assert_eq!(conf.backend, BackendConf::Udp { port: 8285 });
    }

    #[test]
    fn an_ipv6_network_that_is_not_enabled_is_none() {
        let conf =
            NetConf::parse(r#"{"Network":"10.5.0.0/16","IPv6Network":"fd77::/48"}"#).unwrap();
        assert_eq!(conf.ipv6_network, None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, wanted) in [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "neither Network nor IPv6Network"),
            (r#"{"Network":"10.5.0.0"}"#, "Network is \"10.5.0.0\""),
            (r#"{"Network":"fd77::/48"}"#, "an IPv4 network"),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
                "VNI is 16777216",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":65536}}"#,
                "Port is 65536",
            ),
            (
                r#"{"Network":"10.5.0.0/16","EnableIPv6":1}"#,
                "EnableIPv6 is 1",
            ),
        ] {
            let error = NetConf::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_does_no_harm(text in ".*") {
            let _ = NetConf::parse(&text);
            let _ = NetConf::parse(&format!("{{\"Network\":{text:?},\"Backend\":{{\"Type\":{text:?}}}}}"));
        }
    }
}
