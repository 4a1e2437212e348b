//! The agent: why there is none, and what it says of itself.

use ringway_config::names::deletion;
use ringway_control::view::Condition;

use crate::{About, Absent, Asked, Finding, Machine, Rank, Severity};

use super::{Found, broken};

/// There is no agent: the first of what it cannot do without.
pub(super) fn absent(absent: &Absent, machine: &Machine, found: &mut Found) {
    if let Some(why) = &absent.config {
        found.push(
            Rank::Start,
            Finding {
                evidence: vec![why.clone()],
                remedy: "mend the file, or what it names, and start the agent".into(),
                commands: vec![format!("ringway --config {} config check", absent.file)],
                ..broken(
                    "config",
                    "The agent cannot start with its configuration".into(),
                )
            },
        );
    }
    found.push(
        Rank::Agent,
        Finding {
            evidence: vec![absent.why.clone()],
            remedy: match machine.others.is_empty() && absent.config.is_none() {
                true => "start it; where it does not stay, its last lines say why".into(),
                false => "cure what is named above, and start it".into(),
            },
            commands: vec![
                "systemctl status ringway    # in Kubernetes: kubectl -n ringway logs -p PODNAME -c agent".into(),
            ],
            ..broken(
                "agent",
                "The agent of this node does not run: no pod has a network".into(),
            )
        },
    );
}

/// What the agent says of itself.
pub(super) fn answered(asked: &Asked, found: &mut Found) {
    let status = &asked.status;
    if let Some(why) = &status.state_error {
        let full = why.contains("No space left") || why.contains("os error 28");
        found.push(
            Rank::Underlay,
            Finding {
                evidence: vec![why.clone()],
                remedy: match full {
                    true => "make room there; the agent writes again by itself".into(),
                    false => "see the directory and its file system; the agent tries again by itself".into(),
                },
                commands: vec!["df -h; df -i    # of the directory of the state file".into()],
                ..broken(
                    "state",
                    match full {
                        true => "The disk under the state directory is full: no pod can be added or removed".into(),
                        false => "The state cannot be written: no pod can be added or removed".into(),
                    },
                )
            },
        );
    }
    if let Some(why) = &status.config.error {
        found.push(
            Rank::Condition,
            Finding {
                evidence: vec![why.clone()],
                remedy: "mend the file; the agent takes it when it is saved".into(),
                commands: vec!["ringway config check".into()],
                ..broken(
                    "config",
                    format!("{} is not in force; what was before is", status.config.file),
                )
            },
        );
    }
    for source in &status.sources {
        if let Some(why) = &source.error {
            let age = match source.confirmed_ago_s {
                Some(age) => format!("last confirmed {age} s ago"),
                None => "never confirmed since the start".into(),
            };
            found.push(
                Rank::Condition,
                Finding {
                    severity: Severity::Warning,
                    evidence: vec![why.clone(), age],
                    remedy: "see that its server runs and can be reached from here; packets go by what was known last".into(),
                    commands: vec!["ringway status".into()],
                    ..broken(
                        "source",
                        format!("{} is not followed: changes of the cluster do not arrive", source.name),
                    )
                },
            );
        }
        for problem in &source.problems {
            found.push(
                Rank::Condition,
                Finding {
                    severity: Severity::Warning,
                    evidence: vec![problem.clone()],
                    remedy: "mend what is named there".into(),
                    ..broken(
                        "source",
                        format!("Something that {} says cannot be followed", source.name),
                    )
                },
            );
        }
    }
    for pod in &status.not_served {
        found.push(
            Rank::Pod,
            Finding {
                about: About::Pod(pod.pod.clone()),
                evidence: vec![pod.why.clone()],
                remedy: "delete the pod, so that it is made anew".into(),
                commands: vec![delete(&pod.pod)],
                ..broken(
                    "pod",
                    format!("Pod {} is recorded here and cannot be served", pod.pod),
                )
            },
        );
    }
    for condition in &status.conditions {
        let (rank, finding) = of_condition(condition);
        found.push(rank, finding);
    }
    if let Some(left) = status.reconcile.paused_s {
        found.push(
            Rank::Hint,
            Finding {
                severity: Severity::Warning,
                evidence: vec![format!("for {left} s more")],
                remedy: "end the pause when you are done".into(),
                commands: vec!["ringway reconcile resume".into()],
                ..broken(
                    "paused",
                    "Reconciliation is paused: what others change in the kernel stays".into(),
                )
            },
        );
    }
    for socket in &status.underlay.sockets {
        if !(socket.gso && socket.gro) {
            found.push(
                Rank::Hint,
                Finding {
                    severity: Severity::Warning,
                    evidence: vec![format!(
                        "{}: segmentation offload {}, receive offload {}",
                        socket.local,
                        on(socket.gso),
                        on(socket.gro)
                    )],
                    remedy: "a newer kernel has both; see underlay.gro of the configuration".into(),
                    commands: vec!["uname -r; ringway config show".into()],
                    ..broken(
                        "offload",
                        "A socket of the underlay has no segmentation offload: bulk costs more"
                            .into(),
                    )
                },
            );
            break;
        }
    }
}

/// Something that the agent names.
fn of_condition(condition: &Condition) -> (Rank, Finding) {
    let Condition {
        what,
        wanted,
        found,
        why,
        since_s,
    } = condition;
    let evidence = vec![format!("for {since_s} s; it should be {wanted}")];
    let remedy = why.clone();
    if let Some(peer) = what.strip_prefix("peer ") {
        // Where the remedy has the command, that is it.
        let mut commands = match why.split_once("(ping -M ") {
            Some((_, rest)) => {
                let options = rest.split(')').next().unwrap_or_default();
                vec![format!("ping -M {options}")]
            }
            None => vec![format!("ringway health ready    # on {peer}")],
        };
        let address = wanted.strip_prefix("reached at ");
        let address = address.and_then(|rest| rest.split(' ').next());
        commands
            .extend(address.map(|address| format!("ip route get {address}; ping -c 3 {address}")));
        let finding = Finding {
            about: About::Peer(peer.to_owned()),
            evidence,
            remedy,
            commands,
            ..broken(
                "peer",
                format!("Packets do not get through to peer {peer}: {found}"),
            )
        };
        return (Rank::Peer, finding);
    }
    if let Some(pod) = what.strip_prefix("pod ") {
        let finding = Finding {
            about: About::Pod(pod.to_owned()),
            evidence,
            remedy,
            commands: vec![delete(pod)],
            ..broken("pod", format!("Pod {pod} is {found}"))
        };
        return (Rank::Pod, finding);
    }
    let finding = Finding {
        evidence,
        remedy,
        commands: vec!["ringway status".into()],
        ..broken(
            "condition",
            format!("{} is not as it should be: {found}", capital(what)),
        )
    };
    (Rank::Condition, finding)
}

fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

/// What makes a pod anew.
pub(super) fn delete(pod: &str) -> String {
    match pod.split_once('/') {
        Some((namespace, name)) => deletion(namespace, name),
        None => format!("ringway detach --name {pod}"),
    }
}

/// With a capital in front.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
