//! The network configuration on stdin.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{Attachment, Bandwidth, PortMapping};
use crate::error::{DECODE, Error, FIELD, Result};
use crate::shape::{self, Others, Shape, Tree};
use crate::version::Version;

/// Where the agent's socket is unless the configuration says otherwise.
pub const SOCKET: &str = "/run/ringway/ringway.sock";
/// Where a DEL that found no agent is left.
pub const PENDING: &str = "/var/lib/ringway/cni-pending";

const TEXTS: Shape = Shape::List(&Shape::Text);
const U16: Shape = Shape::Number(u16::MAX as u64);
const U64: Shape = Shape::Number(u64::MAX);

/// All keys of a configuration. Those of the specification that nothing is done with are known too.
const CONF: &[(&str, Shape)] = &[
    ("cniVersion", Shape::Text),
    ("name", Shape::Text),
    ("socket", Shape::Text),
    ("pendingDir", Shape::Text),
    ("mtu", U16),
    (
        "ipam",
        Shape::Object(&[("type", Shape::Text)], Others::Ignore),
    ),
    ("dns", DNS),
    ("runtimeConfig", Shape::Object(RUNTIME, Others::Report)),
    ("args", Shape::Object(&[("cni", CNI_ARGS)], Others::Ignore)),
    ("prevResult", RESULT),
    ("cni.dev/valid-attachments", ATTACHMENTS),
    ("cni.dev/attachments", ATTACHMENTS),
    ("type", Shape::Any),
    ("capabilities", Shape::Any),
    ("cniVersions", Shape::Any),
    ("disableCheck", Shape::Any),
    ("disableGC", Shape::Any),
    ("loadOnlyInlinedPlugins", Shape::Any),
];

const RUNTIME: &[(&str, Shape)] = &[
    ("portMappings", Shape::List(&PORT)),
    ("bandwidth", BANDWIDTH),
    ("ips", TEXTS),
    ("mac", Shape::Text),
    ("dns", Shape::Object(RUNTIME_DNS, Others::Report)),
    (
        "io.kubernetes.cri.pod-annotations",
        Shape::Map(&Shape::Text),
    ),
    ("ipRanges", Shape::List(&Shape::Any)),
    ("deviceID", Shape::Text),
    ("infinibandGUID", Shape::Text),
    // Names for a name server, a control group, a file to describe a device in: nothing to be done here.
    ("aliases", Shape::Any),
    ("cgroupPath", Shape::Any),
    ("CNIDeviceInfoFile", Shape::Any),
];

const PORT: Shape = Shape::Object(
    &[
        ("hostPort", U16),
        ("containerPort", U16),
        ("protocol", Shape::Text),
        ("hostIP", Shape::Text),
    ],
    Others::Report,
);

const BANDWIDTH: Shape = Shape::Object(
    &[
        ("ingressRate", U64),
        ("ingressBurst", U64),
        ("egressRate", U64),
        ("egressBurst", U64),
    ],
    Others::Report,
);

const RUNTIME_DNS: &[(&str, Shape)] =
    &[("servers", TEXTS), ("searches", TEXTS), ("options", TEXTS)];

const CNI_ARGS: Shape = Shape::Object(&[("ips", TEXTS), ("mac", Shape::Text)], Others::Ignore);

const ATTACHMENTS: Shape = Shape::List(&Shape::Object(
    &[("containerID", Shape::Text), ("ifname", Shape::Text)],
    Others::Ignore,
));

/// The specification's `dns`.
const DNS: Shape = Shape::Object(
    &[
        ("nameservers", TEXTS),
        ("domain", Shape::Text),
        ("search", TEXTS),
        ("options", TEXTS),
    ],
    Others::Keep,
);

