//! What the Kubernetes API says of the cluster, and what it is told of this node.
//!
//! ```text
//! API ─ list, watch ─▶ watch.rs ─ News ─▶ source.rs ─▶ members/ ─ Change ─▶ control
//!                       (a kind each)        │  ▲                             │
//!  ▲                                         │  └── kubernetes.json, at start │
//!  └─ patch nodes/status ── publish.rs ◀─────┴──────────── Local ─────────────┘
//! ```
//!
//! The source has a thread of its own, and on it a runtime that runs nothing else. Whatever the API does, be it away for
//! hours, be it lies, what was in force stays so: the API server may be a pod behind our own network.
//!
//! What it asks of the API, and so what its role has to grant:
//!
//! | Verb | Object | What for |
//! |---|---|---|
//! | list, watch | nodes | peers, and this node's pod networks |
//! | list, watch | namespaces | labels, for policies |
//! | list, watch | pods of this node (`fieldSelector=spec.nodeName`) | names in events; labels, for policies |
//! | list, watch | configmaps `kube-flannel-cfg` in `kube-flannel` and `kube-system` | Flannel's net-conf.json |
//! | patch | nodes/status of this node | Flannel's annotations, the condition `NetworkUnavailable` |
//! | create | events (events.k8s.io) | what an operator should know |
#![forbid(unsafe_code)]

mod alert;
mod connection;
mod kinds;
pub mod members;
mod once;
mod publish;
mod report;
mod saved;
mod settings;
pub mod slim;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

use std::net::IpAddr;

use ringway_cluster::flannel::{BackendConf, NetConf};
use ringway_cluster::source::{Apply, Local, Status};
use tokio::sync::watch as value;

pub use once::{net_conf, own_pods, placed};
pub use publish::{GONE, UP, set_unavailable};
pub use report::{About, Report, Reporter};
pub use saved::{Saved, source};
pub use settings::{ConnectError, Settings};

use members::Rules;

/// Where Flannel's ConfigMap is: today, and in older installations.
pub(crate) const CONFIG_MAP: &str = "kube-flannel-cfg";
pub(crate) const CONFIG_NAMESPACES: [&str; 2] = ["kube-flannel", "kube-system"];

/// A running source.
pub struct Handle {
    stop: value::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    reporter: Reporter,
}

impl Handle {
    /// Where to report what an operator should know.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Ends it, within 100 ms where no change is being applied. Nothing is taken back.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the source. `saved` is what was in force already; `apply` is called from its thread.
///
/// # Errors
/// A thread cannot be made.
pub fn spawn(
    settings: Settings,
    saved: Option<Saved>,
    local: value::Receiver<Local>,
    apply: Apply,
    status: value::Sender<Status>,
) -> std::io::Result<Handle> {
    let (stop, stopped) = value::channel(false);
    let (reporter, reports) = Reporter::new();
    let ends = source::Ends {
        local,
        apply,
        status,
        reporter: reporter.clone(),
        reports,
        stopped,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new()
        .name("kubernetes".into())
        .spawn(move || {
            runtime.block_on(source::run(settings, saved, ends));
            // Whatever hangs in a look-up of a name is not waited for.
            runtime.shutdown_background();
        })?;
    Ok(Handle {
        stop,
        thread: Some(thread),
        reporter,
    })
}

/// What Nodes are held against, and what is wrong with `net-conf.json`, if anything.
pub(crate) fn rules(
    settings: &Settings,
    net_conf: Option<&str>,
    outer: &[IpAddr],
) -> (Rules, Option<String>) {
    let mut networks = settings.cluster_cidrs.clone();
    let mut problem = None;
    match net_conf.map(NetConf::parse) {
        None => {}
        Some(Ok(conf)) => {
            networks.extend(conf.networks());
            problem = unlike(settings, &conf);
        }
        Some(Err(e)) => problem = Some(format!("ConfigMap {CONFIG_MAP}: {e}; it is not followed")),
    }
    let service = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let service = service.and_then(|host| host.parse().ok());
    let rules = Rules {
        own: settings.own(),
        vni: settings.vni,
        networks,
        reserved: outer.iter().copied().chain(service).collect(),
    };
    (rules, problem)
}

/// What Flannel's nodes have and this one has not.
fn unlike(settings: &Settings, conf: &NetConf) -> Option<String> {
    match &conf.backend {
        BackendConf::Vxlan { vni, port, .. }
            if (*vni, *port) != (settings.vni, settings.vxlan_port) =>
        {
            let (ours, our_port) = (settings.vni, settings.vxlan_port);
            Some(format!(
                "Flannel's network has VNI {vni} on port {port}, this node VNI {ours} on port {our_port}: packets of the \
                 two do not meet. Leave underlay.vni and underlay.vxlan_port out of the configuration and restart the agent"
            ))
        }
        BackendConf::Other(name) => Some(format!(
            "Flannel's backend is {name:?}; Ringway speaks vxlan and udp, so Flannel's nodes cannot be reached"
        )),
        _ => None,
    }
}
