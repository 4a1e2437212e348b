//! The last good state: what the API said last, for a start while it is away.
//!
//! The API server may be a pod behind our own network, so a node that starts has to forward before it can ask. What is
//! recorded are the objects as they were read, not what was made of them: another version, or other settings, make
//! their own of it.

use std::fs;
use std::io;

use ringway_cluster::{Contents, Source};
use serde::{Deserialize, Serialize};

use crate::members::Members;
use crate::settings::Settings;
use crate::slim::{Namespace, Node, Pod};

/// Version of the file's form.
const VERSION: u32 = 1;

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    /// Unix seconds at which the server last confirmed it.
    pub(crate) confirmed_s: u64,
    /// Name of this node: another node's record is none.
    pub(crate) own: String,
    /// Flannel's `net-conf.json`, if there is one.
    pub(crate) net_conf: Option<String>,
    /// All Nodes.
    pub(crate) nodes: Vec<Node>,
    /// This node's pods, by namespace and name.
    pub(crate) pods: Vec<Pod>,
    /// Namespaces.
    pub(crate) namespaces: Vec<Namespace>,
}

impl Saved {
    /// A record.
    pub(crate) fn new(own: &str, confirmed_s: u64) -> Self {
        Self {
            version: VERSION,
            confirmed_s,
            own: own.into(),
            ..Self::default()
        }
    }

    /// Reads the record of this node; `None` if there is none. One that is damaged, of a newer version or of another
    /// node is set aside (`kubernetes.json.refused`), for it is only a copy of what the API has.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn load(settings: &Settings) -> io::Result<Option<Self>> {
        let file = settings.saved();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let why = match serde_json::from_str::<Self>(&text) {
            Ok(saved) if saved.version > VERSION => format!(
                "it is of version {}, this program's is {VERSION}",
                saved.version
            ),
            Ok(saved) if saved.own != settings.node => format!("it is node {:?}'s", saved.own),
            Ok(saved) => return Ok(Some(saved)),
            Err(e) => e.to_string(),
        };
        let aside = file.with_extension("json.refused");
        let (from, to) = (file.display().to_string(), aside.display().to_string());
        tracing::warn!(
            file = from,
            "the record of the Kubernetes API is set aside as {to}: {why}"
        );
        fs::rename(&file, &aside)?;
        Ok(None)
    }

    /// Flannel's `net-conf.json`, if there was one.
    pub fn net_conf(&self) -> Option<&str> {
        self.net_conf.as_deref()
    }

    /// What a source says that has nothing but this.
    pub fn contents(&self, settings: &Settings) -> Contents {
        self.members(settings).contents()
    }

    pub(crate) fn members(&self, settings: &Settings) -> Members {
        let rules = crate::rules(settings, self.net_conf.as_deref(), &[]).0;
        let mut members = Members::new(source(), rules, settings.vtep_default);
        members.replace(self.nodes.clone());
        members
    }
}

/// The name of this source.
pub fn source() -> Source {
    Source::new("kubernetes")
}

#[cfg(test)]
mod tests;