/// A result of 0.3.0 to 1.1.0. Values are taken as they are: it is mostly handed on.
pub(crate) const RESULT: Shape = Shape::Object(
    &[
        ("cniVersion", Shape::Any),
        ("interfaces", Shape::List(&INTERFACE)),
        ("ips", Shape::List(&IP)),
        ("routes", Shape::List(&ROUTE)),
        ("dns", DNS),
    ],
    Others::Keep,
);

const INTERFACE: Shape = Shape::Object(
    &[
        ("name", Shape::Any),
        ("mac", Shape::Any),
        ("mtu", Shape::Any),
        ("sandbox", Shape::Any),
        ("socketPath", Shape::Any),
        ("pciID", Shape::Any),
    ],
    Others::Keep,
);

const IP: Shape = Shape::Object(
    &[
        ("version", Shape::Any),
        ("interface", Shape::Any),
        ("address", Shape::Any),
        ("gateway", Shape::Any),
    ],
    Others::Keep,
);

const ROUTE: Shape = Shape::Object(
    &[
        ("dst", Shape::Any),
        ("gw", Shape::Any),
        ("mtu", Shape::Any),
        ("advmss", Shape::Any),
        ("priority", Shape::Any),
        ("table", Shape::Any),
        ("scope", Shape::Any),
    ],
    Others::Keep,
);

/// What verbs need that are not about one pod.
const FOR_ALL: [&str; 5] = ["cniVersion", "name", "socket", "pendingDir", "ipam"];

fn is_list(key: &str) -> bool {
    key.starts_with("cni.dev/")
}

/// What is read of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conf {
    /// Version that the answer must have.
    pub cni_version: String,
    /// Name of the network.
    pub name: String,
    /// The agent's socket.
    pub socket: Option<PathBuf>,
    /// Folder for a DEL that found no agent.
    pub pending_dir: Option<PathBuf>,
    /// MTU of the pod, bytes.
    pub mtu: Option<u16>,
    /// Who gives the addresses.
    pub ipam: Ipam,
    /// What the answer says of DNS.
    pub dns: Option<Value>,
    /// What a runtime adds.
    pub runtime_config: RuntimeConfig,
    /// `args.cni`, the older way to ask for something.
    pub args: OuterArgs,
    /// The answer of the plugin before, or of our ADD.
    pub prev_result: Option<Value>,
    /// What exists, for a GC.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
    /// The same as an earlier library calls it.
    #[serde(rename = "cni.dev/attachments")]
    pub attachments: Option<Vec<ValidAttachment>>,
    /// Keys that are not known here.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

/// `ipam`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Another plugin, or nothing.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `runtimeConfig`: capabilities that the configuration has declared.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeConfig {
    /// Ports of the node.
    pub port_mappings: Vec<PortMapping>,
    /// Limits.
    pub bandwidth: Option<Bandwidth>,
    /// Addresses.
    pub ips: Vec<String>,
    /// MAC address.
    pub mac: Option<String>,
    /// DNS of the pod.
    pub dns: Option<Value>,
    /// The pod's annotations.
    #[serde(rename = "io.kubernetes.cri.pod-annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Ranges of addresses.
    pub ip_ranges: Vec<Value>,
    /// A device that is to become the interface.
    #[serde(rename = "deviceID")]
    pub device_id: String,
    /// A GUID for it.
    #[serde(rename = "infinibandGUID")]
    pub infiniband_guid: String,
}

/// `args`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OuterArgs {
    /// `args.cni`
    pub cni: CniArgs,
}

/// `args.cni`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CniArgs {
    /// Addresses.
    pub ips: Vec<String>,
    /// MAC address.
    pub mac: Option<String>,
}

/// One of the attachments that exist.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ValidAttachment {
    /// Container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Interface.
    pub ifname: String,
}

