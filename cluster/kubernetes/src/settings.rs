//! What a node has to know to ask the API, and the connection to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;

/// Where a pod finds its ServiceAccount.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The address of the API server's service, as the kubelet tells every container.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
const SERVICE_PORT: &str = "KUBERNETES_SERVICE_PORT";

/// What the configuration says of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node's Node object.
    pub node: String,
    /// A kubeconfig file instead of the ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server instead of the service's or the file's: where that is behind our own network.
    pub api_server: Option<String>,
    /// Folder of the last good state.
    pub state_dir: PathBuf,
    /// VXLAN network identifier of this node.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Networks of all pods, beside what Flannel's net-conf.json says.
    pub cluster_cidrs: Vec<Cidr>,
    /// The VTEP MAC of a node with these networks that has never had another.
    pub vtep_default: fn(&[Cidr]) -> MacAddr,
}

impl Settings {
    /// Name of the file in the state directory.
    pub const SAVED: &str = "kubernetes.json";

    /// The file of the last good state.
    pub fn saved(&self) -> PathBuf {
        self.state_dir.join(Self::SAVED)
    }

    /// Name of this node, to share.
    pub(crate) fn own(&self) -> Arc<str> {
        self.node.as_str().into()
    }
}

/// Why there is no connection that could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says where the API server is.
    #[error(
        "nobody says where the API server is: {SERVICE_HOST} is not set, as it is in a pod; \
         set kubernetes.api_server or kubernetes.kubeconfig"
    )]
    Nowhere,
    /// The URL is none.
    #[error("kubernetes.api_server is {value:?}, which is no URL; wanted https://HOST:6443")]
    Url {
        /// What is there.
        value: String,
    },
    /// The kubeconfig cannot be used.
    #[error("kubernetes.kubeconfig {file}: {why}")]
    Kubeconfig {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The client cannot be made of it: certificates, mostly.
    #[error("the connection to the API server cannot be prepared: {why}")]
    Client {
        /// What is wrong.
        why: String,
    },
}

/// Where the server is and who we are. Tokens and authorities in files are named, not read: they may be exchanged.
pub(crate) async fn configuration(settings: &Settings) -> Result<Config, ConnectError> {
    let mut config = match &settings.kubeconfig {
        Some(file) => from_file(file).await?,
        None => in_cluster(settings.api_server.is_some())?,
    };
    if let Some(text) = &settings.api_server {
        config.cluster_url = url(text)?;
    }
    let agent = concat!("ringway/", env!("CARGO_PKG_VERSION"));
    let agent = http::HeaderValue::from_static(agent);
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
}

fn url(text: &str) -> Result<Uri, ConnectError> {
    let uri: Option<Uri> = text.parse().ok();
    let usable =
        |uri: &Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("https" | "http"));
    uri.filter(usable)
        .ok_or_else(|| ConnectError::Url { value: text.into() })
}

async fn from_file(file: &Path) -> Result<Config, ConnectError> {
    let wrong = |why: String| ConnectError::Kubeconfig {
        file: file.display().to_string(),
        why,
    };
    let text = Kubeconfig::read_from(file).map_err(|e| wrong(chain(&e)))?;
    let config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
    config.map_err(|e| wrong(chain(&e)))
}

/// The ServiceAccount of the pod that this runs in.
fn in_cluster(has_url: bool) -> Result<Config, ConnectError> {
    let variable = |name| std::env::var(name).ok().filter(|v: &String| !v.is_empty());
    let url = match (variable(SERVICE_HOST), variable(SERVICE_PORT)) {
        (Some(host), port) => {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            url(&format!(
                "https://{host}:{}",
                port.as_deref().unwrap_or("443")
            ))?
        }
        // It is replaced.
        (None, _) if has_url => Uri::from_static("https://localhost"),
        (None, _) => return Err(ConnectError::Nowhere),
    };
    let folder = Path::new(SERVICE_ACCOUNT);
    let mut config = Config::new(url);
    config.root_cert_file = Some(folder.join("ca.crt"));
    config.auth_info = AuthInfo {
        token_file: Some(folder.join("token").display().to_string()),
        ..AuthInfo::default()
    };
    Ok(config)
}

/// An error and what led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = source.source();
    }
    crate::slim::shortened(&text)
}
