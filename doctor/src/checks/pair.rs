//! One way through the network: from a pod to an address.

use ringway_trace::answer::Trace;

use crate::{About, Asked, Finding, Pair, Rank};

use super::{Found, broken};

/// The peer that the packet is sent to.
pub(super) fn peer_of(pair: &Pair) -> Option<String> {
    let to = pair.trace.as_ref().ok()?.verdict.to.as_deref()?;
    to.strip_prefix("peer ").map(str::to_owned)
}

/// Whether a pod is one of its two ends.
pub(super) fn has_pod(pair: &Pair, name: &str, asked: Option<&Asked>) -> bool {
    let is_end = |asked: &Asked| {
        let mut pods = asked.pods.iter().filter(|pod| pod.name == name);
        let to = pair.to.to_string();
        pods.any(|pod| pod.ips.iter().any(|ip| ip.split('/').next() == Some(&to)))
    };
    name == pair.from || asked.is_some_and(is_end)
}

/// What a trace says, where nothing else explains it better.
pub(super) fn check(pair: &Pair, others: &[(Rank, Finding)], found: &mut Found) {
    let whole = format!("from pod {} to {}", pair.from, pair.to);
    let commands = vec![format!(
        "ringway trace --from {} --to {} --icmp",
        pair.from, pair.to
    )];
    match &pair.trace {
        Err(why) => found.push(
            Rank::FromPod,
            Finding {
                evidence: vec![why.clone()],
                remedy: "ask on the node that has the pod, by its name as `ringway pods` has it"
                    .into(),
                commands: vec!["ringway pods".into()],
                ..broken("pair", format!("The way {whole} cannot be looked at"))
            },
        ),
        Ok(trace) if trace.verdict.verdict == "dropped" => {
            // The pod's own lack of a route or an interface comes first.
            let rank = match others.iter().any(|(_, f)| is_about(f, &pair.from)) {
                true => Rank::FromPod,
                false => Rank::Peer,
            };
            found.push(rank, dropped(pair, trace, whole, commands));
        }
        Ok(_) => {}
    }
}

fn is_about(finding: &Finding, pod: &str) -> bool {
    finding.about == About::Pod(pod.to_owned())
}

fn dropped(pair: &Pair, trace: &Trace, whole: String, commands: Vec<String>) -> Finding {
    let verdict = &trace.verdict;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Finding {
        about: About::Pod(pair.from.clone()),
        evidence: vec![
            trace.input.clone(),
            format!(
                "dropped for {}: {}",
                text(&verdict.reason),
                text(&verdict.cause)
            ),
        ],
        remedy: text(&verdict.remedy),
        commands,
        ..broken("pair", format!("A packet {whole} is dropped on this node"))
    }
}
