//! What is asked once, before the agent opens anything and while no source runs.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};

use crate::settings::{Settings, chain};
use crate::slim::{ConfigMap, Namespace, Object, Placed, Pod, PodRef};
use crate::{CONFIG_MAP, CONFIG_NAMESPACES, connection};

/// Asks for Flannel's `net-conf.json`: VNI and port of the sockets are in it. `None` where there is no Flannel.
///
/// # Errors
/// The API server does not answer in time; the reason in words.
pub fn net_conf(settings: &Settings, patience: Duration) -> Result<Option<String>, String> {
    once(settings, patience, |client| async move {
        let mut namespaces = CONFIG_NAMESPACES.to_vec();
        if !exists(&client, namespaces[0]).await? {
            namespaces.remove(0);
        }
        for namespace in namespaces {
            let api: Api<Object<ConfigMap>> = Api::namespaced(client.clone(), namespace);
            let wanted = ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
            let found = match api.list(&wanted).await {
                Ok(list) => list.items,
                // Without Flannel nobody has to grant it.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => continue,
                Err(e) => return Err(chain(&e)),
            };
            let map = found.into_iter().find_map(|object| object.value.ok());
            if let Some(text) = map.and_then(|map| map.net_conf) {
                return Ok(Some(text));
            }
        }
        Ok(None)
    })
}

/// Whether there is a namespace of this name.
async fn exists(client: &Client, name: &str) -> Result<bool, String> {
    let api: Api<Object<Namespace>> = Api::all(client.clone());
    let wanted = ListParams::default().fields(&format!("metadata.name={name}"));
    match api.list(&wanted).await {
        Ok(list) => Ok(!list.items.is_empty()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(false),
        Err(e) => Err(chain(&e)),
    }
}

/// The pods of this node that have not ended; one that is malformed is left out.
///
/// # Errors
/// The API server does not answer in time; the reason in words.
pub fn own_pods(settings: &Settings, patience: Duration) -> Result<Vec<Pod>, String> {
    let selector = format!("spec.nodeName={}", settings.node);
    once(settings, patience, |client| async move {
        let api: Api<Object<Pod>> = Api::all(client);
        let list = api.list(&ListParams::default().fields(&selector)).await;
        let pods = list.map_err(|e| chain(&e))?.items;
        let pods = pods.into_iter().filter_map(|object| object.value.ok());
        Ok(pods.filter(|pod| !pod.ended).collect())
    })
}

/// Where a pod is, if there is one of that name.
///
/// # Errors
/// The API server does not answer in time; the reason in words.
pub fn placed(
    settings: &Settings,
    pod: &PodRef,
    patience: Duration,
) -> Result<Option<Placed>, String> {
    once(settings, patience, |client| async move {
        let api: Api<Object<Placed>> = Api::namespaced(client, &pod.namespace);
        // A list, as the role grants it.
        let wanted = ListParams::default().fields(&format!("metadata.name={}", pod.name));
        match api.list(&wanted).await {
            Ok(list) => Ok(list.items.into_iter().find_map(|object| object.value.ok())),
            Err(e) => Err(chain(&e)),
        }
    })
}

/// Runs one piece of work with a connection of its own, on a runtime of its own.
fn once<T, F: Future<Output = Result<T, String>>>(
    settings: &Settings,
    patience: Duration,
    work: impl FnOnce(Client) -> F,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let ask = async {
        let client = connection::connect(settings)
            .await
            .map_err(|e| e.to_string())?;
        work(client).await
    };
    let late = |_| Err(format!("no answer within {} s", patience.as_secs()));
    let answer = runtime.block_on(async {
        tokio::time::timeout(patience, ask)
            .await
            .unwrap_or_else(late)
    });
    // Whatever hangs in a look-up of a name is not waited for.
    runtime.shutdown_background();
    answer
}
