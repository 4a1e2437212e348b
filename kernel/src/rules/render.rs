//! The table as text.

use std::fmt::Write;
use std::net::IpAddr;

use super::{Desired, HostPort, TABLE};
use crate::network::Network;

/// A family's words in nft's language.
struct Family {
    v6: bool,
    ip: &'static str,
    /// Type of its addresses.
    address: &'static str,
    /// Suffix of our sets.
    suffix: char,
    multicast: &'static str,
    /// What never leaves the link: link-local and multicast.
    on_link: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        v6: false,
        ip: "ip",
        address: "ipv4_addr",
        suffix: '4',
        multicast: "224.0.0.0/4",
        on_link: "169.254.0.0/16, 224.0.0.0/4",
    },
    Family {
        v6: true,
        ip: "ip6",
        address: "ipv6_addr",
        suffix: '6',
        multicast: "ff00::/8",
        on_link: "fe80::/10, ff00::/8",
    },
];

/// A script that replaces the table, whether or not it is there.
///
/// Only the first packet of a connection meets these chains; what they decide the kernel does for the rest
/// in both directions. Host ports are maps: their number does not matter.
pub fn render(desired: &Desired) -> String {
    let mut out = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    let families = || {
        let has = |family: &&Family| {
            desired
                .own
                .iter()
                .any(|own| own.cidr.is_ipv6() == family.v6)
        };
        FAMILIES.iter().filter(has)
    };
    for family in families() {
        sets(&mut out, desired, family);
    }
    if !desired.ports.is_empty() {
        out.push_str("\tchain ports {\n");
        for Family { ip, suffix, .. } in families() {
            // An address of its own goes before all addresses.
            let _ = writeln!(
                out,
                "\t\tdnat {ip} to {ip} daddr . meta l4proto . th dport map @addressed{suffix}\n\
                 \t\tmeta nfproto ipv{suffix} dnat {ip} to meta l4proto . th dport map @ports{suffix}"
            );
        }
        out.push_str("\t}\n");
        for (hook, priority) in [("prerouting", "dstnat"), ("output", "-100")] {
            let _ = writeln!(
                out,
                "\tchain {hook} {{\n\t\ttype nat hook {hook} priority {priority}; policy accept;\n\
                 \t\tfib daddr type local jump ports\n\t}}"
            );
        }
    }
    postrouting(&mut out, desired, families());
    out.push_str("}\n");
    out
}

/// A script that makes the host ports `after` of the host ports `before`, in a table that has some.
pub(super) fn difference(before: &[HostPort], after: &[HostPort]) -> String {
    let mut out = String::new();
    let mut change = |verb: &str, these: &[HostPort], others: &[HostPort]| {
        for port in these.iter().filter(|port| !others.contains(port)) {
            let suffix = if port.pod_ip.is_ipv6() { '6' } else { '4' };
            let (protocol, from, pod, to) =
                (port.protocol, port.host_port, port.pod_ip, port.pod_port);
            let element = match port.host_ip {
                None => format!("ports{suffix} {{ {protocol} . {from} : {pod} . {to} }}"),
                Some(ip) => {
                    format!("addressed{suffix} {{ {ip} . {protocol} . {from} : {pod} . {to} }}")
                }
            };
            let _ = writeln!(out, "{verb} element {TABLE} {element}");
            if !others.iter().any(|other| other.pod_ip == pod) {
                // Of a pod with several ports this comes several times, which only an addition may.
                let pair = format!("{verb} element {TABLE} hairpin{suffix} {{ {pod} . {pod} }}\n");
                if !out.contains(&pair) {
                    out.push_str(&pair);
                }
            }
        }
    };
    change("delete", before, after);
    change("add", after, before);
    out
}

