//! Detaching pods, finding them again, losing them; how one is attached is in `attach`.
//!
//! All ways in and out change the same three things (tables, workers' queues, state), in orders that mirror
//! each other.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use ringway_kernel::netns::{Identity, Netns, NetnsError};
use ringway_kernel::pod::interface::{self, InterfaceError, Queues};
use ringway_kernel::pod::queue::Queue;
use ringway_ports::tap::TapError;
use ringway_tables::{PortId, Snapshot};

use super::addresses::pod_addresses;
use super::attach::{egress_of, host_ports, limits};
use super::neighbours::set_node_neighbours;
use super::pod_jobs::Outcome;
use super::relocated::{Places, places, relocated};
use super::{Control, ControlError, Detach, Reply};
use crate::state::PodRecord;
use crate::view;
use ringway_worker::limits::RateLimits;
use ringway_worker::{Command, LaneQueue};

/// How long workers may take to let go of a port: they look at their commands
/// every round, and a worker that hangs ends the process soon after.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A pod that is part of the network now.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) port: PortId,
    pub(super) record: PodRecord,
}

/// A pod whose interface is being taken away.
pub(super) struct Detaching {
    queues: Option<Queues>,
    netns: Identity,
    answer: Reply<Option<String>>,
}

impl Control {
    /// Takes the pod out of the tables, then away. Succeeds for one that is not
    /// there.
    pub(super) fn begin_detach(
        &mut self,
        request: &Detach,
        answer: Reply<Result<view::Detached, ControlError>>,
    ) {
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
            self.bereft.forget(request);
            let name = match request {
                Detach::Name(name) => name.clone(),
                Detach::Interface { netns, ifname } => format!("{}:{ifname}", netns.display()),
            };
            return answer(Ok(view::Detached {
                note: Some(format!("there is no pod {name}; nothing had to be done")),
                name,
                existed: false,
            }));
        };
        let detached = name.clone();
        let answer = move |note| {
            answer(Ok(view::Detached {
                note,
                name: detached,
                existed: true,
            }));
        };
        self.begin_removal(&name, Box::new(answer));
    }

    /// Takes a recorded pod out of tables and workers, and then its interface away and the pod out of the
    /// state; the answer is what is worth knowing. It must not have a job under way.
    pub(super) fn begin_removal(&mut self, name: &str, answer: Reply<Option<String>>) {
        let Some(record) = self.state.pods.get(name).cloned() else {
            return answer(None);
        };
        self.dormant.remove(name);
        let queues = self.unpublish(name);
        let node = self.config.node.interface.clone();
        let (pod, taken) = (name.to_owned(), queues.clone());
        let netns = record.netns_id;
        let detaching = Detaching {
            queues,
            netns,
            answer,
        };
        self.pod_jobs.detaching.insert(pod.clone(), detaching);
        self.pod_jobs.begin(move || {
            let note = match taken {
                Some(queues) => {
                    set_node_neighbours(&node, &record, false);
                    interface::remove(&queues);
                    None
                }
                None => remove_dormant(&record),
            };
            Outcome::Removed(pod, note)
        });
    }

    /// Its interface will vanish with the descriptors.
    pub(super) fn detached(&mut self, name: &str, detaching: Detaching, mut note: Option<String>) {
        self.state.forget(name);
        if let Some(queues) = detaching.queues {
            self.closing.push(queues, detaching.netns);
        }
        if let Err(e) = self.save() {
            // Found to be gone at the next start.
            tracing::error!(pod = name, "detached, but not on disk: {e}");
            note = Some(format!("detached, but the state was not written: {e}"));
        }
        tracing::info!(pod = name, "detached");
        (detaching.answer)(note);
    }

    /// Removes a pod, and returns when that is done.
    pub(super) fn remove(&mut self, name: &str) {
        self.begin_removal(name, Box::new(drop));
        self.await_jobs(|pod_jobs| pod_jobs.has(name));
    }

    /// Opens the pods of the state file again.
    pub(super) fn restore(&mut self) {
        let records = self.state.pods.clone().into_iter().collect();
        self.restore_these(records);
    }

    /// Opens those that could not be served until now: their network may have come.
    pub(super) fn restore_waiting(&mut self) {
        let waiting: Vec<(String, PodRecord)> = std::mem::take(&mut self.dormant)
            .into_keys()
            .filter_map(|name| {
                let record = self.state.pods.get(&name)?.clone();
                Some((name, record))
            })
            .collect();
        if !waiting.is_empty() {
            self.restore_these(waiting);
        }
    }

    fn restore_these(&mut self, records: Vec<(String, PodRecord)>) {
        let before = self.state.pods.len();
        let names: BTreeSet<String> = records.iter().map(|(name, _)| name.clone()).collect();
        let mut found = Vec::with_capacity(records.len());
        let mut waiting = 0;
        // Looked for once, and only if an interface is not where it was made.
        let alias = interface::alias(&self.config.node.state_dir);
        let places = places(alias);
        for (name, record) in records {
            match self.restore_one(&name, &record, &places) {
                Ok((port, queues)) => {
                    tracing::info!(pod = name, "found again");
                    // A record of another version: better without limits than without the pod.
                    let limits = limits(record.bandwidth.as_ref()).unwrap_or_else(|e| {
                        tracing::error!(pod = name, "its bandwidth is not limited any more: {e}");
                        None
                    });
                    repair_queue(&name, &record, limits.as_deref());
                    found.push((port, queues, limits));
                }
                Err(Lost::Gone(why)) => {
                    tracing::info!(pod = name, "dropped: {why}");
                    self.state.forget(&name);
                }
                Err(Lost::Waits(why)) => {
                    waiting += 1;
                    self.dormant.insert(name, why);
                }
                Err(Lost::Dormant(why)) => {
                    tracing::error!(pod = name, "cannot be served: {why}");
                    self.dormant.insert(name, why);
                }
            }
        }
        if waiting > 0 {
            tracing::warn!(
                pods = waiting,
                "{}; recorded pods wait for it",
                self.no_network()
            );
        }
        self.learn_returns();
        // Only now that all are in the tables: what waits in one pod's queue may be for another.
        for (port, queues, limits) in found {
            self.hand_to_workers(port, queues, limits);
        }
        self.restore_host_ports(&names);
        self.correct_node();
        if self.state.pods.len() != before
            && let Err(e) = self.save()
        {
            tracing::error!("dropped pods are still on disk: {e}");
        }
    }

    fn restore_host_ports(&mut self, names: &BTreeSet<String>) {
        let mut all = Vec::new();
        let of_these = self.pods.iter().filter(|(name, _)| names.contains(*name));
        for (name, pod) in of_these {
            let mut ports = Vec::new();
            // One by one: what is refused now may have been taken by an earlier version.
            for mapping in &pod.record.port_mappings {
                match host_ports(std::slice::from_ref(mapping), &pod.record.ips) {
                    Ok(some) => ports.extend(some),
                    Err(e) => tracing::error!(pod = name, "has lost a host port: {e}"),
                }
            }
            if !ports.is_empty() {
                all.push((name.clone(), ports));
            }
        }
        // Those that cannot be served now have their addresses still.
        let live = self.state.pods.values().flat_map(|record| &record.ips);
        let live: Vec<IpAddr> = live.copied().collect();
        self.rules.restore(all, &live);
    }

    /// Puts the pod into the tables; its queues are still to be handed to the workers.
    fn restore_one(
        &mut self,
        name: &str,
        record: &PodRecord,
        places: &Places,
    ) -> Result<(PortId, Queues), Lost> {
        let path = record.netns.display();
        if record.pending {
            let swept = Netns::open(&record.netns)
                .ok()
                .filter(|netns| netns.identity() == record.netns_id)
                .map(|netns| interface::sweep(&netns, &record.ifname));
            return match swept {
                Some(Err(e)) => Err(Lost::Dormant(format!("half made, and not removed: {e}"))),
                _ => Err(Lost::Gone("an agent that was killed was making it".into())),
            };
        }
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
        if self.this_node().cidrs.is_empty() {
            return Err(Lost::Waits(self.no_network().to_string()));
        }
        pod_addresses(self.this_node(), &record.ips).map_err(|e| Lost::Dormant(e.to_string()))?;
        let port = self.free_port().map_err(|e| Lost::Dormant(e.to_string()))?;
        let next = self
            .with_port(port, name, record)
            .map_err(|e| Lost::Dormant(e.to_string()))?;
        let workers = self.config.workers.count;
        let opened = interface::reopen(&netns, &record.ifname, record.multi_queue, workers);
        let queues = match opened {
            // Renamed, moved to another namespace, or gone.
            Err(InterfaceError::Tap(e @ TapError::NotFound { .. })) => {
                relocated(name, record, places, workers).ok_or_else(|| Lost::Gone(e.to_string()))?
            }
            opened => opened.map_err(|e| Lost::Dormant(e.to_string()))?,
        };
        let limit = self.underlay.pod_mtu(&self.config, self.cluster.state());
        if record.mtu > limit {
            tracing::warn!(
                pod = name,
                "its MTU of {} is above {limit}, what the underlay leaves now; \
                 large packets to other nodes are answered with an ICMP error",
                record.mtu
            );
        }
        set_node_neighbours(&self.config.node.interface, record, true);
        self.publish(next);
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
        for name in &gone {
            tracing::info!(pod = name, "its namespace is gone; forgotten");
            self.begin_removal(name, Box::new(drop));
        }
    }

    /// A worker cannot read a port any more: its pod is forgotten, as if it had been detached.
    pub(super) fn port_gone(&mut self, port: PortId, queue: &Arc<OwnedFd>, reason: &str) {
        let queues = self.descriptors.taps.get(&port);
        if !queues.is_some_and(|all| all.all().any(|fd| Arc::ptr_eq(fd, queue))) {
            return;
        }
        let of_port = |(_, pod): &(&String, &Attached)| pod.port == port;
        let Some(name) = self.pods.iter().find(of_port).map(|(n, _)| n.clone()) else {
            if port == PortId::NODE {
                tracing::error!(
                    interface = self.config.node.interface,
                    "the node port is not served any more, it is looked at within a second: {reason}"
                );
            }
            return;
        };
        tracing::warn!(pod = name, "forgotten: {reason}");
        if let Some(pod) = self.pods.get(&name) {
            self.bereft.note(&name, &pod.record, Instant::now());
        }
        self.begin_removal(&name, Box::new(drop));
    }

    /// Takes a pod out of the tables and away from the workers; its queues, if
    /// it was attached, which are the last descriptors then.
    fn unpublish(&mut self, name: &str) -> Option<Queues> {
        let pod = self.pods.remove(name)?;
        self.rules.drop_host_ports(name);
        self.note_macs(&pod.record);
        let mut next = Snapshot::clone(&self.publisher.current());
        next.remove_port(pod.port);
        self.publish(next);
        self.take_from_workers(pod.port)
    }

    /// Takes a port's queues from the workers; they are the last descriptors then.
    pub(super) fn take_from_workers(&mut self, port: PortId) -> Option<Queues> {
        let (sender, done) = unbounded();
        for worker in &self.workers {
            worker.send(Command::RemoveTap {
                port,
                done: sender.clone(),
            });
        }
        drop(sender);
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for _ in &self.workers {
            if done.recv_deadline(deadline).is_err() {
                tracing::error!(port = port.0, "a worker did not release the port in time");
                break;
            }
        }
        self.descriptors.taps.remove(&port)
    }

    /// Gives every worker a queue of the port. With fewer queues than workers,
    /// as on a TAP made when there was one worker, queues are shared for
    /// writing, and each is read by exactly one worker, another for each port.
    pub(super) fn hand_to_workers(
        &mut self,
        port: PortId,
        queues: Queues,
        limits: Option<Arc<RateLimits>>,
    ) {
        let workers = self.workers.len();
        for worker in &self.workers {
            let (queue, read) = share(port, worker.index(), workers, queues.fds.len());
            worker.send(Command::AddTap {
                port,
                queue: queues.fds[queue].clone(),
                lane: queues.lanes.as_ref().map(|lanes| LaneQueue {
                    queue: lanes.fds[queue].clone(),
                    slots: lanes.slots.clone(),
                }),
                read,
                uso: queues.uso,
                limits: limits.clone(),
            });
        }
        self.descriptors.taps.insert(port, queues);
    }

    pub(super) fn pod_view(&self, name: &str, pod: &Attached) -> view::Pod {
        let record = &pod.record;
        let len = |ip: &IpAddr| self.this_node().cidr_of(*ip).map_or(0, |c| c.prefix_len());
        let (from_pod, to_pod, drops) = crate::totals::port_totals(&self.counters, pod.port);
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
                .filter_map(|ip| self.this_node().gateway_of(*ip))
                .collect(),
            mtu: record.mtu,
            queues: self
                .descriptors
                .taps
                .get(&pod.port)
                .map_or(usize::from(record.queues), |q| q.all().count()),
            container_id: record
                .cni
                .as_ref()
                .map(|cni| cni.attachment.container_id.clone()),
            bandwidth: record.bandwidth.map(Into::into),
            port_mappings: record.port_mappings.iter().map(Into::into).collect(),
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
    /// It exists, and the node's pod network is not known yet.
    Waits(String),
}

/// A TAP that an earlier version made loses the packets of a burst, and takes up to 6 MB.
fn repair_queue(name: &str, record: &PodRecord, limits: Option<&RateLimits>) {
    let queue = Queue::of(record.mtu, egress_of(limits));
    let mended = Netns::open(&record.netns)
        .map_err(InterfaceError::from)
        .and_then(|netns| queue.repair(&netns, &record.ifname));
    match mended {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            pod = name,
            "its queue was updated to what this version uses"
        ),
        Err(e) => tracing::warn!(pod = name, "its queue stays as it was: {e}"),
    }
}

/// Which queue a worker writes, and whether it reads it.
fn share(port: PortId, worker: usize, workers: usize, queues: usize) -> (usize, bool) {
    let queue = worker % queues;
    // Of the workers that share the queue (queue, queue + queues, …) one reads.
    let sharers = (workers - queue).div_ceil(queues);
    let reader = queue + (port.0 as usize % sharers) * queues;
    (queue, worker == reader)
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
