//! Pods from inside: a thread goes into each namespace.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway_control::view::Pod;
use ringway_kernel::netlink::Netlink;
use ringway_kernel::netns::{Netns, run_in};

use crate::PodInside;

/// Longest that pods are looked into.
const LIMIT: Duration = Duration::from_secs(5);

/// A look into the pods.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Each pod.
    pub pods: Vec<PodInside>,
    /// What could not be looked at.
    pub unseen: Vec<String>,
}

impl Inside {
    /// This look, with checksum errors counted since an earlier one.
    pub fn since(mut self, before: &Inside) -> Inside {
        for pod in &mut self.pods {
            let then = before.pods.iter().find(|old| old.pod == pod.pod);
            let then = then.map_or(pod.wrong_checksums, |old| old.wrong_checksums);
            pod.wrong_checksums = pod.wrong_checksums.saturating_sub(then);
        }
        self
    }
}

/// Looks into pods; checksum errors are those since the namespace was made.
pub fn inside(pods: &[Pod]) -> Inside {
    let begin = Instant::now();
    let mut inside = Inside::default();
    for (n, pod) in pods.iter().enumerate() {
        if begin.elapsed() > LIMIT {
            inside.unseen.push(format!(
                "{} of {} pods from inside: it took longer than {} s",
                pods.len() - n,
                pods.len(),
                LIMIT.as_secs()
            ));
            break;
        }
        match look(pod) {
            Ok(seen) => inside.pods.push(seen),
            Err(why) => inside.unseen.push(format!("pod {}: {why}", pod.name)),
        }
    }
    inside
}

fn look(pod: &Pod) -> Result<PodInside, String> {
    let mut seen = PodInside {
        pod: pod.name.clone(),
        ..PodInside::default()
    };
    let path = Path::new(&pod.netns);
    let netns = match Netns::open(path) {
        Ok(netns) => netns,
        // Of other users' namespaces nothing can be said.
        Err(e) if nix::unistd::geteuid().is_root() => {
            seen.closed = Some(e.to_string());
            return Ok(seen);
        }
        Err(e) => return Err(e.to_string()),
    };
    let ifname = &pod.ifname;
    run_in(&netns, || fill(&mut seen, ifname)).map_err(|e| e.to_string())??;
    Ok(seen)
}

fn fill(seen: &mut PodInside, ifname: &str) -> Result<(), String> {
    let mut netlink = Netlink::open().map_err(|e| e.to_string())?;
    let link = match netlink.link(ifname) {
        Ok(link) => link,
        Err(e) if e.errno() == Some(nix::libc::ENODEV) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    (seen.interface, seen.up) = (true, link.up);
    let addresses = netlink.addresses(link.index).map_err(|e| e.to_string())?;
    seen.addresses = addresses.iter().map(|address| address.ip).collect();
    let mut default = |ip: IpAddr| match ip {
        IpAddr::V4(_) => seen.default_v4 = true,
        IpAddr::V6(_) => seen.default_v6 = true,
    };
    netlink
        .each_route(link.index, |route| {
            if route.prefix_len == 0 {
                default(route.destination);
            }
        })
        .map_err(|e| e.to_string())?;
    seen.wrong_checksums = wrong_checksums();
    Ok(())
}

/// Segments and datagrams that the stack of this thread's namespace refused.
fn wrong_checksums() -> u64 {
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let v4 = of_snmp(&read("snmp").unwrap_or_default());
    v4 + of_snmp6(&read("snmp6").unwrap_or_default())
}

/// Two lines for each protocol, of names and of numbers (net/ipv4/proc.c, snmp_seq_show). TCP's are of both families.
fn of_snmp(text: &str) -> u64 {
    let mut sum = 0;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let [names, numbers] = [pair[0], pair[1]].map(str::split_ascii_whitespace);
        let (mut names, mut numbers) = (names, numbers);
        let protocol = names.next();
        if !matches!(protocol, Some("Tcp:" | "Udp:")) || protocol != numbers.next() {
            continue;
        }
        let errors = names
            .zip(numbers)
            .filter(|(name, _)| *name == "InCsumErrors");
        sum += errors
            .filter_map(|(_, n)| n.parse::<u64>().ok())
            .sum::<u64>();
    }
    sum
}

/// A line for each counter (net/ipv6/proc.c, snmp6_seq_show).
fn of_snmp6(text: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Udp6InCsumErrors"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_checksums_of_all_protocols_are_summed() {
        let snmp = "Ip: Forwarding InCsumErrors\nIp: 1 50\n\
                    Tcp: RtoAlgorithm InErrs OutRsts InCsumErrors\nTcp: 1 9 8 7\n\
                    Udp: InDatagrams InCsumErrors IgnoredMulti\nUdp: 5 3 1\n\
                    UdpLite: InDatagrams InCsumErrors\nUdpLite: 5 100\n";
        assert_eq!(of_snmp(snmp), 10);
        assert_eq!(of_snmp(""), 0);
        assert_eq!(of_snmp("Tcp: InCsumErrors\nUdp: InCsumErrors\n"), 0);
        let snmp6 = "Ip6InReceives   \t5\nUdp6InCsumErrors                \t4\n";
        assert_eq!(of_snmp6(snmp6), 4);
        assert_eq!(of_snmp6("Udp6InCsumErrors x"), 0);
    }

    #[test]
    fn only_what_came_in_between_counts() {
        let of = |counts: &[(&str, u64)]| Inside {
            pods: counts
                .iter()
                .map(|(pod, wrong_checksums)| PodInside {
                    pod: (*pod).into(),
                    wrong_checksums: *wrong_checksums,
                    ..PodInside::default()
                })
                .collect(),
            unseen: Vec::new(),
        };
        // One that is new since has its past in it, one that was made anew has less.
        let since = of(&[("a", 7), ("new", 9), ("anew", 1)]).since(&of(&[("a", 5), ("anew", 4)]));
        let counts: Vec<u64> = since.pods.iter().map(|pod| pod.wrong_checksums).collect();
        assert_eq!(counts, [2, 0, 0]);
    }
}
