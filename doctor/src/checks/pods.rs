//! Pods, as they are from inside.

use std::net::IpAddr;

use crate::{About, Asked, Finding, PodInside, Rank};

use super::agent::delete;
use super::{Found, broken};

pub(super) fn check(asked: &Asked, inside: &[PodInside], found: &mut Found) {
    for seen in inside {
        let Some(pod) = asked.pods.iter().find(|pod| pod.name == seen.pod) else {
            continue;
        };
        let name = &pod.name;
        let enter = format!("nsenter --net={}", pod.netns);
        let finding = |cause: String| Finding {
            about: About::Pod(name.clone()),
            ..broken("pod", cause)
        };
        if let Some(why) = &seen.closed {
            found.push(
                Rank::Pod,
                Finding {
                    evidence: vec![why.clone()],
                    remedy: "its runtime ended it without a DEL: detach it".into(),
                    commands: vec![delete(name)],
                    ..finding(format!("The network namespace of pod {name} is gone"))
                },
            );
            continue;
        }
        if !seen.interface {
            found.push(
                Rank::Pod,
                Finding {
                    evidence: vec![format!(
                        "there is no interface {} in {}",
                        pod.ifname, pod.netns
                    )],
                    remedy: "somebody deleted it: make the pod anew".into(),
                    commands: vec![delete(name)],
                    ..finding(format!("Pod {name} has lost its interface"))
                },
            );
            continue;
        }
        if !seen.up {
            found.push(
                Rank::Pod,
                Finding {
                    evidence: vec![format!("{} is down in {}", pod.ifname, pod.netns)],
                    remedy: "set it up, and see who took it down".into(),
                    commands: vec![format!("{enter} ip link set {} up", pod.ifname)],
                    ..finding(format!("The interface of pod {name} is down"))
                },
            );
            continue;
        }
        let given = pod
            .ips
            .iter()
            .filter_map(|ip| ip.split('/').next()?.parse().ok());
        for ip in given {
            let ip: IpAddr = ip;
            if !seen.addresses.contains(&ip) {
                found.push(
                    Rank::Pod,
                    Finding {
                        evidence: vec![format!("{} has not {ip}, which is the pod's", pod.ifname)],
                        remedy: "give it back, and see who took it".into(),
                        commands: vec![format!(
                            "{enter} ip addr add {ip}/{} dev {}",
                            if ip.is_ipv4() { 32 } else { 128 },
                            pod.ifname
                        )],
                        ..finding(format!("Pod {name} has lost its address {ip}"))
                    },
                );
            }
            let (has, family, zero) = match ip {
                IpAddr::V4(_) => (seen.default_v4, "IPv4", "0.0.0.0/0"),
                IpAddr::V6(_) => (seen.default_v6, "IPv6", "::/0"),
            };
            let gateway = pod.gateways.iter().find(|g| g.is_ipv4() == ip.is_ipv4());
            if let (false, Some(gateway)) = (has, gateway) {
                found.push(
                    Rank::Pod,
                    Finding {
                        evidence: vec![format!(
                            "no default route of {family} by {} in {}",
                            pod.ifname, pod.netns
                        )],
                        remedy: "set it again, and see who took it".into(),
                        commands: vec![format!(
                            "{enter} ip route add {zero} via {gateway} dev {} onlink",
                            pod.ifname
                        )],
                        ..finding(format!(
                            "Pod {name} has no route to other nodes or the world"
                        ))
                    },
                );
            }
        }
        if seen.wrong_checksums > 0 {
            found.push(
                Rank::Corrupted,
                Finding {
                    evidence: vec![format!(
                        "the stack of pod {name} refused {} packets for a wrong TCP or UDP checksum while it was looked at",
                        seen.wrong_checksums
                    )],
                    remedy: "something on the way changes packets: compare captures at both ends; outer checksums (underlay.udp_checksum) make the kernel drop such before they arrive".into(),
                    commands: vec![
                        format!("{enter} nstat -az TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors"),
                        format!("ringway capture --pod {name}"),
                    ],
                    ..finding(format!("Packets to pod {name} are corrupted on the way"))
                },
            );
        }
    }
}
