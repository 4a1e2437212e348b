//! The Kubernetes API as a source.

use std::time::Duration;

use ringway_cluster::flannel::{BackendConf, NetConf};
use ringway_config::{Config, EncapKind, Kubernetes, NetworkDefaults};
use ringway_control::Notice;
use ringway_kernel::mac;
use ringway_kubernetes::slim::PodRef;
use ringway_kubernetes::{About, Report, Saved, Settings, spawn};

use super::{Prepared, Started};

/// How long a start waits for Flannel's `net-conf.json`, where none is on record.
const PATIENCE: Duration = Duration::from_secs(3);

fn settings(config: &Config, kubernetes: &Kubernetes) -> Settings {
    Settings {
        node: kubernetes.node.clone(),
        kubeconfig: kubernetes.kubeconfig.clone(),
        api_server: kubernetes.api_server.clone(),
        state_dir: config.node.state_dir.clone(),
        vni: config.underlay.vni,
        vxlan_port: config.underlay.vxlan_port,
        cluster_cidrs: config.node.cluster_cidrs.clone(),
        vtep_default: mac::vtep_default,
    }
}

/// What the API said last. Where that cannot be read the API has it all the same.
pub(super) fn recorded(config: &Config, kubernetes: &Kubernetes) -> Option<Saved> {
    let settings = settings(config, kubernetes);
    Saved::load(&settings).unwrap_or_else(|e| {
        tracing::warn!(
            file = %settings.saved().display(),
            "the record of the Kubernetes API cannot be read, pods wait for the API: {e}"
        );
        None
    })
}

/// The source, with what it knew last.
pub(super) fn prepare(config: &Config, kubernetes: &Kubernetes, saved: Option<Saved>) -> Prepared {
    let settings = settings(config, kubernetes);
    let contents = saved.as_ref().map(|saved| saved.contents(&settings));
    let start = move |local, apply, status| {
        let handle = spawn(settings, saved, local, apply, status)?;
        let reporter = handle.reporter();
        Ok(Started {
            stop: Box::new(move || handle.stop()),
            notify: Some(Box::new(move |notice| {
                // One that finds no room is in the log all the same.
                reporter.report(report(notice));
            })),
        })
    };
    Prepared::new("kubernetes", contents, Box::new(start))
}

fn report(notice: Notice) -> Report {
    let Notice { pod, reason, note } = notice;
    let named = PodRef {
        namespace: pod.namespace,
        name: pod.name,
    };
    Report {
        about: About::Pod(named, pod.uid),
        warning: true,
        reason,
        action: "Attaching",
        note,
    }
}

/// Flannel's network, as it is on record or as the API says now: sockets have to be opened at its port.
pub(super) fn defaults(
    config: &Config,
    kubernetes: &Kubernetes,
    recorded: Option<&Saved>,
) -> NetworkDefaults {
    let settings = settings(config, kubernetes);
    let text = match recorded {
        Some(saved) => saved.net_conf().map(str::to_owned),
        None => ringway_kubernetes::net_conf(&settings, PATIENCE).unwrap_or_else(|e| {
            tracing::info!("Flannel's net-conf.json is not known, the usual network is taken: {e}");
            None
        }),
    };
    // What is wrong with it is a problem of the source, which names it.
    let conf = text.and_then(|text| NetConf::parse(&text).ok());
    let usual = NetworkDefaults::default();
    match conf.map(|conf| conf.backend) {
        Some(BackendConf::Vxlan { vni, port, .. }) => NetworkDefaults {
            encap: EncapKind::Vxlan,
            vni,
            vxlan_port: port,
            ..usual
        },
        Some(BackendConf::Udp { port }) => NetworkDefaults {
            encap: EncapKind::Udp,
            udp_port: port,
            ..usual
        },
        Some(BackendConf::Other(_)) | None => usual,
    }
}
