//! What was traced, in words: one line for a step, names in place of numbers.

use std::fmt::Write;
use std::net::SocketAddr;

use ringway_config::Decider;
use ringway_encap::Encap;
use ringway_encap::outer::TransportSpec;
use ringway_packet::addr::to_ip;
use ringway_packet::offload::Offload;
use ringway_packet::parse::{self, Fragment, L3, Parsed};
use ringway_packet::{ethertype, proto};
use ringway_switch::trace::Step;
use ringway_switch::{DropReason, Out, Tunnel, Verdict};
use ringway_tables::{Cidr, PathId, PeerId, PortId, Snapshot, Target};
use ringway_worker::observe::Entry;
use ringway_worker::observe::steps::Seen;
use ringway_worker::trace::{Made, Sent, Traced};

use super::answer::{self, Line, Trace};
use super::frame::{Input, Way};
use super::next::{self, Ends};

/// Names of the tables that a trace ran on.
pub(super) struct Words<'t> {
    tables: &'t Snapshot,
    decider: Decider,
}

impl<'t> Words<'t> {
    pub(super) fn new(tables: &'t Snapshot, decider: Decider) -> Words<'t> {
        Words { tables, decider }
    }

    /// What a tracer says.
    pub(super) fn trace(&self, input: &Input, traced: &Traced) -> Trace {
        let entry = match input.way {
            Way::Port { port, .. } => Entry::Port(port),
            Way::Datagram { .. } | Way::Outer => traced.peer.map_or(Entry::Underlay, Entry::Peer),
        };
        let from = match input.way {
            Way::Outer => "the underlay".into(),
            Way::Port { .. } | Way::Datagram { .. } => self.entry(entry),
        };
        let mut what = match (input.way, first_parsed(&traced.steps)) {
            (Way::Port { .. }, None) => describe(&input.bytes),
            (_, Some(parsed)) => packet(&parsed),
            (_, None) => format!("{} bytes that were not understood", input.bytes.len()),
        };
        what.push_str(&superframe(traced.packets, &traced.offload));
        let mut text = format!("{what}, from {from}");
        if let Some(note) = &input.note {
            let _ = write!(text, ": {note}");
        }
        let mut after: Vec<Line> = traced
            .sent
            .iter()
            .flat_map(|sent| self.sent(sent))
            .collect();
        after.extend(traced.made.iter().flat_map(|made| self.made(made)));
        let ends = Ends {
            from: entry,
            parsed: first_parsed(&traced.steps),
            frame: Some(next::tunnelled(self.tables, traced)),
        };
        Trace {
            input: text,
            steps: self.lines(&traced.steps),
            verdict: self.verdict(&traced.verdict),
            after,
            next: next::next(self.tables, self.decider, &traced.verdict, &ends),
            half: next::half(self.tables, &traced.verdict, &ends),
            across: None,
        }
    }

    /// What a worker has seen.
    pub(super) fn seen(&self, seen: &Seen, src_port: Option<u16>) -> Trace {
        let steps: Vec<Step> = seen.steps().copied().collect();
        let parsed = first_parsed(&steps);
        let what = parsed.map_or_else(|| format!("{} bytes", seen.len), |parsed| packet(&parsed));
        let from = self.entry(seen.entry);
        let superframe = superframe(seen.packets, &seen.offload);
        let after = match &seen.verdict {
            Verdict::Tunnel(tunnel) | Verdict::Fragment(tunnel) => {
                self.outer(tunnel.path, tunnel, src_port)
            }
            _ => None,
        };
        let ends = Ends {
            from: seen.entry,
            parsed,
            frame: None,
        };
        Trace {
            input: format!("{what}, from {from}{superframe}"),
            steps: self.lines(&steps),
            verdict: self.verdict(&seen.verdict),
            after: after.into_iter().collect(),
            next: next::next(self.tables, self.decider, &seen.verdict, &ends),
            half: None,
            across: None,
        }
    }

    fn lines(&self, steps: &[Step]) -> Vec<Line> {
        let mut from = None;
        let lines = steps.iter().filter_map(|step| {
            if let Step::FromPort(port) = step {
                from = Some(*port);
            }
            self.step(step, from)
        });
        lines.collect()
    }

    fn step(&self, step: &Step, from: Option<PortId>) -> Option<Line> {
        let (name, says) = match *step {
            Step::FromPort(port) => ("from", self.port(port)),
            Step::FromPeer(peer) => ("from", format!("peer {}", self.peer(peer))),
            Step::Parsed(parsed) => ("headers", packet(&parsed)),
            Step::Untagged(tags) => (
                "tags",
                format!("{tags} VLAN tags, which have to be of VLAN 0"),
            ),
            Step::Sender(mac, address) => {
                let claims = address.map_or(String::new(), |a| format!(", {}", to_ip(a)));
                let own = from.and_then(|port| self.tables.port(port));
                let own = own.map_or(String::new(), |own| {
                    let ips: String = own.addresses().map(|a| format!(", {}", to_ip(a))).collect();
                    format!("; the pod is {}{ips}", own.mac)
                });
                ("sender", format!("says {mac}{claims}{own}"))
            }
            Step::Vtep(to, own) => ("VTEP", format!("sent to {to}; this node's is {own}")),
            Step::Back(source, found) => ("sender", self.found(source, found)),
            Step::Admitted if from == Some(PortId::NODE) => {
                ("admitted", "the node may send under any address".into())
            }
            Step::Admitted => ("admitted", "the sender is who it says it is".into()),
            Step::Neighbour(address, known) => {
                let known = known.map_or("nobody has it here".into(), |mac| format!("{mac}"));
                ("neighbour", format!("who has {}? {known}", to_ip(address)))
            }
            Step::Mac(mac, Some(port)) => ("MAC", format!("{mac} is {}", self.port(port))),
            Step::Mac(mac, None) => ("MAC", format!("{mac} is nobody's on this node")),
            Step::Route(to, found) => ("route", self.found(to, found)),
            Step::Ttl(ttl) if ttl > 1 => ("TTL", format!("{ttl}, enough for one more hop")),
            Step::Ttl(ttl) => ("TTL", format!("{ttl}, it runs out here")),
            Step::Size(size, mtu) if size <= usize::from(mtu) => {
                ("size", format!("{size} bytes fit the path's MTU of {mtu}"))
            }
            Step::Size(size, mtu) => (
                "size",
                format!("{size} bytes are above the path's MTU of {mtu}"),
            ),
            Step::Returned(port) => {
                let pod = self.port(port);
                (
                    "return",
                    format!(
                        "answer to a flow of {pod} that the node has translated: back to the node"
                    ),
                )
            }
            Step::Rewritten(to, source, ttl) => {
                ("rewritten", format!("to {to}, from {source}, TTL {ttl}"))
            }
            Step::Originated(what) => ("made", what.into()),
            Step::Verdict(_) => return None,
        };
        Some(line(name, says))
    }

    /// The entry that an address has matched.
    fn found(&self, address: u128, found: Option<(u8, Target)>) -> String {
        let address = to_ip(address);
        let Some((len, target)) = found else {
            return format!("{address} is in no pod network that is known here");
        };
        let prefix =
            Cidr::containing(address, len).map_or_else(|_| len.to_string(), |c| c.to_string());
        let whose = match target {
            Target::Port(PortId::NODE) => "the node's own stack".into(),
            Target::Port(port) => self.port(port),
            Target::Path(path) => self.path(path),
            Target::Unreachable => "this node's, and no pod has the address".into(),
        };
        format!("{address} is in {prefix}: {whose}")
    }

    fn verdict(&self, verdict: &Verdict) -> answer::Verdict {
        let (name, to) = match verdict {
            Verdict::Deliver(port) => ("delivered", Some(self.port(*port))),
            Verdict::Tunnel(tunnel) | Verdict::Fragment(tunnel) => {
                ("tunnelled", Some(self.path(tunnel.path)))
            }
            Verdict::Answered => ("answered", None),
            Verdict::Ignore(_) => ("ignored", None),
            Verdict::Drop(_) => ("dropped", None),
        };
        let why = match verdict {
            Verdict::Drop(reason) => Some((reason.name(), reason.cause(), reason.remedy())),
            Verdict::Ignore(reason) => Some((reason.name(), reason.cause(), reason.remedy())),
            _ => None,
        };
        answer::Verdict {
            verdict: name.into(),
            to,
            reason: why.map(|(reason, ..)| reason.into()),
            cause: why.map(|(_, cause, _)| cause.into()),
            remedy: why.map(|(.., remedy)| remedy.into()),
        }
    }

    /// What goes to a peer.
    fn sent(&self, sent: &Sent) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .outer(sent.path, &sent.tunnel, None)
            .into_iter()
            .collect();
        let sizes = sent.datagrams.iter().map(Vec::len);
        let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
        let size = if least == most {
            format!("{most} bytes")
        } else {
            format!("{least} to {most} bytes")
        };
        let many = match sent.datagrams.len() {
            1 => format!("1 of {size} behind its UDP header"),
            many => format!("{many} of {size} behind their UDP headers"),
        };
        lines.push(line("packets", many));
        if let Some((reason, packets)) = sent.lost {
            lines.push(line("lost", lost(reason, packets)));
        }
        lines
    }

