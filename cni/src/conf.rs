//! The network configuration on stdin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::api::{Attachment, Bandwidth, PortMapping};
use crate::error::{DECODE, Error, Result};

/// Where the agent's socket is unless the configuration says otherwise.
pub const SOCKET: &str = "/run/ringway/ringway.sock";
/// Where a DEL that found no agent is left.
pub const PENDING: &str = "/var/lib/ringway/cni-pending";

/// What is read of it; other keys are for others.
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
        Self::read(text, &[])
    }

    /// Reads no more of it than a DEL needs: a mistake elsewhere must not keep a pod from ending.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for what is read.
    pub fn parse_for_del(text: &[u8]) -> Result<Self> {
        let others = ["mtu", "dns", "runtimeConfig", "args", "prevResult"];
        Self::read(text, &others)
    }

    fn read(text: &[u8], without: &[&str]) -> Result<Self> {
        let understood = serde_json::from_slice::<Value>(text).and_then(|value| {
            // A list would pass for an object with all keys left out.
            let Value::Object(mut keys) = value else {
                return Err(serde::de::Error::custom("it is not an object"));
            };
            for key in without {
                keys.remove(*key);
            }
            // A runtime with nothing attached says `null`, as its language writes an empty list.
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                if let Some(value) = keys.get_mut(key).filter(|value| value.is_null()) {
                    *value = Value::Array(Vec::new());
                }
            }
            // Elsewhere, too, it means that there is nothing.
            keys.retain(|_, value| !value.is_null());
            if let Some(Value::Object(keys)) = keys.get_mut("runtimeConfig") {
                keys.retain(|_, value| !value.is_null());
            }
            serde_json::from_value(Value::Object(keys))
        });
        understood.map_err(|e| {
            Error::new(
                DECODE,
                format!("the network configuration on stdin is not understood: {e}"),
                "see the file in /etc/cni/net.d; `ringway install-cni` writes a good one",
            )
        })
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| SOCKET.into())
    }

    /// The folder of DELs that found no agent.
    pub fn pending(&self) -> PathBuf {
        self.pending_dir.clone().unwrap_or_else(|| PENDING.into())
    }

    /// The plugin that gives the addresses, if it is not the agent itself.
    pub fn delegate(&self) -> Option<&str> {
        let kind = self.ipam.kind.as_str();
        (!kind.is_empty() && kind != "ringway").then_some(kind)
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