fn sets(out: &mut String, desired: &Desired, family: &Family) {
    let Family {
        v6,
        address,
        suffix,
        multicast,
        ..
    } = family;
    if desired.masquerade {
        let inside = desired.inside.iter().filter(|c| c.is_ipv6() == *v6);
        let mut all: Vec<String> = inside.map(ToString::to_string).collect();
        all.push((*multicast).to_owned());
        let _ = writeln!(
            out,
            "\tset inside{suffix} {{\n\t\ttype {address}\n\t\tflags interval\n\t\tauto-merge\n\
             \t\telements = {{ {} }}\n\t}}",
            all.join(", ")
        );
    }
    if desired.ports.is_empty() {
        return;
    }
    let own = || desired.ports.iter().filter(|p| p.pod_ip.is_ipv6() == *v6);
    let to = |p: &HostPort| format!("{} . {}", p.pod_ip, p.pod_port);
    let from = |p: &HostPort| format!("{} . {}", p.protocol, p.host_port);
    let everywhere = own().filter(|p| p.host_ip.is_none());
    let everywhere: Vec<String> = everywhere
        .map(|p| format!("{} : {}", from(p), to(p)))
        .collect();
    let addressed: Vec<String> = own()
        .filter_map(|p| Some(format!("{} . {} : {}", p.host_ip?, from(p), to(p))))
        .collect();
    let mut pods: Vec<IpAddr> = own().map(|p| p.pod_ip).collect();
    pods.dedup();
    pods.sort();
    pods.dedup();
    let hairpin: Vec<String> = pods.iter().map(|ip| format!("{ip} . {ip}")).collect();
    for (kind, name, of, elements) in [
        (
            "map",
            "ports",
            format!("inet_proto . inet_service : {address} . inet_service"),
            everywhere,
        ),
        (
            "map",
            "addressed",
            format!("{address} . inet_proto . inet_service : {address} . inet_service"),
            addressed,
        ),
        ("set", "hairpin", format!("{address} . {address}"), hairpin),
    ] {
        let _ = writeln!(out, "\t{kind} {name}{suffix} {{\n\t\ttype {of}");
        if !elements.is_empty() {
            let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(", "));
        }
        out.push_str("\t}\n");
    }
}

fn postrouting<'a>(
    out: &mut String,
    desired: &Desired,
    families: impl Iterator<Item = &'a Family> + Clone,
) {
    let interface = &desired.interface;
    out.push_str(
        "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n",
    );
    if !desired.ports.is_empty() {
        for Family { v6, ip, suffix, .. } in families.clone() {
            if !v6 {
                // A process of the node that asked 127.0.0.1.
                let _ = writeln!(
                    out,
                    "\t\toifname \"{interface}\" ip saddr 127.0.0.0/8 masquerade fully-random"
                );
            }
            // A pod that asked for its own host port would get the answer from itself.
            let _ = writeln!(
                out,
                "\t\toifname \"{interface}\" {ip} saddr . {ip} daddr @hairpin{suffix} masquerade fully-random"
            );
        }
    }
    if desired.masquerade {
        for family in families.clone() {
            to_remote_pods(out, desired, family);
        }
        let _ = writeln!(out, "\t\toifname \"{interface}\" accept");
        for Family { v6, ip, suffix, .. } in families {
            let of_family = |own: &&Network| own.cidr.is_ipv6() == *v6;
            for Network { cidr, .. } in desired.own.iter().filter(of_family) {
                let _ = writeln!(
                    out,
                    "\t\t{ip} saddr {cidr} {ip} daddr != @inside{suffix} masquerade fully-random"
                );
            }
        }
    }
    out.push_str("\t}\n");
}

/// Peers take from this node what its pod networks send, and nothing else: to their pods the node and the
/// outside speak as the gateway. By the node port go packets to pods only, so that those of peers need not be
/// listed.
fn to_remote_pods(out: &mut String, desired: &Desired, family: &Family) {
    let Family {
        v6, ip, on_link, ..
    } = family;
    let own = || desired.own.iter().filter(|own| own.cidr.is_ipv6() == *v6);
    let Some(gateway) = own().find_map(|own| own.gateway) else {
        return;
    };
    let pods: Vec<String> = own().map(|own| own.cidr.to_string()).collect();
    let pods = pods.join(", ");
    let _ = writeln!(
        out,
        "\t\toifname \"{}\" {ip} saddr != {{ {pods} }} {ip} daddr != {{ {pods}, {on_link} }} \
         snat {ip} to {gateway} fully-random",
        desired.interface
    );
}
