//! SIGHUP: the configuration file is read again, and what is different is said. Every key takes effect at the
//! next start, so nothing changes until then; a mistake is found before that start.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;

use crate::config::{self, Config, ConfigError};

/// What the file says now against what runs: a line for each key that differs.
///
/// # Errors
/// The file cannot be read or is wrong.
pub(super) fn differences(running: &Config, file: &Path) -> Result<Vec<String>, ConfigError> {
    let mut now = Config::load(file)?;
    // `--socket` goes before the file.
    now.node.socket.clone_from(&running.node.socket);
    let (old, new) = (values(running), values(&now));
    let changed = old.iter().filter_map(|(key, was)| match new.get(key) {
        Some(is) if is == was => None,
        Some(is) => Some(format!("{key} is {is}, was {was}")),
        None => Some(format!("{key} is gone, was {was}")),
    });
    let added = new
        .iter()
        .filter(|(key, _)| !old.contains_key(*key))
        .map(|(key, is)| format!("{key} is {is}, and was not there"));
    Ok(changed.chain(added).collect())
}

/// Every key with its value: `peers.node2.addresses` of a peer.
fn values(config: &Config) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // What `config show` prints can always be read back.
    if let Ok(table) = toml::from_str::<Value>(&config::show(config)) {
        flatten(String::new(), &table, &mut all);
    }
    all
}

fn flatten(path: String, value: &Value, all: &mut BTreeMap<String, String>) {
    let below = |key: &str| match path.as_str() {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(below(key), value, all);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for item in items {
                let name = item.get("name").and_then(Value::as_str).unwrap_or("?");
                flatten(below(name), item, all);
            }
        }
        other => {
            all.insert(path, other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../ringway.toml");

    #[test]
    fn every_key_that_differs_is_named_with_both_values() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ringway.toml");
        let running = Config::parse(&file, TEXT).unwrap();
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            differences(&running, &file)
        };
        assert_eq!(said(TEXT).unwrap(), [""; 0]);
        let other = TEXT
            .replace("vni = 1", "vni = 7")
            .replace("192.168.77.2", "192.168.77.9");
        let lines = said(&other).unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("peers.node2.addresses is"),
            "{lines:?}"
        );
        assert!(lines[0].contains("192.168.77.9") && lines[0].contains("was [\"192.168.77.2\""));
        assert_eq!(lines[1], "underlay.vni is 7, was 1");
        let third = "\n[[peers]]\nname = \"node3\"\naddresses = [\"192.168.77.3\"]\npod_cidrs = [\"10.77.3.0/24\"]\n";
        let lines = said(&format!("{TEXT}{third}")).unwrap();
        assert!(
            lines
                .iter()
                .any(|l| l.starts_with("peers.node3.pod_cidrs is")),
            "{lines:?}"
        );
        assert!(said("[node]\nname = 7\n").is_err());
    }
}
