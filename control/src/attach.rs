//! How a pod is attached, whoever asks for it.
//!
//! ```text
//! tables with the pod, not published ─ recorded as pending ─┐                ┌─ recorded ─ published ─ workers
//!                                            (`pod_jobs`)   └ interface made ┘
//! ```
//!
//! All that can be refused is refused before anything is made; a failure half way takes back what was made.
//! Forwarding is on only with the publication, when everything else is in place.
//!
//! A second ADD for the same container is refused while the first stands, and takes its place when the
//! namespace is another. A second interface in one namespace is refused: both would be of one subnet with
//! one gateway.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ringway_cni::api::{Bandwidth, PortMapping};
use ringway_kernel::mac;
use ringway_kernel::netns::{Identity, Netns};
use ringway_kernel::pod::interface::{self, InterfaceError, Making, PodAddress, PodRoute, Spec};
use ringway_kernel::pod::queue::Queue;
use ringway_kernel::rules::{self, HostPort, Mapping, PortError, RulesError};
use ringway_packet::addr::from_ip;
use ringway_packet::mac::MacAddr;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::tap::LANES;
use ringway_tables::{Port, PortId, PortKind, Snapshot, Target};

use super::addresses::pod_addresses;
use super::neighbours::set_node_neighbours;
use super::pod_jobs::Outcome;
use super::pods::Attached;
use super::tables::{as_v4, as_v6};
use super::{Attach, Control, ControlError, Reply, closing};
use crate::state::{CniRecord, PodRecord};
use crate::view;
use ringway_worker::limits::{LimitError, Rate, RateLimits};

/// What was found out before anything is made.
type Prepared = (Netns, Vec<PodAddress>, PodRecord, Option<Arc<RateLimits>>);

/// A pod to be attached; its addresses are settled.
#[derive(Clone, Debug, Default)]
pub(super) struct NewPod {
    pub(super) name: String,
    pub(super) netns: PathBuf,
    pub(super) ifname: String,
    pub(super) ips: Vec<IpAddr>,
    /// Those of `ips` that were chosen here.
    pub(super) chosen: Vec<IpAddr>,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: Option<u16>,
    pub(super) routes: Vec<PodRoute>,
    pub(super) cni: Option<CniRecord>,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) port_mappings: Vec<PortMapping>,
}

/// A pod whose interface is being made.
pub(super) struct Attaching {
    record: PodRecord,
    limits: Option<Arc<RateLimits>>,
    chosen: Vec<IpAddr>,
    answer: Reply<Result<view::Pod, ControlError>>,
    _closing: closing::Attach,
}

impl Control {
    /// Attaches what a person or a program asked for.
    pub(super) fn begin_attach(
        &mut self,
        request: &Attach,
        answer: Reply<Result<view::Pod, ControlError>>,
    ) {
        let new = NewPod {
            name: request.name.clone(),
            netns: request.netns.clone(),
            ifname: request.ifname.clone(),
            ips: request.ips.clone(),
            mac: request.mac,
            mtu: request.mtu,
            ..NewPod::default()
        };
        self.attach_pod(new, answer);
    }

    /// Makes the pod's interface and puts it into the tables, or leaves nothing.
    pub(super) fn attach_pod(
        &mut self,
        new: NewPod,
        answer: Reply<Result<view::Pod, ControlError>>,
    ) {
        if let Err(e) = self.may_attach() {
            return answer(Err(e));
        }
        let closing = self.closing.attaching();
        let (netns, addresses, record, limits) = match self.prepare(&new) {
            Ok(prepared) => prepared,
            Err(e) => return answer(Err(e)),
        };
        let NewPod {
            name,
            routes,
            chosen,
            ..
        } = new;
        let node = self.config.node.interface.clone();
        let alias = interface::alias(&self.config.node.state_dir);
        let workers = self.config.workers.count;
        let queue = Queue::of(record.mtu, egress_of(limits.as_deref()));
        let attaching = Attaching {
            record: record.clone(),
            limits,
            chosen,
            answer,
            _closing: closing,
        };
        self.pod_jobs.attaching.insert(name.clone(), attaching);
        self.pod_jobs.begin(move || {
            let made = interface::create(
                &netns,
                &Spec {
                    ifname: &record.ifname,
                    alias: &alias,
                    mac: record.mac,
                    mtu: record.mtu,
                    addresses: &addresses,
                    routes: &routes,
                    workers,
                    queue,
                },
            );
            if made.is_ok() {
                set_node_neighbours(&node, &record, true);
            }
            Outcome::Made(name, made)
        });
    }

