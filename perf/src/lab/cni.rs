//! A CNI plugin called as a container runtime calls it: environment, configuration on stdin, JSON back.

use super::agent::{Agent, binary};
use super::error::{LabError, Result};
use super::netns::Netns;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Interface a runtime asks for.
pub const IFNAME: &str = "eth0";

/// A plugin with its configuration.
#[derive(Clone, Debug)]
pub struct Cni {
    /// Folder it is in.
    pub folder: PathBuf,
    /// Where it finds others besides.
    pub others: Option<PathBuf>,
    /// Its configuration, as a runtime passes it: one plugin, `cniVersion` and `name` included.
    pub conf: Value,
}

/// What a plugin said no with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{verb}: code {code}: {msg} {details}")]
pub struct Refused {
    /// `CNI_COMMAND`.
    pub verb: String,
    /// `code` of the error.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`.
    pub details: String,
}

impl Cni {
    /// `ringway-cni` talking to an agent.
    pub fn ringway(agent: &Agent, version: &str) -> Result<Cni> {
        let plugin = binary("ringway-cni", "RINGWAY_CNI_BIN")?;
        Ok(Cni {
            folder: plugin.parent().map(PathBuf::from).unwrap_or_default(),
            others: None,
            conf: json!({
                "cniVersion": version,
                "name": "ringway",
                "type": "ringway-cni",
                "socket": agent.socket(),
                "pendingDir": agent.folder().join("state/cni-pending"),
                "capabilities": {
                    "portMappings": true, "bandwidth": true, "ips": true, "mac": true,
                    "io.kubernetes.cri.pod-annotations": true,
                },
            }),
        })
    }

    /// The same with a key of the configuration changed.
    pub fn with(&self, key: &str, value: Value) -> Cni {
        let mut other = self.clone();
        other.conf[key] = value;
        other
    }

    /// The same at another version of the specification.
    pub fn at(&self, version: &str) -> Cni {
        self.with("cniVersion", version.into())
    }

    /// Calls the plugin; its answer, `Null` if it printed nothing.
    ///
    /// # Errors
    /// The inner one is the plugin's own.
    pub fn call(
        &self,
        verb: &str,
        container: &str,
        netns: Option<&Netns>,
    ) -> Result<std::result::Result<Value, Refused>> {
        self.call_as(verb, container, netns, IFNAME)
    }

    /// The same for an interface of another name.
    pub fn call_as(
        &self,
        verb: &str,
        container: &str,
        netns: Option<&Netns>,
        ifname: &str,
    ) -> Result<std::result::Result<Value, Refused>> {
        let name = self.conf["type"].as_str().unwrap_or_default();
        let program = self.folder.join(name);
        let path: Vec<String> = std::iter::once(&self.folder)
            .chain(&self.others)
            .map(|folder| folder.display().to_string())
            .collect();
        let mut command = Command::new(&program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", path.join(":"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !matches!(verb, "VERSION" | "STATUS" | "GC") {
            command
                .env("CNI_CONTAINERID", container)
                .env("CNI_IFNAME", ifname);
        }
        if let Some(netns) = netns {
            command.env("CNI_NETNS", netns.path());
        }
        let line = || format!("CNI_COMMAND={verb} {}", program.display());
        let spawn_error = |source| LabError::Spawn {
            command: line(),
            source,
        };
        let mut child = command.spawn().map_err(spawn_error)?;
        if let Some(mut stdin) = child.stdin.take() {
            // VERSION need not be read.
            let _ = stdin.write_all(self.conf.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(spawn_error)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer: Value = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).map_err(|source| LabError::Json {
                command: line(),
                source,
                output: text.chars().take(200).collect(),
            })?
        };
        if output.status.success() {
            return Ok(Ok(answer));
        }
        let words = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refused {
            verb: verb.to_owned(),
            code: answer["code"].as_u64().unwrap_or(0),
            msg: words("msg"),
            details: words("details"),
        }))
    }

    /// ADD.
    pub fn add(
        &self,
        container: &str,
        netns: &Netns,
    ) -> Result<std::result::Result<Value, Refused>> {
        self.call("ADD", container, Some(netns))
    }

    /// DEL.
    pub fn del(
        &self,
        container: &str,
        netns: Option<&Netns>,
    ) -> Result<std::result::Result<Value, Refused>> {
        self.call("DEL", container, netns)
    }
}
