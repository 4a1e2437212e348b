//! What several suites check of a pair of pods.

use ringway_perf::lab::{Family, Netns};
use ringway_perf::traffic::{UdpEcho, echo_sizes, ping, tcp_seen, transfer, udp_seen};
use std::net::IpAddr;
use std::time::Duration;

/// How long one packet may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(3);

/// Ping, UDP of all sizes and TCP between `from` and `address` in `to`, payloads checked. Returns
/// what failed, each with `what` in front.
pub(crate) fn check_traffic(what: &str, from: &Netns, to: &Netns, address: IpAddr) -> Vec<String> {
    let family = if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let mut failures = Vec::new();
    let mut note =
        |kind: &str, found: String| failures.push(format!("{what} {family} {kind}: {found}"));

    match ping(from, address, 3, 56, LIMIT) {
        Ok(report) if report.all() => {}
        Ok(report) => note("ping", report.to_string()),
        Err(error) => note("ping", error.to_string()),
    }
    // IPv6 learns a smaller path MTU by losing a packet, once in each direction.
    match ping(from, address, 4, 4000, Duration::from_millis(700)) {
        Ok(report) if report.times.len() >= 2 && report.corrupt == 0 => {}
        Ok(report) => note("ping in fragments", report.to_string()),
        Err(error) => note("ping in fragments", error.to_string()),
    }
    match UdpEcho::run(
        from,
        to,
        address,
        &echo_sizes(family, mtu(from)),
        Duration::from_millis(700),
    ) {
        Ok(report) if report.all() => {}
        Ok(report) => note("UDP", report.to_string()),
        Err(error) => note("UDP", error.to_string()),
    }
    if let Err(error) = transfer(from, to, address, 3_000_001, LIMIT) {
        note("TCP", error.to_string());
    }
    failures
}

/// The MTU of a pod's eth0; 1450 for a namespace that has none.
fn mtu(ns: &Netns) -> usize {
    let mtu = ns.run(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/mtu"));
    mtu.ok()
        .and_then(|text| text.ok()?.trim().parse().ok())
        .unwrap_or(1450)
}

/// The receiver sees one of `own`, and what the sender's socket says, over TCP and UDP.
pub(crate) fn check_source(
    what: &str,
    from: &Netns,
    own: &[IpAddr],
    to: &Netns,
    address: IpAddr,
) -> Vec<String> {
    let seen = [
        ("TCP", tcp_seen(from, to, address, LIMIT)),
        ("UDP", udp_seen(from, to, address, LIMIT)),
    ];
    seen.into_iter()
        .filter_map(|(kind, seen)| match seen {
            Ok(seen) if seen.untranslated() && own.contains(&seen.receiver_saw.ip()) => None,
            Ok(seen) => Some(format!(
                "{what} {kind} to {address}: {seen:?}, not one of {own:?}"
            )),
            Err(error) => Some(format!("{what} {kind} to {address}: {error}")),
        })
        .collect()
}

/// Fails with the whole list.
#[track_caller]
pub(crate) fn assert_none(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} checks failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