    /// Refuses what can be refused, and records the pod as pending.
    fn prepare(&mut self, new: &NewPod) -> Result<Prepared, ControlError> {
        let name = &new.name;
        if let Some(record) = self.state.pods.get(name) {
            return Err(ControlError::Attached {
                pod: name.clone(),
                netns: record.netns.display().to_string(),
                ifname: record.ifname.clone(),
            });
        }
        if self.this_node().cidrs.is_empty() {
            return Err(self.no_network());
        }
        let addresses = pod_addresses(self.this_node(), &new.ips)?;
        let none = || ControlError::NoAddress { pod: name.clone() };
        let first = addresses.first().ok_or_else(none)?;
        let netns = Netns::open(&new.netns)
            .and_then(Netns::not_own)
            .map_err(InterfaceError::from)?;
        self.first_in(netns.identity(), &new.ifname)?;
        let limit = self.underlay.pod_mtu(&self.config, self.cluster.state());
        let mtu = new.mtu.unwrap_or(limit);
        if mtu > limit {
            return Err(ControlError::Mtu { mtu, limit });
        }
        let mac = new.mac.unwrap_or_else(|| mac::derived(first.ip));
        let host_ports = host_ports(&new.port_mappings, &new.ips)?;
        without_listeners(name, &host_ports)?;
        let limits = limits(new.bandwidth.as_ref())?;
        let workers = self.config.workers.count;
        let record = PodRecord {
            netns: new.netns.clone(),
            netns_id: netns.identity(),
            ifname: new.ifname.clone(),
            mac,
            ips: new.ips.clone(),
            mtu,
            multi_queue: true,
            queues: (LANES * workers) as u16,
            vnet_header_len: VNET_HDR_LEN,
            pending: true,
            cni: new.cni.clone(),
            bandwidth: new.bandwidth,
            port_mappings: new.port_mappings.clone(),
        };
        // Before anything is made: addresses or a MAC that somebody has.
        self.with_port(self.free_port()?, name, &record)?;
        self.not_dormant(&record)?;
        let is_there = || interface::exists(&netns, &new.ifname);
        self.closing.clear(netns.identity(), is_there)?;
        // What is swept away after a crash must be ours.
        if interface::exists(&netns, &new.ifname)? {
            let taken = InterfaceError::NameTaken {
                netns: new.netns.display().to_string(),
                ifname: new.ifname.clone(),
            };
            return Err(taken.into());
        }
        // Before the interface: another pod may have one of them.
        self.rules.set_host_ports(name, host_ports)?;
        self.want_localnet();
        if let Err(e) = self.record(name, &record) {
            self.rules.drop_host_ports(name);
            return Err(e);
        }
        Ok((netns, addresses, record, limits))
    }

    /// Its interface is made, or cannot be.
    pub(super) fn attached(
        &mut self,
        name: &str,
        attaching: Attaching,
        made: Result<Making, InterfaceError>,
    ) {
        let Attaching {
            mut record,
            limits,
            chosen,
            answer,
            ..
        } = attaching;
        record.pending = false;
        let told = made.is_ok();
        let ready = made.map_err(ControlError::from).and_then(|making| {
            let port = self.free_port()?;
            // Another may have got the MAC address meanwhile.
            let next = self.with_port(port, name, &record)?;
            self.record(name, &record)?;
            Ok((making, port, next))
        });
        let (making, port, next) = match ready {
            Ok(ready) => ready,
            Err(e) => {
                self.rules.drop_host_ports(name);
                if told {
                    set_node_neighbours(&self.config.node.interface, &record, false);
                }
                // Its addresses were never heard of: their order stays as it was.
                self.state.pods.remove(name);
                if let Err(e) = self.save() {
                    tracing::error!(
                        pod = name,
                        "not attached, but still on disk as pending: {e}"
                    );
                }
                return answer(Err(e));
            }
        };
        let (moved, mac) = (self.other_mac_before(&record), record.mac);
        for ip in &record.ips {
            let chosen = chosen.contains(ip);
            self.state.ipam.of_mut(ip.is_ipv6()).given(*ip, chosen);
        }
        let attached = Attached { port, record };
        // Until the workers have its queues, the port's counters are those of the pod before.
        let view = view::Pod {
            from_pod: view::Traffic::default(),
            to_pod: view::Traffic::default(),
            drops: Vec::new(),
            ..self.pod_view(name, &attached)
        };
        // The tables first: what the pod says as soon as it is read must not be a stranger's.
        self.publish(next);
        self.hand_to_workers(port, making.queues(), limits);
        if !moved.is_empty() {
            self.announce(port, moved, mac);
        }
        self.announce_on_bridge(&attached.record.ips);
        making.keep();
        self.pods.insert(name.to_owned(), attached);
        answer(Ok(view));
    }

    /// Writes a pod down.
    fn record(&mut self, name: &str, record: &PodRecord) -> Result<(), ControlError> {
        self.state.pods.insert(name.to_owned(), record.clone());
        self.save().map_err(|e| {
            self.state.pods.remove(name);
            ControlError::Unsaved {
                what: format!("pod {name} was not attached: {e}"),
            }
        })
    }

