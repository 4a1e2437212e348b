//! Attaching, detaching, finding again, and losing pods.
//!
//! One file although it is long: the four ways in and out change the same three
//! things (tables, workers' queues, state) in orders that must mirror each other.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use ringway_packet::addr::from_ip;
use ringway_packet::offload::VNET_HDR_LEN;
use ringway_ports::tap::TapError;
use ringway_tables::{Port, PortId, PortKind, Snapshot, Target};

use super::Control;
use super::tables::{as_v4, as_v6};
use crate::api::view;
use crate::api::{ApiError, Attach, Detach};
use crate::config::{Config, gateway};
use crate::mac;
use crate::netns::{Identity, Netns, NetnsError};
use crate::pod::interface::{self, InterfaceError, PodAddress, Queues, Spec};
use crate::state::PodRecord;
use crate::worker::Command;

/// How long workers may take to let go of a port: they look at their commands
/// every round, and a worker that hangs ends the process soon after.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A pod that is part of the network now.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) port: PortId,
    pub(super) record: PodRecord,
}

impl Control {
    /// Makes the pod's interface and puts it into the tables, or leaves nothing.
    pub(super) fn attach(&mut self, request: &Attach) -> Result<view::Pod, ApiError> {
        let name = &request.name;
        if let Some(record) = self.state.pods.get(name) {
            return Err(ApiError::conflict(
                format!(
                    "pod {name} is attached already, in {} as {}",
                    record.netns.display(),
                    record.ifname
                ),
                "detach it first, or give another name",
            ));
        }
        let addresses = pod_addresses(&self.config, &request.ips)?;
        let netns = Netns::open(&request.netns)
            .and_then(Netns::not_own)
            .map_err(|e| of_interface(e.into()))?;
        let port = self.publisher.current().free_port();
        let limit = self.underlay.pod_mtu(&self.config);
        let mtu = request.mtu.unwrap_or(limit);
        if mtu > limit {
            return Err(ApiError::bad_request(
                format!("mtu {mtu} is above {limit}, which is what the underlay leaves"),
                "leave mtu out, or raise the underlay's",
            ));
        }
        let mac = request.mac.unwrap_or_else(|| mac::derived(addresses[0].ip));
        let queues = self.config.workers.count;
        let record = PodRecord {
            netns: request.netns.clone(),
            netns_id: netns.identity(),
            ifname: request.ifname.clone(),
            mac,
            ips: request.ips.clone(),
            mtu,
            multi_queue: queues > 1,
            queues: queues as u16,
            vnet_header_len: VNET_HDR_LEN,
        };
        // Before anything is made: addresses or a MAC that somebody has.
        let next = self.with_port(port, name, &record)?;
        self.not_dormant(&record)?;
        let making = interface::create(
            &mut self.netlink,
            &netns,
            &Spec {
                port: port.0,
                ifname: &request.ifname,
                mac,
                mtu,
                addresses: &addresses,
                queues,
            },
        )
        .map_err(of_interface)?;
        // Recorded before it is answered: after a crash it is found again.
        self.state.pods.insert(name.clone(), record.clone());
        if let Err(e) = self.state_dir.save(&self.state) {
            self.state.pods.remove(name);
            return Err(ApiError::internal(
                format!("pod {name} was not attached: {e}"),
                "make room on, or repair, the file system of node.state_dir",
            ));
        }
        let attached = Attached { port, record };
        let view = self.pod_view(name, &attached);
        for counters in &self.counters {
            counters.port(port).reset();
        }
        // The tables first: what the pod says as soon as it is read must not be a stranger's.
        self.publisher.publish(next);
        self.hand_to_workers(port, making.queues());
        making.keep();
        self.pods.insert(name.clone(), attached);
        Ok(view)
    }

    /// Takes the pod out of the tables, then away. Succeeds for one that is not
    /// there.
    pub(super) fn detach(&mut self, request: &Detach) -> Result<view::Detached, ApiError> {
        let name = match request {
            Detach::Name(name) => Some(name.clone()).filter(|n| self.state.pods.contains_key(n)),
            Detach::Interface { netns, ifname } => self
                .state
                .pods
                .iter()
                .find(|(_, r)| r.netns == *netns && r.ifname == *ifname)
                .map(|(name, _)| name.clone()),
        };
        let Some(name) = name else {
            let name = match request {
                Detach::Name(name) => name.clone(),
                Detach::Interface { netns, ifname } => format!("{}:{ifname}", netns.display()),
            };
            return Ok(view::Detached {
                note: Some(format!("there is no pod {name}; nothing had to be done")),
                name,
                existed: false,
            });
        };
        let mut note = None;
        if let Some(queues) = self.unpublish(&name) {
            interface::remove(&queues);
        } else if let Some(record) = self.state.pods.get(&name) {
            note = remove_dormant(record);
        }
        self.state.pods.remove(&name);
        if let Err(e) = self.state_dir.save(&self.state) {
            // Found to be gone at the next start.
            tracing::error!(pod = name, "detached, but not on disk: {e}");
            note = Some(format!("detached, but the state was not written: {e}"));
        }
        tracing::info!(pod = name, "detached");
        Ok(view::Detached {
            name,
            existed: true,
            note,
        })
    }

