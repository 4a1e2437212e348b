//! Why a frame did not go on: drop reasons and ignore reasons.
//!
//! One flat enum each. A reason is declared once, here, with its counter name, its cause, its remedy
//! and an example; the command line, the API, metrics and traces read these texts. To add one: a line in
//! the table below, the place in the pipeline that returns it, and a test packet in
//! `tests/every_reason.rs` (that test fails while a reason has none).

use ringway_packet::parse::{Layer, ParseError};

macro_rules! reasons {
    ($(#[$meta:meta])* $kind:ident { $($(#[doc = $doc:literal])* $name:ident = $text:literal, $cause:literal, $remedy:literal, $example:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $kind {
            $(#[doc = $cause] $name,)*
        }

        impl $kind {
            /// How many there are; counters are arrays of this length.
            pub const COUNT: usize = Self::ALL.len();
            /// Every one, in the order of declaration, which is the counters' order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Position in counter arrays.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Counter and log name, `snake_case`, stable.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What was seen.
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause),* }
            }

            /// What an operator does about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }

            /// What leads to it, by way of example.
            pub const fn example(self) -> &'static str {
                match self { $(Self::$name => $example),* }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

reasons! {
/// Why a frame was dropped. Exactly one reason for each dropped frame.
DropReason {
    // 1. Parse
    MalformedEthernet = "malformed_ethernet", "The frame ends before its Ethernet or VLAN header does, or has more than two VLAN tags.", "Capture at the port named: something there builds frames by hand or is broken.", "A tool that writes frames of less than 14 bytes to a raw socket; three VLAN devices one on the other.";
    MalformedArp = "malformed_arp", "An ARP packet that is truncated, or not Ethernet and IPv4.", "Capture at the port named and look for a tool that writes raw frames.", "arping with a hand-made packet; a scanner in a pod.";
    MalformedIpv4 = "malformed_ipv4", "An IPv4 header whose version, header length or total length does not fit the frame.", "Capture at the port named; behind a peer, check the underlay for corruption.", "A raw socket with IP_HDRINCL and a wrong length; a frame cut on the underlay.";
    Ipv4Checksum = "ipv4_checksum", "The IPv4 header checksum is wrong.", "Corruption on the way or a broken sender; behind a peer, check NIC error counters.", "Faulty memory or a faulty cable between nodes; a packet generator that leaves the field at 0.";
    MalformedIpv6 = "malformed_ipv6", "An IPv6 header whose version or payload length does not fit the frame.", "Capture at the port named; behind a peer, check the underlay for corruption.", "A raw IPv6 packet whose payload length is larger than what follows.";
    Ipv6Extensions = "ipv6_extensions", "IPv6 extension headers that are truncated, too many (over 8) or too long (over 256 bytes).", "Normal traffic has none of this kind: look for a scanner in the pod named.", "nmap or a fuzzer in a pod; nine hop-by-hop or destination options headers in a row.";
    MalformedTcp = "malformed_tcp", "A TCP header that is truncated or has an impossible data offset.", "Capture at the port named.", "A SYN of a scanner with a data offset of 0; a TCP packet cut after its IP header.";
    MalformedUdp = "malformed_udp", "A UDP header that is truncated or whose length does not fit the packet.", "Capture at the port named.", "A raw socket with a UDP length of less than 8 or beyond the packet.";
    MalformedSctp = "malformed_sctp", "An SCTP header that is truncated.", "Capture at the port named.", "An SCTP packet of less than 12 bytes.";
    MalformedIcmp = "malformed_icmp", "An ICMP, ICMPv6 or neighbour discovery message that is truncated or breaks the rules of its RFC.", "Capture at the port named.", "A neighbour solicitation with a hop limit other than 255, as one from beyond the link has; a truncated ping.";
    BadOffload = "bad_offload", "Offload metadata that contradicts the frame: a checksum to be done where none is, segment size or kind.", "A raw socket with PACKET_VNET_HDR in the pod, or a kernel bug: capture at the port named.", "A virtual machine or another user-space stack in the pod that fills in its virtio_net_hdr wrongly.";
    // 2. Admission at a local port
    UnknownPort = "unknown_port", "The frame came in by a port that the tables do not know, as in the moment of a detach.", "Nothing, unless it goes on: then detach and attach the pod again.", "A pod that still sends while it is being deleted.";
    VlanTagged = "vlan_tagged", "A pod or a peer sent a VLAN tag other than a priority tag (VLAN 0); the pod network has no VLANs.", "Take the VLAN device out of the pod.", "ip link add link eth0 name eth0.5 type vlan id 5, in a pod.";
    SpoofedMac = "spoofed_mac", "The source MAC is not the pod's.", "The pod changed its MAC, bridges a guest, or is hostile: see `ringway pods` for the right MAC.", "ip link set eth0 address …, in a pod; a bridge or a macvlan device there.";
    SpoofedIpv4 = "spoofed_ipv4", "The IPv4 source, or the sender of an ARP message, is not the pod's address.", "The pod holds an address it was not given, forwards for others, or is hostile.", "A second address on eth0; a container that routes or tunnels for others; a packet generator.";
    SpoofedIpv6 = "spoofed_ipv6", "The IPv6 source is not the pod's address nor link-local, or is :: towards a single host.", "The pod holds an address it was not given, forwards for others, or is hostile.", "An address that the pod gave itself; a container that routes for others.";
    // 3. Before anything of it is read, and admission at the underlay
    SocketOverflow = "socket_overflow", "The receive buffer of an underlay socket was full, and the kernel dropped datagrams before they were read.", "More arrives than the workers read: give them processors of their own, or raise `workers.count`.", "A burst from several nodes at once; workers that share their processors with busy pods.";
    DatagramTruncated = "datagram_truncated", "A datagram from the underlay that is longer than a packet buffer, or that does not say where it comes from.", "Report it: no UDP datagram is so long.", "Nothing that is known.";
    MalformedOuter = "malformed_outer", "An outer Ethernet, IP or UDP header from the underlay that is truncated, contradicts itself or is a fragment.", "Capture on the underlay; check its MTU first, then for corruption.", "A switch on the way that fragments outer packets; a path with a smaller MTU than both interfaces.";
    OuterChecksum = "outer_checksum", "The outer UDP checksum is wrong, or zero on IPv6.", "Corruption on the underlay, or a peer that sends zero checksums over IPv6.", "A peer with `udp6zerocsumtx` on its VXLAN device; a NIC that computes checksums wrongly.";
    NotOurPort = "not_our_port", "An outer UDP packet to a port that carries no encapsulation of ours.", "Compare `vxlan_port` and `udp_port` with the peer's.", "A peer whose configuration has another tunnel port.";
    UnknownPeer = "unknown_peer", "The outer source address belongs to no peer.", "Add the address to the peer's `addresses`, or find out who sends to the tunnel port.", "A node that was added elsewhere and not here; a peer that sends from another of its addresses.";
    MalformedVxlan = "malformed_vxlan", "A VXLAN header that is truncated or lacks the I flag (RFC 7348 section 5).", "Something else sends to the tunnel port; Cilium uses 8472 too.", "A port scanner; a Geneve or GTP sender with the same port.";
    UnknownVni = "unknown_vni", "A VXLAN network identifier other than ours.", "Compare `vni` with the peer's; two overlays may share the port.", "Two clusters, or Flannel and Cilium, on one network with one UDP port.";
    MalformedUdpEncap = "malformed_udp_encap", "A UDP-encapsulated payload that is neither IPv4 nor IPv6 by its version.", "Compare `encap` with the peer's.", "A peer that sends VXLAN to the port of plain UDP.";
    EncapMismatch = "encap_mismatch", "A known peer used an encapsulation other than the one configured for it.", "Set the same `encap` on both nodes.", "underlay.encap changed on one of the two nodes.";
    VtepMac = "vtep_mac", "The inner destination MAC from a peer is not this node's VTEP MAC.", "The peer has an old MAC for this node: compare `vtep_mac` in `ringway status` with the peer's table.", "A node that was installed anew under the same address; a Flannel peer whose annotation is old.";
    ForeignInnerSource = "foreign_inner_source", "The inner source address is not in the sending peer's pod CIDRs, nor its own.", "Compare the peer's `pod_cidrs` here with what it really has; otherwise somebody spoofs.", "A pod network moved between nodes; a peer that sends what came from outside without masquerading it.";
    EcnNotCapable = "ecn_not_capable", "The underlay marked congestion on a packet whose inner header does not know ECN (RFC 6040 section 4.2): it must be dropped.", "The underlay is congested; see its queues.", "A router on the underlay with ECN marking, while the pods' TCP does not use ECN.";
    Aqm = "aqm", "For 100 ms what peers sent in bulk stood longer than 5 ms in the receive socket of a worker: its flows are told so, and this packet's flow does not know ECN (CoDel, RFC 8289).", "A few of many are as they should be: the worker is slower than the senders. Give the workers processors of their own, raise `workers.count`, or turn ECN on in the pods (net.ipv4.tcp_ecn=1): then packets are marked, not dropped.", "Bulk from several nodes to one; workers that share their processors with busy pods.";
    MalformedProbe = "malformed_probe", "A peer sent a probe of its path that is truncated, or of a kind that this version does not know.", "Nothing, if the peer runs a newer version; else it is corruption on the underlay, or somebody spoofs.", "A node of a later version; a packet generator in a node's network namespace.";
    ProbeLimited = "probe_limited", "A peer sent more probes, or answers to such, than are looked at: 10 a second of each peer, 100 of all.", "A few come with many nodes that start at once; if it goes on, see which peer sends them: its agent is broken or hostile.", "A peer that asks in a loop.";
    NotForwardedInner = "not_forwarded_inner", "A peer sent ARP, a multicast, or something that is not IP through the tunnel.", "Nothing of the kind crosses a Flannel-like overlay: a bridge or another overlay is tied to it.", "A pod's broadcast bridged into the overlay by a peer; a peer with an Ethernet VPN on the same VNI.";
    // 4. Lookup
    UnknownEthertype = "unknown_ethertype", "Neither IPv4, IPv6 nor ARP.", "Capture at the port named; the pod network carries IP only.", "LLDP, PPPoE or MPLS out of a pod.";
    UnknownMac = "unknown_mac", "The destination MAC belongs to no pod of this node.", "The pod has a stale neighbour entry, or its peer was just detached.", "A pod deleted a second ago, to which another still sends.";
    NoNeighbour = "no_neighbour", "ARP or neighbour solicitation for an address that nobody here has.", "The pod talks to an address in its own subnet that is not attached: see `ringway pods`.", "ping to a free address of the pod's own /24; a client with the address of a pod that has gone.";
    NoSuchPod = "no_such_pod", "The destination is in this node's pod CIDR but no pod has it.", "Usually a pod that has just gone; otherwise attach it again.", "A Service whose endpoint has just gone; a client with a cached address.";
    NoRoute = "no_route", "The node sent a packet whose destination is no pod CIDR that is known here.", "Add the peer that owns it, or look at the node's routes over ringway0.", "A peer missing from the configuration; a static route of the node over ringway0.";
    NotOurs = "not_ours", "A peer sent a packet whose destination is not on this node.", "The peer's tables are old, or a pod CIDR moved: compare `pod_cidrs`.", "A pod network that another node has now, while the peer does not know it yet.";
    Hairpin = "hairpin", "The packet would leave by the port it came in by.", "A pod sends to its own address over the wire, or the node routes a pod CIDR wrongly.", "A route of the node for a pod network over ringway0 that no peer has.";
    MartianDestination = "martian_destination", "An address that is never routed: a loopback, unspecified, multicast or broadcast destination, or a link-local IPv6 source beyond its link.", "Capture at the port named.", "A pod that sends to 127.0.0.1 or 0.0.0.0 over eth0, or to fe80:: of another link.";
    Multicast = "multicast", "Multicast or broadcast that no pod network service answers.", "The pod network carries no multicast; use unicast.", "Service discovery by multicast (SSDP, WS-Discovery); keepalived's VRRP.";
    // 5. Decide
    TtlExceeded = "ttl_exceeded", "The TTL or hop limit ran out here; the sender gets an ICMP error.", "A traceroute, or a routing loop when it goes on.", "traceroute; two nodes whose routes lead to each other.";
    TooBig = "too_big", "Larger than the path's MTU and not to be fragmented; the sender gets an ICMP error with the MTU.", "Normal once per flow; if it goes on, ICMP is filtered in the pod or its MTU is above the path's (`ringway status`).", "A pod with an MTU of its own making; a path whose MTU became smaller.";
    NoPath = "no_path", "The route names a path that is no longer there, as in the moment a peer is removed.", "Nothing, unless it goes on: then restart the agent and report it.", "A node removed from the cluster, while pods still talk to it.";
    Unsegmentable = "unsegmentable", "A packet that cannot be cut into what fits the path: a superframe whose headers and offload metadata disagree, or IPv4 to be fragmented whose options or offset do not allow it.", "A raw socket in the pod, or a kernel bug: capture at the port named.", "A packet generator with a forged virtio_net_hdr.";
    AnswerQueueFull = "answer_queue_full", "The switch had no room to write its own reply.", "A flood of requests; see which pod by `ringway drops`.", "A scan of the pod network by ARP; a flood of packets that are too big.";
    // 6. After the verdict, at the transmitting port
    PortGone = "port_gone", "The port to deliver to was closed after the decision.", "Nothing: the pod was being detached.", "A pod deleted under traffic.";
    PortDown = "port_down", "The pod's interface is down.", "Set the interface up in the pod, or see why its runtime took it down.", "ip link set eth0 down, in the pod.";
    PortFull = "port_full", "The kernel took no more for this port.", "The receiver is slower than the sender; see its CPU.", "A pod whose stack takes less than is sent to it; a node short of memory.";
    PortRefused = "port_refused", "The kernel refused the frame (EINVAL): offload metadata it does not accept.", "Report it with a capture at the port.", "A superframe of a kind that the pod's interface was told not to take.";
    RateLimited = "rate_limited", "More was sent to the pod than its bandwidth limit lets through, and the queue for it was full.", "The limit does what it is for: raise the pod's ingress rate, or slow the senders.", "An annotation kubernetes.io/ingress-bandwidth that is below what the pod downloads.";
    UnderlayFull = "underlay_full", "The underlay socket's buffer was full.", "The NIC or its queue is the limit: raise net.core.wmem_max or slow the sender.", "A bulk sender on a slow NIC; a shaper (tc) on the underlay interface.";
    UnderlayTooBig = "underlay_too_big", "The kernel knows a smaller path MTU to that peer (EMSGSIZE); the path's MTU was lowered.", "Normal once after a path change; if it goes on, raise the underlay's MTU.", "A router with a smaller MTU whose ICMP error has just come.";
    UnderlayUnreachable = "underlay_unreachable", "The kernel has no route to the peer, or an ICMP error came back.", "Check the underlay: `ip route get` the peer's address; is its agent running?", "A node that is down; a missing route; a switch port that is down.";
    UnderlayDenied = "underlay_denied", "A firewall of this node forbids the tunnel's packets (EPERM).", "Allow UDP to and from the tunnel port in the node's firewall.", "An nftables or iptables rule in the output chain that drops or rejects UDP 8472.";
    UnderlayError = "underlay_error", "The kernel refused the message for another reason, which the agent's log names.", "See the log line with the error number.", "An interface removed under traffic.";
    NoBuffer = "no_buffer", "The buffer pool was empty.", "Report it: the pool is sized so that this cannot happen.", "Nothing that is known.";
}
}

reasons! {
/// Why a frame was left without an answer though nothing is wrong: what a healthy idle pod sends
/// and nobody needs.
IgnoreReason {
    DuplicateAddressProbe = "duplicate_address_probe", "A pod's duplicate-address probe or announcement for its own address; an answer would be a conflict.", "Nothing.", "A pod that starts.";
    ArpReply = "arp_reply", "An ARP reply; the switch knows every address already.", "Nothing.", "arping -A in a pod.";
    NeighbourAdvertisement = "neighbour_advertisement", "A neighbour advertisement; the switch knows every address already.", "Nothing.", "A pod that starts.";
    RouterSolicitation = "router_solicitation", "A search for IPv6 routers; pods have static routes.", "Nothing.", "A pod that starts, or NetworkManager in it.";
    MulticastListener = "multicast_listener", "An MLD report; there is no multicast to subscribe to.", "Nothing.", "Any pod with IPv6.";
    Igmp = "igmp", "An IGMP report; there is no multicast to subscribe to.", "Nothing.", "A pod that joins a group.";
    Mdns = "mdns", "Multicast DNS or LLMNR; names come from the cluster's DNS.", "Nothing.", "avahi or systemd-resolved in a pod.";
    Dhcp = "dhcp", "A search for DHCP; addresses come from the agent.", "Nothing.", "A DHCP client in a pod.";
    ProbeAnswer = "probe_answer", "An answer to a probe of the path to a peer; the control plane has it.", "Nothing.", "Any peer that runs Ringway.";
}
}

impl DropReason {
    /// Whether a worker gives it: for what it cannot read, or loses after the verdict. What the pipeline gives
    /// has its packet in `tests/every_reason.rs` here, the others have their case in the worker's test of
    /// that name.
    pub const fn is_workers(self) -> bool {
        matches!(
            self,
            Self::SocketOverflow
                | Self::DatagramTruncated
                | Self::Unsegmentable
                | Self::PortGone
                | Self::PortDown
                | Self::PortFull
                | Self::PortRefused
                | Self::RateLimited
                | Self::UnderlayFull
                | Self::UnderlayTooBig
                | Self::UnderlayUnreachable
                | Self::UnderlayDenied
                | Self::UnderlayError
        )
    }
}

/// Which way a packet was going when it was lost, as the pod or peer sees it that the loss is counted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came from there.
    From,
    /// It was going there.
    To,
}