    /// The tables with one more pod; refused when somebody has its addresses.
    pub(super) fn with_port(
        &self,
        port: PortId,
        name: &str,
        record: &PodRecord,
    ) -> Result<Snapshot, ControlError> {
        let mut next = Snapshot::clone(&self.publisher.current());
        // Addresses before the MAC, which mostly follows from them: whoever asks
        // for a taken address has not heard of the MAC.
        for ip in &record.ips {
            if let Some(container) = self.left.holder(*ip) {
                return Err(ControlError::AddressKept {
                    ip: *ip,
                    holder: container.to_owned(),
                    why: "is still on the bridge of the network before",
                });
            }
            if let Some(Target::Port(holder)) = next.route(from_ip(*ip))
                && let Some(holder) = next.port(holder)
            {
                return Err(ControlError::AddressTaken {
                    ip: *ip,
                    pod: name.to_owned(),
                    holder: holder.name.to_string(),
                });
            }
        }
        let entry = Port {
            kind: PortKind::Pod,
            mac: record.mac,
            ip4: record.ips.iter().copied().find_map(as_v4),
            ip6: record.ips.iter().copied().find_map(as_v6),
            mtu: record.mtu,
            name: Arc::from(name),
        };
        next.add_port(port, entry)?;
        Ok(next)
    }

    /// A number for another pod.
    pub(super) fn free_port(&self) -> Result<PortId, ControlError> {
        Ok(self.publisher.current().free_port()?)
    }

    /// Refuses a second interface in one namespace: both would be of the same subnet with the same gateway,
    /// and what the pod says under one's address would leave by the other.
    fn first_in(&self, netns: Identity, ifname: &str) -> Result<(), ControlError> {
        let same = |record: &PodRecord| record.netns_id == netns && record.ifname != ifname;
        let attached = self.pods.iter().map(|(name, pod)| (name, &pod.record));
        let attaching = self.pod_jobs.attaching.iter();
        let attaching = attaching.map(|(name, pod)| (name, &pod.record));
        match attached.chain(attaching).find(|(_, record)| same(record)) {
            None => Ok(()),
            Some((name, record)) => Err(ControlError::SecondInterface {
                other: record.ifname.clone(),
                pod: name.clone(),
                ifname: ifname.to_owned(),
            }),
        }
    }

    /// Pods that are recorded but cannot be served, or have a job under way, keep their addresses.
    fn not_dormant(&self, record: &PodRecord) -> Result<(), ControlError> {
        let dormant = |name: &&String| !self.pods.contains_key(*name);
        for name in self.state.pods.keys().filter(dormant) {
            let other = &self.state.pods[name];
            if let Some(ip) = record.ips.iter().find(|ip| other.ips.contains(ip)) {
                let why = if self.pod_jobs.has(name) {
                    "is being attached or detached"
                } else {
                    "cannot be served"
                };
                return Err(ControlError::AddressKept {
                    ip: *ip,
                    holder: name.clone(),
                    why,
                });
            }
        }
        Ok(())
    }
}

/// What a pod may send at most, in bytes per second.
pub(super) fn egress_of(limits: Option<&RateLimits>) -> Option<u64> {
    let egress = limits.and_then(|limits| limits.egress.as_ref());
    egress.map(|limit| limit.bucket.rate())
}

/// Limits of a pod; `None` if nothing is limited.
pub(super) fn limits(asked: Option<&Bandwidth>) -> Result<Option<Arc<RateLimits>>, LimitError> {
    let Some(asked) = asked else { return Ok(None) };
    let rate = |rate, burst| Rate { rate, burst };
    let limits = RateLimits::new(
        rate(asked.ingress_rate, asked.ingress_burst),
        rate(asked.egress_rate, asked.egress_burst),
    )?;
    Ok((!limits.is_none()).then(|| Arc::new(limits)))
}

/// Refuses host ports on which a process of the node listens.
fn without_listeners(pod: &str, ports: &[HostPort]) -> Result<(), ControlError> {
    let Some(found) = rules::listener(ports) else {
        return Ok(());
    };
    let (port, protocol) = (found.port, found.protocol);
    if found.holds {
        tracing::warn!(
            pod,
            "host port {port}/{protocol} is held by {}, and leads to the pod",
            found.who
        );
        return Ok(());
    }
    let who = found.who;
    let refused = PortError::Listener {
        port,
        protocol,
        who,
    };
    Err(RulesError::from(refused).into())
}

/// What a runtime's port mappings mean for a pod with these addresses.
pub(super) fn host_ports(
    mappings: &[PortMapping],
    ips: &[IpAddr],
) -> Result<Vec<HostPort>, ControlError> {
    let mut all = Vec::new();
    for mapping in mappings {
        let asked = Mapping {
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            protocol: &mapping.protocol,
            host_ip: &mapping.host_ip,
        };
        let some = HostPort::of(asked, ips).map_err(RulesError::from)?;
        if some.is_empty() {
            tracing::warn!(
                "host port {} at {} is left out: the pod has no address of that family",
                mapping.host_port,
                mapping.host_ip
            );
        }
        all.extend(some);
    }
    Ok(all)
}