    /// The outer headers.
    fn outer(&self, path: PathId, tunnel: &Tunnel, src_port: Option<u16>) -> Option<Line> {
        let path = self.tables.path(path)?;
        let TransportSpec::Udp { dst_port, .. } = path.outer.transport();
        let encap = match path.encap {
            Encap::Vxlan { vni } => format!("vxlan, VNI {vni}"),
            Encap::Udp => "udp".into(),
        };
        let port = match src_port {
            Some(port) => format!("from UDP port {port}"),
            // Each worker has ports of its own.
            None => format!("source port by flow hash {:#010x}", tunnel.hash),
        };
        let (src, dst, tos) = (path.src, path.dst, tunnel.tos);
        Some(line(
            "outer",
            format!("{src} to {dst}, UDP port {dst_port}, {encap}; {port}, TOS {tos:#04x}"),
        ))
    }

    /// What the switch makes.
    fn made(&self, made: &Made) -> Vec<Line> {
        let to = match made.out {
            Out::Port(port) => self.port(port),
            Out::Tunnel(tunnel) => self.path(tunnel.path),
        };
        let mut lines = vec![line("made", format!("{}, to {to}", describe(&made.frame)))];
        lines.extend(made.sent.iter().flat_map(|sent| self.sent(sent)));
        lines
    }