impl DropReason {
    /// Whether it is given after the verdict: such a packet was going to the port or peer that it is counted at.
    /// [`NoPath`](Self::NoPath) and [`NoBuffer`](Self::NoBuffer) are given at the verdict, too; what is lost for
    /// them later is counted at nobody.
    pub const fn is_after_verdict(self) -> bool {
        self.index() >= Self::PortGone.index() && !matches!(self, Self::NoBuffer)
            || matches!(self, Self::Unsegmentable)
    }

    /// Which way packets were going that are counted at a port or peer for it: each reason has one.
    pub const fn direction(self) -> Direction {
        match self.is_after_verdict() {
            true => Direction::To,
            false => Direction::From,
        }
    }

    /// Where on its way a frame is when it is given.
    pub const fn stage(self) -> &'static str {
        // The last of each.
        const STAGES: [(DropReason, &str); 6] = [
            (DropReason::BadOffload, "parse: when its headers are read"),
            (
                DropReason::SpoofedIpv6,
                "admission of what comes from a pod or the node",
            ),
            (
                DropReason::NotForwardedInner,
                "admission of what comes from the underlay",
            ),
            (DropReason::Multicast, "lookup of its destination"),
            (DropReason::AnswerQueueFull, "decision what becomes of it"),
            (
                DropReason::NoBuffer,
                "after its verdict, at the transmitting port",
            ),
        ];
        if self.is_after_verdict() {
            return STAGES[5].1;
        }
        let mut at = 0;
        while self.index() > STAGES[at].0.index() {
            at += 1;
        }
        STAGES[at].1
    }
}