impl Conf {
    /// Reads it.
    ///
    /// # Errors
    /// It is no JSON object, or a key has another type than it should.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::read(text, &|_| true, false)
    }

    /// Reads no more of it than a verb needs that is not about one pod.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for what is read.
    pub fn parse_for_all(text: &[u8]) -> Result<Self> {
        Self::read(text, &|key| FOR_ALL.contains(&key) || is_list(key), false)
    }

    /// Reads no more of it than a DEL needs, and none of that must be right: a mistake must not keep a pod
    /// from ending.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn parse_for_del(text: &[u8]) -> Result<Self> {
        Self::read(text, &|key| FOR_ALL.contains(&key), true)
    }

    fn read(text: &[u8], wanted: &dyn Fn(&str) -> bool, lenient: bool) -> Result<Self> {
        let bad = |what: String| {
            Error::new(
                DECODE,
                format!("the network configuration on stdin is not understood: {what}"),
                "see the file in /etc/cni/net.d, of which `ringway install-cni` writes a good one, and what \
                 the container runtime adds under runtimeConfig",
            )
        };
        let Tree::Object(keys) = Tree::parse(text).map_err(|e| bad(e.to_string()))? else {
            return Err(bad("it is not an object".into()));
        };
        let (mut known, mut unknown) = (Map::new(), Vec::new());
        for (key, value) in keys {
            let Some((name, field)) = CONF.iter().find(|(name, _)| shape::same(name, &key)) else {
                shape::note(&mut unknown, &key);
                continue;
            };
            if !wanted(name) {
                continue;
            }
            // A runtime with nothing attached says `null`, as its language writes an empty list.
            let value = match is_list(name) && value.is_null() {
                true => Tree::List(Vec::new()),
                false => value,
            };
            match shape::put(&mut known, (name, field), value, name, &mut unknown) {
                Err(wrong) if !lenient => return Err(bad(wrong.to_string())),
                _ => {}
            }
        }
        let conf: Self =
            serde_json::from_value(Value::Object(known)).map_err(|e| bad(e.to_string()))?;
        Ok(Self { unknown, ..conf })
    }

    /// The configuration for another plugin's DEL: its version is one that it knows.
    pub fn readable<'a>(&self, text: &'a [u8], version: Version) -> Cow<'a, [u8]> {
        if self.cni_version == version.name() {
            return text.into();
        }
        let tree = Tree::parse(text).map_or(Value::Null, Tree::value);
        let Value::Object(mut keys) = tree else {
            return text.into();
        };
        keys.retain(|key, _| !shape::same("cniVersion", key));
        keys.insert("cniVersion".into(), version.name().into());
        Value::Object(keys).to_string().into_bytes().into()
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        or(&self.socket, SOCKET)
    }

    /// The folder of DELs that found no agent.
    pub fn pending(&self) -> PathBuf {
        or(&self.pending_dir, PENDING)
    }

    /// The plugin that gives the addresses, if it is not the agent itself.
    pub fn delegate(&self) -> Option<&str> {
        let kind = self.ipam.kind.as_str();
        (!kind.is_empty() && kind != "ringway").then_some(kind)
    }

    /// Refuses what cannot be given to a pod.
    ///
    /// # Errors
    /// The key and its value.
    pub fn supported(&self) -> Result<()> {
        let runtime = &self.runtime_config;
        let refuse = |key: &str, value: &dyn std::fmt::Display, why: &str| {
            Err(Error::new(
                FIELD,
                format!("runtimeConfig.{key}: {value} cannot be honoured: {why}"),
                format!("take {key} out of the capabilities in the network configuration"),
            ))
        };
        if !runtime.device_id.is_empty() {
            let value = format!("{:?}", runtime.device_id);
            return refuse(
                "deviceID",
                &value,
                "a pod's interface is a TAP, not a device",
            );
        }
        if !runtime.infiniband_guid.is_empty() {
            let value = format!("{:?}", runtime.infiniband_guid);
            return refuse(
                "infinibandGUID",
                &value,
                "a pod's interface is a TAP, not a device",
            );
        }
        // Another IPAM plugin reads them itself.
        if !runtime.ip_ranges.is_empty() && self.delegate().is_none() {
            let value = Value::Array(runtime.ip_ranges.clone());
            let why =
                "addresses come from the node's pod networks ([ipam] of the agent's configuration)";
            return refuse("ipRanges", &value, why);
        }
        Ok(())
    }

    /// What exists, for a GC.
    ///
    /// # Errors
    /// The runtime has not said.
    pub fn valid(&self) -> Result<Vec<Attachment>> {
        let all = self
            .valid_attachments
            .as_ref()
            .or(self.attachments.as_ref());
        let all = all.ok_or_else(|| {
            Error::new(
                crate::error::INVALID,
                "GC without cni.dev/valid-attachments would release every pod",
                "the runtime has to list what exists, if need be as an empty list",
            )
        })?;
        Ok(all
            .iter()
            .map(|one| Attachment {
                container_id: one.container_id.clone(),
                ifname: one.ifname.clone(),
            })
            .collect())
    }
}

