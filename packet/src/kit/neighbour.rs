//! ARP and neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{eth, icmp, pod_mac};
use crate::mac::MacAddr;
use crate::{arp as wire, ethertype, icmpv6};

fn ip4(text: &str) -> Ipv4Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv4 address"))
}

fn ip6(text: &str) -> Ipv6Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv6 address"))
}

/// An ARP frame from the packet's sender to `dst`.
pub fn arp(dst: MacAddr, packet: wire::Repr) -> Vec<u8> {
    let mut body = [0; wire::LEN];
    packet.emit(&mut body);
    eth(dst, packet.sender_mac, ethertype::ARP, &body)
}

/// A broadcast ARP request from a pod. Sender `0.0.0.0` makes a probe (RFC 5227), from the MAC that
/// the target's pod would have; target equal to sender makes an announcement.
pub fn arp_request(sender: &str, target: &str) -> Vec<u8> {
    let (sender, target) = (ip4(sender), ip4(target));
    let owner = if sender.is_unspecified() {
        target
    } else {
        sender
    };
    arp(
        MacAddr::BROADCAST,
        wire::Repr {
            operation: wire::REQUEST,
            sender_mac: pod_mac(IpAddr::V4(owner)),
            sender_ip: sender.to_bits(),
            target_mac: MacAddr::ZERO,
            target_ip: target.to_bits(),
        },
    )
}

/// An ARP reply from one pod to another.
pub fn arp_reply(sender: &str, target: &str) -> Vec<u8> {
    let (sender, target) = (ip4(sender), ip4(target));
    let asker = pod_mac(IpAddr::V4(target));
    arp(
        asker,
        wire::Repr {
            operation: wire::REPLY,
            sender_mac: pod_mac(IpAddr::V4(sender)),
            sender_ip: sender.to_bits(),
            target_mac: asker,
            target_ip: target.to_bits(),
        },
    )
}

/// A neighbour solicitation to the target's solicited-node group, from a pod. Sender `::` makes a
/// duplicate-address probe, without option, from the MAC that the target's pod would have.
pub fn solicitation(sender: &str, target: &str) -> Vec<u8> {
    let (sender, target) = (ip6(sender), ip6(target));
    let probe = sender.is_unspecified();
    let mac = pod_mac(IpAddr::V6(if probe { target } else { sender }));
    // RFC 4291 section 2.7.1.
    let group = 0xff02 << 112 | 0x1_ff00_0000 | (target.to_bits() & 0xff_ffff);
    let mut body = target.octets().to_vec();
    if !probe {
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&mac.0);
    }
    let dst = IpAddr::V6(Ipv6Addr::from_bits(group));
    icmp(
        IpAddr::V6(sender),
        dst,
        icmpv6::NEIGHBOUR_SOLICITATION,
        0,
        [0; 4],
    )
    .macs(mac, MacAddr::of_ipv6_multicast(group))
    .ttl(255)
    .payload(&body)
    .frame()
}

/// A solicited neighbour advertisement, with option, from the owner of `target` to another pod.
pub fn advertisement(target: &str, to: &str) -> Vec<u8> {
    let (target, to) = (IpAddr::V6(ip6(target)), IpAddr::V6(ip6(to)));
    let mac = pod_mac(target);
    let mut body = ip6(&target.to_string()).octets().to_vec();
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&mac.0);
    icmp(
        target,
        to,
        icmpv6::NEIGHBOUR_ADVERTISEMENT,
        0,
        [0x60, 0, 0, 0],
    )
    .macs(mac, pod_mac(to))
    .ttl(255)
    .payload(&body)
    .frame()
}
