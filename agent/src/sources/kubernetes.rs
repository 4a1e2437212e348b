//! The Kubernetes API as a source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringway_config::{Config, Kubernetes};
use ringway_control::takeover::Names;
use ringway_control::{Notice, Subject};
use ringway_kernel::mac;
use ringway_kubernetes::slim::{Pod, PodRef};
use ringway_kubernetes::{
    About, Report, Saved, Settings, own_pods, placed, set_unavailable, spawn,
};

use super::{FlannelPods, PATIENCE, Place, Prepared, Started, Whereabouts};

/// How long the names of this node's pods may take, and how often they are asked for anew.
const NAMES: Duration = Duration::from_secs(10);
/// Where Flannel's DaemonSet is: today, and in older installations; and what its pods have for a label.
const FLANNEL_NAMESPACES: [&str; 2] = ["kube-flannel", "kube-system"];
const FLANNEL_LABELS: [&str; 2] = ["app", "k8s-app"];
const FLANNEL_NAMES: [&str; 2] = ["flannel", "canal"];

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
    let node = kubernetes.node.clone();
    let start = move |local, apply, status| {
        let handle = spawn(settings, saved, local, apply, status)?;
        let reporter = handle.reporter();
        Ok(Started {
            stop: Box::new(move || handle.stop()),
            notify: Some(Box::new(move |notice| {
                // One that finds no room is in the log all the same.
                reporter.report(report(notice, &node));
            })),
        })
    };
    Prepared::new("kubernetes", contents, Box::new(start))
}

fn report(notice: Notice, node: &str) -> Report {
    let Notice {
        about,
        reason,
        note,
    } = notice;
    let (about, action) = match about {
        Subject::Node => (About::Node(node.to_owned()), "Forwarding"),
        Subject::Pod(pod) => {
            let named = PodRef {
                namespace: pod.namespace,
                name: pod.name,
            };
            (About::Pod(named, pod.uid), "Attaching")
        }
    };
    Report {
        about,
        warning: true,
        reason,
        action,
        note,
    }
}

/// Flannel's `net-conf.json`, as it is on record or as the API says now.
pub(super) fn net_conf(
    config: &Config,
    kubernetes: &Kubernetes,
    recorded: Option<&Saved>,
) -> Result<Option<String>, String> {
    match recorded {
        Some(saved) => Ok(saved.net_conf().map(str::to_owned)),
        None => ringway_kubernetes::net_conf(&settings(config, kubernetes), PATIENCE),
    }
}

/// Asks for Flannel's pods on this node.
pub(super) fn flannel_pods(config: &Config, kubernetes: &Kubernetes) -> FlannelPods {
    let settings = settings(config, kubernetes);
    Arc::new(move || {
        let pods = own_pods(&settings, PATIENCE)?;
        let flannels = pods.iter().filter(|pod| is_flannels(pod));
        Ok(flannels
            .map(|pod| format!("{}/{}", pod.id.namespace, pod.id.name))
            .collect())
    })
}

fn is_flannels(pod: &Pod) -> bool {
    let flannels = |value: &String| FLANNEL_NAMES.contains(&value.as_str());
    let labelled = |key: &&str| pod.labels.get(*key).is_some_and(flannels);
    FLANNEL_NAMESPACES.contains(&pod.id.namespace.as_str()) && FLANNEL_LABELS.iter().any(labelled)
}

/// Names the pods that are on this node now, as soon as the API has said which: later ones are ours.
pub(super) fn pod_names(config: &Config, kubernetes: &Kubernetes) -> Names {
    type Known = HashMap<IpAddr, (String, String)>;
    let settings = settings(config, kubernetes);
    let known: Arc<OnceLock<Known>> = Arc::default();
    let learnt = known.clone();
    let learn = move || {
        let pods = loop {
            match own_pods(&settings, NAMES) {
                Ok(pods) => break pods,
                Err(_) => std::thread::sleep(NAMES),
            }
        };
        let mut all = Known::new();
        for pod in pods.into_iter().filter(|pod| !pod.host_network) {
            let name = (pod.id.namespace, pod.id.name);
            all.extend(pod.ips.into_iter().map(|ip| (ip, name.clone())));
        }
        let _ = learnt.set(all);
    };
    let thread = std::thread::Builder::new().name("pod names".into());
    if let Err(e) = thread.spawn(learn) {
        tracing::warn!("pods of the network before are not named: {e}");
    }
    Box::new(move |ip| known.get()?.get(&ip).cloned())
}

/// Says where a pod of the cluster is, for who asks the wrong node; `None`: there is nothing to say.
pub(super) fn whereabouts(config: &Config, kubernetes: &Kubernetes) -> Whereabouts {
    let (own, settings) = (kubernetes.node.clone(), settings(config, kubernetes));
    Arc::new(move |name| {
        let (namespace, pod) = name.split_once('/')?;
        let pod = PodRef {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
        };
        Some(match placed(&settings, &pod, PATIENCE).ok()? {
            None => Place::Nowhere,
            Some(placed) if placed.ended => Place::Ended,
            Some(placed) if placed.host_network => Place::NodesOwn(placed.node?),
            Some(placed) => match placed.node {
                None => Place::Unscheduled,
                Some(node) if node == own => Place::Here,
                Some(node) => Place::On(node),
            },
        })
    })
}

/// Says that the node has no network any more.
pub(super) async fn give_up(config: &Config, kubernetes: &Kubernetes) -> Result<(), String> {
    let (node, settings) = (&kubernetes.node, settings(config, kubernetes));
    let said = tokio::time::timeout(PATIENCE, set_unavailable(&settings)).await;
    let said = said.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    said.map_err(|e| {
        format!(
            "the condition NetworkUnavailable of {node} is not set ({e}): pods may be scheduled here before there \
             is another network; kubectl cordon {node} keeps them off"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flannels_pods_are_known_by_namespace_and_label() {
        let pod = |namespace: &str, key: &str, value: &str| Pod {
            id: PodRef {
                namespace: namespace.into(),
                name: "kube-flannel-ds-x".into(),
            },
            labels: [(key.to_owned(), value.to_owned())].into(),
            ..Pod::default()
        };
        for yes in [
            pod("kube-flannel", "app", "flannel"),
            pod("kube-system", "k8s-app", "flannel"),
        ] {
            assert!(is_flannels(&yes), "{yes:?}");
        }
        for no in [
            pod("default", "app", "flannel"),
            pod("kube-flannel", "app", "flanneld"),
            pod("kube-system", "tier", "node"),
        ] {
            assert!(!is_flannels(&no), "{no:?}");
        }
    }
}