    /// Opens the pods of the state file again.
    pub(super) fn restore(&mut self) {
        let records: Vec<(String, PodRecord)> = self.state.pods.clone().into_iter().collect();
        let before = records.len();
        let mut found = Vec::with_capacity(before);
        for (name, record) in records {
            match self.restore_one(&name, &record) {
                Ok(queues) => {
                    tracing::info!(pod = name, "found again");
                    found.push(queues);
                }
                Err(Lost::Gone(why)) => {
                    tracing::info!(pod = name, "dropped: {why}");
                    self.state.pods.remove(&name);
                }
                Err(Lost::Dormant(why)) => {
                    tracing::error!(pod = name, "cannot be served: {why}");
                }
            }
        }
        // Only now that all are in the tables: what waits in one pod's queue may be for another.
        for (port, queues) in found {
            self.hand_to_workers(port, queues);
        }
        if self.state.pods.len() != before
            && let Err(e) = self.state_dir.save(&self.state)
        {
            tracing::error!("dropped pods are still on disk: {e}");
        }
    }

    /// Puts the pod into the tables; its queues are still to be handed to the workers.
    fn restore_one(&mut self, name: &str, record: &PodRecord) -> Result<(PortId, Queues), Lost> {
        let path = record.netns.display();
        let netns = match Netns::open(&record.netns) {
            Ok(netns) if netns.identity() == record.netns_id => netns,
            Ok(_) => return Err(Lost::Gone(format!("{path} is another namespace now"))),
            Err(NetnsError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Lost::Gone(format!("its namespace {path} is gone")));
            }
            // `ip netns` leaves an empty file when it is interrupted.
            Err(e @ NetnsError::NotNetns { .. }) => return Err(Lost::Gone(e.to_string())),
            Err(e) => return Err(Lost::Dormant(e.to_string())),
        };
        pod_addresses(&self.config, &record.ips).map_err(|e| Lost::Dormant(e.error))?;
        let port = self.publisher.current().free_port();
        let next = self
            .with_port(port, name, record)
            .map_err(|e| Lost::Dormant(e.error))?;
        let workers = self.config.workers.count;
        let queues = if record.multi_queue { workers } else { 1 };
        let queues = match interface::reopen(&netns, &record.ifname, record.multi_queue, queues) {
            Ok(queues) => queues,
            Err(InterfaceError::Tap(e @ TapError::NotFound { .. })) => {
                return Err(Lost::Gone(e.to_string()));
            }
            Err(e) => return Err(Lost::Dormant(e.to_string())),
        };
        let limit = self.underlay.pod_mtu(&self.config);
        if record.mtu > limit {
            tracing::warn!(
                pod = name,
                "its MTU of {} is above {limit}, what the underlay leaves now; \
                 large packets to other nodes are answered with an ICMP error",
                record.mtu
            );
        }
        self.publisher.publish(next);
        let record = record.clone();
        self.pods.insert(name.to_owned(), Attached { port, record });
        Ok((port, queues))
    }

    /// Forgets pods whose namespace is gone, and closes their descriptors, which
    /// would keep it alive.
    pub(super) fn drop_vanished(&mut self) {
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| match Identity::of_path(&pod.record.netns) {
                Ok(now) => now != pod.record.netns_id,
                Err(e) => e.kind() == io::ErrorKind::NotFound,
            })
            .map(|(name, _)| name.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        for name in &gone {
            if let Some(queues) = self.unpublish(name) {
                interface::remove(&queues);
            }
            self.state.pods.remove(name);
            tracing::info!(pod = name, "its namespace is gone; forgotten");
        }
        if let Err(e) = self.state_dir.save(&self.state) {
            tracing::error!("vanished pods are still on disk: {e}");
        }
    }

    /// A worker cannot read a port any more: its pod is forgotten, as if it had been detached.
    pub(super) fn port_gone(&mut self, port: PortId, queue: &Arc<OwnedFd>, reason: &str) {
        let queues = self.descriptors.taps.get(&port);
        if !queues.is_some_and(|all| all.fds.iter().any(|fd| Arc::ptr_eq(fd, queue))) {
            return;
        }
        let of_port = |(_, pod): &(&String, &Attached)| pod.port == port;
        let Some(name) = self.pods.iter().find(of_port).map(|(n, _)| n.clone()) else {
            if port == PortId::NODE {
                tracing::error!(
                    interface = self.config.node.interface,
                    "the node port is not served any more, restart the agent: {reason}"
                );
            }
            return;
        };
        self.unpublish(&name);
        self.state.pods.remove(&name);
        tracing::warn!(pod = name, "forgotten: {reason}");
        if let Err(e) = self.state_dir.save(&self.state) {
            tracing::error!(pod = name, "forgotten, but not on disk: {e}");
        }
    }

    /// Takes a pod out of the tables and away from the workers; its queues, if
    /// it was attached, which are the last descriptors then.
    fn unpublish(&mut self, name: &str) -> Option<Queues> {
        let pod = self.pods.remove(name)?;
        let mut next = Snapshot::clone(&self.publisher.current());
        next.remove_port(pod.port);
        self.publisher.publish(next);
        let (sender, done) = unbounded();
        for worker in &self.workers {
            worker.send(Command::RemoveTap {
                port: pod.port,
                done: sender.clone(),
            });
        }
        drop(sender);
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for _ in &self.workers {
            if done.recv_deadline(deadline).is_err() {
                tracing::error!(pod = name, "a worker did not let go of the port in time");
                break;
            }
        }
        self.descriptors.taps.remove(&pod.port)
    }

    /// Gives every worker a queue of the port. With fewer queues than workers,
    /// as on a TAP made when there was one worker, queues are shared for
    /// writing, and each is read by exactly one worker, another for each port.
    pub(super) fn hand_to_workers(&mut self, port: PortId, queues: Queues) {
        let workers = self.workers.len();
        for worker in &self.workers {
            let (queue, read) = share(port, worker.index(), workers, queues.fds.len());
            worker.send(Command::AddTap {
                port,
                queue: queues.fds[queue].clone(),
                read,
                uso: queues.uso,
                limits: None,
            });
        }
        self.descriptors.taps.insert(port, queues);
    }

    /// The tables with one more pod; refused when somebody has its addresses.
    fn with_port(
        &self,
        port: PortId,
        name: &str,
        record: &PodRecord,
    ) -> Result<Snapshot, ApiError> {
        let mut next = Snapshot::clone(&self.publisher.current());
        // Addresses before the MAC, which mostly follows from them: whoever asks
        // for a taken address has not heard of the MAC.
        for ip in &record.ips {
            if let Some(Target::Port(holder)) = next.route(from_ip(*ip))
                && let Some(holder) = next.port(holder)
            {
                return Err(ApiError::conflict(
                    format!(
                        "address {ip} of {name} already belongs to pod {}",
                        holder.name
                    ),
                    format!("choose another, or detach {}", holder.name),
                ));
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
        next.add_port(port, entry).map_err(|e| {
            ApiError::conflict(e.to_string(), "choose another, or detach who has it")
        })?;
        Ok(next)
    }

    /// Pods that are recorded but cannot be served keep their addresses.
    fn not_dormant(&self, record: &PodRecord) -> Result<(), ApiError> {
        let dormant = |name: &&String| !self.pods.contains_key(*name);
        for name in self.state.pods.keys().filter(dormant) {
            let other = &self.state.pods[name];
            if let Some(ip) = record.ips.iter().find(|ip| other.ips.contains(ip)) {
                return Err(ApiError::conflict(
                    format!("address {ip} already belongs to pod {name}, which cannot be served"),
                    format!("choose another, or detach {name}"),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn pod_view(&self, name: &str, pod: &Attached) -> view::Pod {
        let record = &pod.record;
        let len = |ip: &IpAddr| {
            self.config
                .pod_cidr(ip.is_ipv6())
                .map_or(0, |c| c.prefix_len())
        };
        let (from_pod, to_pod, drops) = crate::api::port_totals(&self.counters, pod.port);
        view::Pod {
            name: name.to_owned(),
            port: pod.port.0,
            netns: record.netns.display().to_string(),
            ifname: record.ifname.clone(),
            mac: record.mac.to_string(),
            ips: record
                .ips
                .iter()
                .map(|ip| format!("{ip}/{}", len(ip)))
                .collect(),
            gateways: record
                .ips
                .iter()
                .filter_map(|ip| self.config.pod_cidr(ip.is_ipv6()).map(gateway))
                .collect(),
            mtu: record.mtu,
            queues: self
                .descriptors
                .taps
                .get(&pod.port)
                .map_or(usize::from(record.queues), |q| q.fds.len()),
            from_pod,
            to_pod,
            drops,
        }
    }
}

/// Why a recorded pod is not served.
enum Lost {
    /// It no longer exists.
    Gone(String),
    /// It exists, but something is in the way; it stays recorded.
    Dormant(String),
}

/// Which queue a worker writes, and whether it reads it.
fn share(port: PortId, worker: usize, workers: usize, queues: usize) -> (usize, bool) {
    let queue = worker % queues;
    // Of the workers that share the queue (queue, queue + queues, …) one reads.
    let sharers = (workers - queue).div_ceil(queues);
    let reader = queue + (port.0 as usize % sharers) * queues;
    (queue, worker == reader)
}

/// The addresses with prefix length and gateway; refused outside the node's
/// pod networks, and for addresses no pod can have.
fn pod_addresses(config: &Config, ips: &[IpAddr]) -> Result<Vec<PodAddress>, ApiError> {
    let mut addresses = Vec::new();
    for ip in ips {
        let inside = config
            .pod_cidr(ip.is_ipv6())
            .filter(|c| c.contains(from_ip(*ip)));
        let Some(cidr) = inside else {
            let known: Vec<String> = config
                .node
                .pod_cidrs
                .iter()
                .map(|c| c.to_string())
                .collect();
            return Err(ApiError::bad_request(
                format!(
                    "{ip} is outside this node's pod networks ({})",
                    known.join(", ")
                ),
                "choose an address inside",
            ));
        };
        let gateway = gateway(cidr);
        let what = if *ip == gateway {
            Some("the gateway's address")
        } else if *ip == cidr.network() {
            Some("the address of the network itself")
        } else if ip.is_ipv4() && from_ip(*ip) == cidr.last() {
            Some("the broadcast address")
        } else {
            None
        };
        if let Some(what) = what {
            return Err(ApiError::bad_request(
                format!("{ip} is {what} of {cidr}"),
                "choose another address inside",
            ));
        }
        addresses.push(PodAddress {
            ip: *ip,
            prefix_len: cidr.prefix_len(),
            gateway,
        });
    }
    Ok(addresses)
}

/// Removes the interface of a pod that is recorded but not served.
fn remove_dormant(record: &PodRecord) -> Option<String> {
    let result = Netns::open(&record.netns)
        .map_err(InterfaceError::from)
        .and_then(|netns| interface::reopen(&netns, &record.ifname, record.multi_queue, 1));
    match result {
        Ok(queues) => {
            interface::remove(&queues);
            None
        }
        Err(e) => Some(format!("its interface was not removed: {e}")),
    }
}

/// The answer for a failed interface.
fn of_interface(error: InterfaceError) -> ApiError {
    let text = error.to_string();
    match error {
        InterfaceError::NameTaken { .. } => ApiError::conflict(
            text,
            "detach the pod that has it, delete the interface, or use another ifname",
        ),
        InterfaceError::Netns(NetnsError::Open { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            ApiError::new(
                404,
                text,
                "create the namespace first; `ip netns` lists those with a name",
            )
        }
        InterfaceError::Netns(
            NetnsError::NotNetns { .. } | NetnsError::Own { .. } | NetnsError::Name { .. },
        ) => ApiError::bad_request(
            text,
            "give a name that `ip netns` lists, or a path such as /proc/<pid>/ns/net",
        ),
        _ => ApiError::internal(text, "see the agent's log; nothing was left behind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_read_once_and_every_worker_writes() {
        for workers in 1..9 {
            for queues in 1..=workers {
                for port in 0..20 {
                    let mut readers = vec![0; queues];
                    for worker in 0..workers {
                        let (queue, read) = share(PortId(port), worker, workers, queues);
                        readers[queue] += usize::from(read);
                    }
                    assert_eq!(readers, vec![1; queues], "{workers} {queues} {port}");
                }
            }
        }
    }

    #[test]
    fn single_queues_are_spread_over_the_workers() {
        let readers: Vec<usize> = (1..5)
            .map(|port| (0..4).find(|w| share(PortId(port), *w, 4, 1).1).unwrap())
            .collect();
        assert_eq!(readers, [1, 2, 3, 0]);
    }

    #[test]
    fn more_queues_than_workers_never_happens_but_does_not_panic() {
        assert_eq!(share(PortId(1), 0, 1, 4), (0, true));
    }
}
