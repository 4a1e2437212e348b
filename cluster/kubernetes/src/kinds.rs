//! What is watched: another kind is an entry of [`watches`] and of [`Heard`].

use std::sync::Arc;

use kube::Api;
use tokio::sync::{mpsc, watch as value};
use tokio::task::JoinHandle;

use crate::connection::Connection;
use crate::settings::Settings;
use crate::slim::{ConfigMap, Namespace, Node, Pod};
use crate::watch::{Follow, News};
use crate::{CONFIG_MAP, CONFIG_NAMESPACES};

/// Where news go.
type Sender = mpsc::Sender<Heard>;

/// News of one of the kinds.
pub(crate) enum Heard {
    Nodes(News<Node>),
    Pods(News<Pod>),
    Namespaces(News<Namespace>),
    /// By which of the two namespaces.
    Config(usize, News<ConfigMap>),
}

/// A task for each. `has_flannel`: whether Flannel's own namespace is there.
pub(crate) fn watches(
    settings: &Settings,
    connection: &Arc<Connection>,
    to: &Sender,
    has_flannel: value::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    const OLD: &str = CONFIG_NAMESPACES[1];
    let own = format!("spec.nodeName={}", settings.node);
    let flannels = format!("metadata.name={CONFIG_MAP}");
    let nodes = Follow::new(Api::all, to, Heard::Nodes);
    let namespaces = Follow::new(Api::all, to, Heard::Namespaces);
    let pods = Follow::new(Api::all, to, Heard::Pods).fields(&own);
    // Without Flannel nobody has to grant it.
    let old = Follow::new(
        |client| Api::namespaced(client, OLD),
        to,
        |news| Heard::Config(1, news),
    );
    let old = old.fields(&flannels).optional();
    vec![
        tokio::spawn(nodes.run(connection.clone())),
        tokio::spawn(namespaces.run(connection.clone())),
        tokio::spawn(pods.run(connection.clone())),
        tokio::spawn(follow_flannel(
            connection.clone(),
            to.clone(),
            flannels,
            has_flannel,
        )),
        tokio::spawn(old.run(connection.clone())),
    ]
}

/// Follows the ConfigMap in Flannel's namespace while there is one: who has none has no role for it either.
async fn follow_flannel(
    connection: Arc<Connection>,
    to: Sender,
    fields: String,
    mut there: value::Receiver<bool>,
) {
    const NEW: &str = CONFIG_NAMESPACES[0];
    while there.wait_for(|there| *there).await.is_ok() {
        let api = |client| Api::namespaced(client, NEW);
        let follow = Follow::new(api, &to, |news| Heard::Config(0, news));
        let follow = follow.fields(&fields).optional();
        tokio::select! {
            () = follow.run(connection.clone()) => return,
            _ = there.wait_for(|there| !*there) => {}
        }
    }
}
