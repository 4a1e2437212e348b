//! The checks: from what was seen to what is wrong. None of them asks anything.

mod agent;
mod drops;
mod machine;
mod pair;
mod peers;
mod pods;
#[cfg(test)]
mod tests;

use crate::{About, Asking, Finding, Observed, Rank, Report, Severity};

/// What is looked at, in the words of the report.
pub const NAMES: &[&str] = &[
    "the agent, its configuration, its state on disk, its sources",
    "permissions and kernel features: /dev/net/tun, offloads of the sockets",
    "the underlay's interface, and the way to each peer",
    "the tunnels' UDP ports: other programs, other overlays, firewall rules",
    "other network configurations for container runtimes",
    "what others have changed in the kernel and changed back: settings, routes, rules",
    "peers: what is sent, what comes back",
    "pods from inside: interface, addresses, routes",
    "drops by reason, and losses of the kernel",
    "the clock",
];

/// Findings with their ranks.
#[derive(Default)]
struct Found(Vec<(Rank, Finding)>);

impl Found {
    fn push(&mut self, rank: Rank, finding: Finding) {
        self.0.push((rank, finding));
    }
}

/// A finding about the node that breaks something; what differs is filled in.
fn broken(check: &str, cause: String) -> Finding {
    Finding {
        check: check.into(),
        severity: Severity::Broken,
        about: About::Node,
        cause,
        evidence: Vec::new(),
        remedy: String::new(),
        commands: Vec::new(),
    }
}

/// Judges what was seen.
pub fn diagnose(seen: &Observed) -> Report {
    let mut found = Found::default();
    // What names the rule or the process goes before what only follows from it.
    machine::check(seen, &mut found);
    match &seen.agent {
        Asking::Absent(absent) => agent::absent(absent, &seen.machine, &mut found),
        Asking::Answered(asked) => {
            agent::answered(asked, &mut found);
            peers::check(asked, &seen.machine, &mut found);
            drops::check(asked, &mut found);
            pods::check(asked, &seen.pods, &mut found);
        }
    }
    let mut findings = found.0;
    if let Some(pair) = &seen.pair {
        let peer = pair::peer_of(pair);
        findings.retain(|(_, finding)| match &finding.about {
            About::Node => true,
            About::Pod(name) => pair::has_pod(pair, name, seen.asked()),
            About::Peer(name) => peer.as_deref() == Some(name),
        });
        let mut of_pair = Found::default();
        pair::check(pair, &findings, &mut of_pair);
        findings.extend(of_pair.0);
    }
    findings.sort_by_key(|(rank, finding)| (*rank, finding.severity));
    Report {
        findings: findings.into_iter().map(|(_, finding)| finding).collect(),
        checked: NAMES.iter().map(|name| (*name).to_owned()).collect(),
        unseen: seen.unseen.clone(),
    }
}