fn or(path: &Option<PathBuf>, usual: &str) -> PathBuf {
    let said = path.clone().filter(|path| !path.as_os_str().is_empty());
    said.unwrap_or_else(|| usual.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_send_is_understood() {
        let conf = Conf::parse(
            br#"{"cniVersion":"1.0.0","name":"n","type":"ringway-cni","dns":null,
            "runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],
            "bandwidth":{"ingressRate":1000,"egressRate":2000},"ips":null,
            "io.kubernetes.cri.pod-annotations":{"a":"b"}},"future":[1]}"#,
        )
        .unwrap();
        assert_eq!(conf.runtime_config.port_mappings[0].host_port, 8080);
        assert_eq!(conf.runtime_config.bandwidth.unwrap().egress_rate, 2000);
        assert_eq!(conf.runtime_config.annotations["a"], "b");
        assert_eq!(conf.socket(), PathBuf::from(SOCKET));
        assert_eq!(conf.delegate(), None);
    }

    #[test]
    fn who_gives_addresses() {
        let delegate = |text: &[u8]| Conf::parse(text).unwrap().delegate().map(str::to_owned);
        assert_eq!(
            delegate(br#"{"ipam":{"type":"host-local"}}"#).unwrap(),
            "host-local"
        );
        for own in [
            &br#"{"ipam":{"type":"ringway"}}"#[..],
            br#"{"ipam":{}}"#,
            b"{}",
        ] {
            assert_eq!(delegate(own), None);
        }
    }

    #[test]
    fn a_gc_must_say_what_exists() {
        let valid = |text: &str| Conf::parse(text.as_bytes()).unwrap().valid();
        assert!(valid("{}").is_err());
        assert_eq!(valid(r#"{"cni.dev/valid-attachments":[]}"#).unwrap(), []);
        assert_eq!(valid(r#"{"cni.dev/valid-attachments":null}"#).unwrap(), []);
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let all = valid(&format!(
                r#"{{"{key}":[{{"containerID":"a","ifname":"eth0"}}]}}"#
            ));
            assert_eq!(all.unwrap()[0].container_id, "a");
        }
    }

    #[test]
    fn a_del_reads_what_it_needs() {
        let text = br#"{"cniVersion":"1.0.0","mtu":"big","runtimeConfig":{"portMappings":7},
            "socket":"/s","ipam":{"type":"x"}}"#;
        assert!(Conf::parse(text).is_err());
        let conf = Conf::parse_for_del(text).unwrap();
        assert_eq!(conf.socket(), PathBuf::from("/s"));
        assert_eq!(conf.delegate(), Some("x"));
    }

    #[test]
    fn garbage_is_refused() {
        for text in [
            &b""[..],
            b"[]",
            b"{",
            b"\xff",
            br#"{"mtu":"big"}"#,
            br#"{"mtu":70000}"#,
        ] {
            assert_eq!(Conf::parse(text).unwrap_err().code, DECODE);
        }
    }
}
