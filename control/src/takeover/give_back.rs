//! Giving the node back: what the control plane has to say to it. The rest is done when it has ended.

use crate::state::PodRecord;
use crate::view::MadeAnew;
use crate::{Control, ControlError};
use ringway_config::names::deletion;

/// Pods that a refusal names.
const NAMED: usize = 3;

impl Control {
    /// Marks the node as given back. Who asked for it ends the control plane then, and takes away what it has made.
    ///
    /// # Errors
    /// There are pods, and they do not count; or the mark cannot be written.
    pub(crate) fn give_back(&mut self, pods_too: bool) -> Result<Vec<MadeAnew>, ControlError> {
        let pods = &self.state.pods;
        if !pods.is_empty() && !pods_too {
            let some: Vec<&str> = pods.keys().take(NAMED).map(String::as_str).collect();
            let more = if pods.len() > NAMED { ", …" } else { "" };
            return Err(ControlError::PodsHere {
                count: pods.len(),
                some: format!("{}{more}", some.join(", ")),
            });
        }
        let all = pods.iter().map(|(name, record)| MadeAnew {
            pod: name.clone(),
            command: command(name, record),
        });
        let all = all.collect();
        self.state.takeover.given_back = true;
        if let Err(e) = self.save() {
            self.state.takeover.given_back = false;
            return Err(ControlError::Unsaved {
                what: format!("the node was not given back: {e}"),
            });
        }
        tracing::warn!("the node is given back: pods lose their network now");
        let all: Vec<MadeAnew> = all;
        for pod in &all {
            tracing::warn!(pod = pod.pod, "to make it anew: {}", pod.command);
        }
        Ok(all)
    }

    /// Whether a pod may be attached, as far as the network before and the one after are concerned.
    pub(crate) fn may_attach(&self) -> Result<(), ControlError> {
        let given_back = self.state.takeover.given_back;
        let why = match self.left.failure() {
            _ if given_back => "the node is given back".to_owned(),
            Some(why) => why.to_owned(),
            None => return Ok(()),
        };
        Err(ControlError::NotNow { why })
    }
}

fn command(name: &str, record: &PodRecord) -> String {
    let pod = record.cni.as_ref().and_then(|cni| cni.pod.as_ref());
    match pod.filter(|pod| !pod.name.is_empty()) {
        Some(pod) => deletion(&pod.namespace, &pod.name),
        None => format!("make {name} anew as it was made"),
    }
}