    fn entry(&self, entry: Entry) -> String {
        match entry {
            Entry::Port(port) => self.port(port),
            Entry::Peer(peer) => format!("peer {}", self.peer(peer)),
            Entry::Underlay => "nobody who is known".into(),
            Entry::Switch => "the switch".into(),
        }
    }

    fn port(&self, port: PortId) -> String {
        port_name(self.tables, port)
    }

    fn peer(&self, peer: PeerId) -> String {
        let peer = self.tables.peer(peer);
        peer.map_or("?".into(), |peer| peer.name.to_string())
    }

    fn path(&self, path: PathId) -> String {
        match self.tables.path(path) {
            Some(path) => format!("peer {}", self.peer(path.peer)),
            None => "a peer that has gone".into(),
        }
    }
}

/// A port by the name that people know.
pub(super) fn port_name(tables: &Snapshot, port: PortId) -> String {
    match tables.port(port) {
        _ if port == PortId::NODE => "the node".into(),
        Some(known) => format!("pod {}", known.name),
        None => format!("port {port}, which nobody has"),
    }
}

fn line(step: &str, says: String) -> Line {
    Line {
        step: step.into(),
        says,
    }
}

fn lost(reason: DropReason, packets: u32) -> String {
    format!(
        "{packets} packets: {}: {} {}",
        reason.name(),
        reason.cause(),
        reason.remedy()
    )
}

fn first_parsed(steps: &[Step]) -> Option<Parsed> {
    steps.iter().find_map(|step| match step {
        Step::Parsed(parsed) => Some(*parsed),
        _ => None,
    })
}

/// What is to be added of a superframe; of one packet, nothing.
fn superframe(packets: u16, offload: &Offload) -> String {
    match packets {
        0 | 1 => String::new(),
        _ => format!(
            ", superframe of {packets} packets with {} bytes each",
            offload.gso_size
        ),
    }
}

/// What a frame is.
fn describe(frame: &[u8]) -> String {
    match parse::parse(frame, frame.len()) {
        Ok(parsed) => packet(&parsed),
        Err(error) => format!("{} bytes, not understood: {error}", frame.len()),
    }
}

/// Source and destination of an IP packet, with ports if it has any; `None` if it is not IP.
pub fn ends(parsed: &Parsed) -> Option<String> {
    let (src, dst) = parsed.addresses()?;
    let ports = parsed.src_port != 0 || parsed.dst_port != 0;
    let end = |address, port| match (to_ip(address), ports) {
        (ip, true) => SocketAddr::new(ip, port).to_string(),
        (ip, false) => ip.to_string(),
    };
    let (from, to) = (end(src, parsed.src_port), end(dst, parsed.dst_port));
    Some(format!("{from} > {to}"))
}

/// What headers say.
fn packet(parsed: &Parsed) -> String {
    let version = match parsed.l3 {
        L3::Ipv4 => 4,
        L3::Ipv6 => 6,
        L3::Arp => return "ARP".into(),
        L3::Other if parsed.ethertype == ethertype::ARP => return "ARP".into(),
        L3::Other => return format!("EtherType {:#06x}", parsed.ethertype),
    };
    let mut text = match parsed.proto {
        proto::TCP => "TCP".to_owned(),
        proto::UDP => "UDP".to_owned(),
        proto::ICMPV4 | proto::ICMPV6 => "ICMP".to_owned(),
        proto::SCTP => "SCTP".to_owned(),
        other => format!("protocol {other}"),
    };
    let ends = ends(parsed).unwrap_or_default();
    // Writing into a string does not fail.
    let _ = write!(
        text,
        " {ends}, IPv{version}, {} bytes, TTL {}",
        parsed.ip_len, parsed.ttl
    );
    match parsed.fragment {
        Fragment::None => {}
        Fragment::First => text.push_str(", first fragment"),
        Fragment::Later => text.push_str(", later fragment"),
    }
    if parsed.l3 == L3::Ipv4 && parsed.dont_fragment {
        text.push_str(", DF");
    }
    text
}
