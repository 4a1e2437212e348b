//! Who asks the wrong node for a pod is told which one has it.

use ringway_config::Decider;
use ringway_requests::ApiError;
use ringway_trace::on_node;

use crate::sources::{Place, Whereabouts};

/// The refusal with what the cluster says of the pod. `verb`: what was asked for.
pub(super) async fn told(
    refused: ApiError,
    whereabouts: Option<&Whereabouts>,
    verb: &str,
) -> ApiError {
    let (Some(pod), Some(whereabouts)) = (refused.unknown_pod.clone(), whereabouts.cloned()) else {
        return refused;
    };
    let asked = pod.clone();
    // It asks a server, and waits.
    let place = tokio::task::spawn_blocking(move || whereabouts(&asked)).await;
    match place.ok().flatten() {
        Some(place) => ApiError {
            remedy: remedy(&pod, &place, verb),
            ..refused
        },
        None => refused,
    }
}

fn remedy(pod: &str, place: &Place, verb: &str) -> String {
    match place {
        Place::On(node) => {
            let command = on_node(Decider::Kubernetes, node, &format!("ringway {verb} …"));
            format!("{pod} is on {node}; ask its agent with the same words:\n  {command}")
        }
        Place::Here => format!(
            "{pod} is on this node and has no interface yet: `ringway pods`, and \
             kubectl describe pod says why"
        ),
        Place::NodesOwn(node) => format!(
            "{pod} has the network of {node} itself (hostNetwork): its packets are the node's, \
             port ringway0"
        ),
        Place::Unscheduled => format!("{pod} is on no node yet; kubectl describe pod says why"),
        Place::Ended => format!("{pod} has ended, and has no interface any more"),
        Place::Nowhere => format!("the cluster has no pod {pod}; kubectl get pods -A lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_pod_of_another_node_is_named_with_the_command() {
        let refused = || ApiError {
            unknown_pod: Some("default/web".into()),
            ..ApiError::new(404, "there is no pod named default/web", "look elsewhere")
        };
        let says = |place: Option<Place>| -> Whereabouts { Arc::new(move |_| place.clone()) };
        let of = async |place| told(refused(), Some(&says(place)), "capture").await.remedy;
        let on = of(Some(Place::On("node2".into()))).await;
        assert!(
            on.starts_with("default/web is on node2; ask its agent"),
            "{on}"
        );
        assert!(
            on.contains("spec.nodeName=node2") && on.ends_with("-c agent -- ringway capture …"),
            "{on}"
        );
        assert!(of(Some(Place::Here)).await.contains("on this node"));
        assert!(
            of(Some(Place::NodesOwn("node2".into())))
                .await
                .contains("ringway0")
        );
        assert!(
            of(Some(Place::Nowhere))
                .await
                .contains("no pod default/web")
        );
        // The server does not answer, nobody can be asked, or it is no pod that is missing.
        assert_eq!(of(None).await, "look elsewhere");
        assert_eq!(told(refused(), None, "trace").await, refused());
        let other = ApiError::new(404, "no such table", "look elsewhere");
        let same = told(other.clone(), Some(&says(Some(Place::Here))), "trace").await;
        assert_eq!(same, other);
    }
}
