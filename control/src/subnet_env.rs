//! `subnet.env`: what flanneld writes for plugins that take the node's subnet and MTU from it.
//!
//! Written as a whole, by rename, once the node has a pod network, and again when somebody took it away: `/run` is
//! empty after a boot.

use std::fs;
use std::io;
use std::path::Path;

use ringway_cluster::flannel::SubnetEnv;
use ringway_cluster::source::Local;

use super::Control;

/// What was said of it.
#[derive(Debug, Default)]
pub(super) struct Said {
    failure: Option<String>,
}

impl Control {
    /// Writes it where the configuration wants it and it is not as it should be.
    pub(super) fn keep_subnet_env(&mut self, local: &Local) {
        let config = &self.config;
        let Some(path) = config.node.subnet_env.clone() else {
            return;
        };
        if local.node.cidrs.is_empty() {
            return;
        }
        let networks = &config.node.cluster_cidrs;
        let masquerades = config.egress.masquerade;
        let failure = if networks.is_empty() {
            // Plugins that read it refuse a file without them.
            Some("the cluster's networks are not known: write node.cluster_cidrs".to_owned())
        } else {
            let env = SubnetEnv::of(&local.node, networks, local.pod_mtu, masquerades);
            keep(&path, &env.to_string()).err().map(|e| e.to_string())
        };
        if failure != self.subnet_env.failure {
            match &failure {
                Some(e) => tracing::error!(
                    file = %path.display(),
                    "node.subnet_env cannot be written, it is tried again once a second: {e}"
                ),
                None => tracing::info!(file = %path.display(), "node.subnet_env is written again"),
            }
        }
        self.subnet_env.failure = failure;
    }
}

fn keep(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_replaced_whole_and_only_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flannel/subnet.env");
        keep(&path, "a\n").unwrap();
        let first = fs::metadata(&path).unwrap().modified().unwrap();
        keep(&path, "a\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), first);
        keep(&path, "b\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "a temporary file is left");
        // A folder in its place stays, and is told.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        keep(&folder, "a").unwrap_err();
    }
}