/// The reason that a frame which does not parse is dropped for.
#[cold]
pub(crate) fn reason_of(error: &ParseError) -> DropReason {
    match error.layer() {
        Layer::Ethernet => DropReason::MalformedEthernet,
        Layer::Arp => DropReason::MalformedArp,
        Layer::Ipv4 => DropReason::MalformedIpv4,
        Layer::Ipv4Checksum => DropReason::Ipv4Checksum,
        Layer::Ipv6 => DropReason::MalformedIpv6,
        Layer::Ipv6Extensions => DropReason::Ipv6Extensions,
        Layer::Tcp => DropReason::MalformedTcp,
        Layer::Udp => DropReason::MalformedUdp,
        Layer::Sctp => DropReason::MalformedSctp,
        Layer::Icmp => DropReason::MalformedIcmp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_texts_are_there() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(r.index(), i);
            assert!(r.cause().len() > 15 && r.remedy().len() > 5, "{r}");
            assert!(r.example().len() > 10 && r.stage().len() > 10, "{r}");
        }
    }

    #[test]
    fn a_reason_has_one_direction_and_the_stage_that_its_place_in_the_table_says() {
        use DropReason as R;
        for (reason, direction, stage) in [
            (R::MalformedEthernet, Direction::From, "parse"),
            (R::BadOffload, Direction::From, "parse"),
            (R::UnknownPort, Direction::From, "from a pod"),
            (R::SocketOverflow, Direction::From, "underlay"),
            (R::UnknownEthertype, Direction::From, "lookup"),
            (R::NoPath, Direction::From, "decision"),
            (R::Unsegmentable, Direction::To, "after its verdict"),
            (R::PortGone, Direction::To, "after its verdict"),
            (R::UnderlayError, Direction::To, "after its verdict"),
            // Also given while the buffer of a batch is opened.
            (R::NoBuffer, Direction::From, "after its verdict"),
        ] {
            assert_eq!(reason.direction(), direction, "{reason}");
            assert!(
                reason.stage().contains(stage),
                "{reason}: {}",
                reason.stage()
            );
        }
    }
}
