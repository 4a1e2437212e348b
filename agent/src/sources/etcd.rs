//! Flannel's records in etcd as a source.

use std::path::PathBuf;

use ringway_config::{Config, Etcd};
use ringway_etcd::{Saved, Settings, spawn};
use ringway_kernel::mac;

use super::{PATIENCE, Prepared, Started};

/// File of what was known last, in the state directory.
pub(super) const SAVED: &str = "etcd.json";
/// Where flanneld writes the subnet that it has.
const SUBNET_ENV: &str = "/run/flannel/subnet.env";

fn settings(config: &Config, etcd: &Etcd) -> Settings {
    let subnet_env = config.node.subnet_env.clone();
    Settings {
        node: config.node_name().into(),
        endpoints: etcd.endpoints.clone(),
        prefix: etcd.prefix.clone(),
        ca: etcd.ca_file.clone(),
        identity: etcd.identity.clone(),
        login: etcd.user.clone(),
        lease: Settings::LEASE,
        renew_before: Settings::RENEW_BEFORE,
        saved: config.node.state_dir.join(SAVED),
        subnet_env: Some(subnet_env.unwrap_or_else(|| PathBuf::from(SUBNET_ENV))),
        vtep_default: mac::vtep_default,
    }
}

/// What etcd said last.
pub(super) fn recorded(config: &Config, etcd: &Etcd) -> Option<Saved> {
    let file = settings(config, etcd).saved;
    Saved::load(&file).unwrap_or_else(|e| {
        tracing::warn!(
            file = %file.display(),
            "the record of etcd cannot be read, pods wait for etcd: {e}"
        );
        None
    })
}

/// The net-conf, as it is on record or as etcd says now.
pub(super) fn net_conf(
    config: &Config,
    etcd: &Etcd,
    recorded: Option<&Saved>,
) -> Result<Option<String>, String> {
    let settings = settings(config, etcd);
    match recorded.and_then(|saved| saved.net_conf(&settings)) {
        Some(text) => Ok(Some(text.to_owned())),
        None => ringway_etcd::net_conf(&settings, PATIENCE),
    }
}

/// The source, with what it knew last.
pub(super) fn prepare(config: &Config, etcd: &Etcd, saved: Option<Saved>) -> Prepared {
    let settings = settings(config, etcd);
    let contents = saved.as_ref().map(|saved| saved.contents(&settings));
    let start = move |local, apply, status| {
        let handle = spawn(settings, saved, local, apply, status)?;
        Ok(Started {
            stop: Box::new(move || handle.stop()),
            notify: None,
        })
    };
    Prepared::new("etcd", contents, Box::new(start))
}
