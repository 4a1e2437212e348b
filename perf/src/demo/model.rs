//! The rules of the Kubernetes network model, each tried with real traffic in both families.

use crate::lab::{Family, Netns, Pod, Topology};
use crate::table::Progress;
use crate::traffic::{
    Seen, TrafficError, UdpEcho, ping, shared_localhost, tcp_seen, transfer, udp_seen,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// One rule, with what was found for IPv4 and IPv6.
pub(super) struct Row {
    pub(super) rule: &'static str,
    pub(super) families: [Result<String, String>; 2],
}

const LIMIT: Duration = Duration::from_secs(2);

/// Tries every rule.
pub(super) fn check(
    topology: &Topology,
    [a, b, c]: &[Pod; 3],
    helper: &Path,
    progress: &mut Progress,
) -> Vec<Row> {
    let n1 = &topology.n1;
    let node_addresses = || n1.addresses().map_err(|error| error.to_string());
    let mut row = |rule: &'static str, check: &dyn Fn(Family) -> Result<String, String>| {
        progress.step(rule);
        Row {
            rule,
            families: Family::BOTH.map(check),
        }
    };
    let pods =
        |from: &Pod, to: &Pod, family| reach(&from.ns, &[from.ip(family)], &to.ns, to.ip(family));
    let from_node = |to: &Pod, family| reach(&n1.ns, &node_addresses()?, &to.ns, to.ip(family));
    vec![
        row("pod to pod, same node, no NAT", &|family| {
            pods(a, b, family)
        }),
        row("pod to pod, across nodes, no NAT", &|family| {
            pods(a, c, family)
        }),
        row("and back", &|family| pods(c, a, family)),
        row("node to its own pod, no NAT", &|family| {
            from_node(a, family)
        }),
        row("node to a pod of another node, no NAT", &|family| {
            from_node(c, family)
        }),
        row("pod to its node's address, no NAT", &|family| {
            reach(&a.ns, &[a.ip(family)], &n1.ns, n1.ip(family))
        }),
        row("pod to its gateway, no NAT", &|family| {
            reach(&a.ns, &[a.ip(family)], &n1.ns, n1.gateway(family))
        }),
        row("two processes of a pod share localhost", &|family| {
            shared_localhost(&a.ns, helper, family)
                .map(|()| "two processes".to_owned())
                .map_err(|error| error.to_string())
        }),
    ]
}

/// Ping, a checked transfer and whom the receiver sees: it must be one of `own`.
fn reach(from: &Netns, own: &[IpAddr], to: &Netns, address: IpAddr) -> Result<String, String> {
    let words = |what: &'static str| move |error: TrafficError| format!("{what}: {error}");
    let report = ping(from, address, 2, 56, LIMIT).map_err(words("ping"))?;
    if !report.all() {
        return Err(format!("ping: {report}"));
    }
    let untranslated = |seen: Seen, what: &str| match seen.untranslated()
        && own.contains(&seen.receiver_saw.ip())
    {
        true => Ok(seen.receiver_saw.ip()),
        false => Err(format!(
            "{what}: {} arrived as {}",
            seen.sender, seen.receiver_saw
        )),
    };
    let saw = untranslated(
        tcp_seen(from, to, address, LIMIT).map_err(words("TCP"))?,
        "TCP",
    )?;
    untranslated(
        udp_seen(from, to, address, LIMIT).map_err(words("UDP"))?,
        "UDP",
    )?;
    let echo = UdpEcho::run(from, to, address, &[0, 64, 1200], LIMIT).map_err(words("UDP"))?;
    if !echo.all() {
        return Err(format!("UDP: {echo}"));
    }
    transfer(from, to, address, 1_000_000, LIMIT).map_err(words("TCP"))?;
    Ok(format!("({saw})"))
}
