//! What the source has to be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

/// Where etcd is, and what this node wants from it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node; etcd does not know it.
    pub node: Arc<str>,
    /// Servers, as `https://10.77.0.5:2379`. Without a scheme it is https if there are certificates.
    pub endpoints: Vec<String>,
    /// What the keys begin with; Flannel's is [`PREFIX`](Self::PREFIX).
    pub prefix: String,
    /// Certificates of who signs the servers', PEM. None: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// This node's certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A user, and the file with the password.
    pub login: Option<(String, PathBuf)>,
    /// How long the own record outlives this node; Flannel's is [`LEASE`](Self::LEASE).
    pub lease: Duration,
    /// How long before its end the lease is renewed; Flannel's is [`RENEW_BEFORE`](Self::RENEW_BEFORE).
    pub renew_before: Duration,
    /// The last good state, see [`Saved`](crate::Saved).
    pub saved: PathBuf,
    /// Where flanneld has left the subnet it had, usually `/run/flannel/subnet.env`.
    pub subnet_env: Option<PathBuf>,
    /// The VTEP MAC of a node with these pod networks that has never had another.
    pub vtep_default: fn(&[Cidr]) -> MacAddr,
}

impl Settings {
    /// Prefix of Flannel's keys.
    pub const PREFIX: &str = "/coreos.com/network";
    /// A day.
    pub const LEASE: Duration = Duration::from_secs(24 * 3600);
    /// An hour.
    pub const RENEW_BEFORE: Duration = Duration::from_secs(3600);

    /// The key of the net-conf.
    pub(crate) fn config_key(&self) -> String {
        format!("{}/config", self.prefix.trim_end_matches('/'))
    }

    /// What all keys of subnets begin with.
    pub(crate) fn subnets_key(&self) -> String {
        format!("{}/subnets/", self.prefix.trim_end_matches('/'))
    }
}
