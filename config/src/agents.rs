//! `[agents]`: what agents ask each other.

use std::path::{Path, PathBuf};

use super::metrics::{Listen, file, listen};
use super::validate::Located;
use super::{Problem, raw};

/// `[agents]`: with all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agents {
    /// Where other agents ask; each asks the others at the same port.
    pub listen: Listen,
    /// Certificate of this node, by its name.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Whose certificates are taken for a node's.
    pub ca_file: PathBuf,
}

/// In the path of a file: the name of the node, so that all nodes have the same configuration.
const NODE: &str = "{node}";

impl Agents {
    /// As they are for a node of that name.
    #[must_use]
    pub fn of(&self, node: &str) -> Agents {
        let own = |path: &Path| PathBuf::from(path.to_string_lossy().replace(NODE, node));
        Agents {
            listen: self.listen,
            cert_file: own(&self.cert_file),
            key_file: own(&self.key_file),
            ca_file: own(&self.ca_file),
        }
    }
}

pub(super) fn agents(raw: raw::Agents) -> Located<Option<Agents>> {
    let at = listen("agents.listen", &raw.listen)?;
    let files = [
        ("agents.cert_file", file("agents.cert_file", raw.cert_file)?),
        ("agents.key_file", file("agents.key_file", raw.key_file)?),
        ("agents.ca_file", file("agents.ca_file", raw.ca_file)?),
    ];
    let there = files.iter().find(|(_, file)| file.is_some());
    let missing = files.iter().find(|(_, file)| file.is_none());
    let alone = |there: &str, missing: &str| {
        let missing = missing.to_owned();
        Err((there.to_owned(), Problem::Alone { missing }))
    };
    match (at, there, missing) {
        (None, None, _) => Ok(None),
        (None, Some((there, _)), _) => alone(there, "agents.listen"),
        (Some(_), _, Some((missing, _))) => alone("agents.listen", missing),
        (Some(listen), _, None) => {
            let [cert_file, key_file, ca_file] = files.map(|(_, file)| file.unwrap_or_default());
            Ok(Some(Agents {
                listen,
                cert_file,
                key_file,
                ca_file,
            }))
        }
    }
}
