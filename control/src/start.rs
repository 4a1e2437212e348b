//! Assembling: tables, workers and the pods of before, on what was acquired.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use crossbeam_channel::unbounded;
use ringway_kernel::netlink::Watch;
use ringway_kernel::next_hop::NextHops;
use ringway_kernel::rules::Rules;
use ringway_switch::returns::BUCKETS;
use ringway_switch::{Counters, Returns, UdpPorts};
use ringway_tables::{PortId, Publisher, Snapshot};
use ringway_worker::{self as worker, Worker, WorkerConfig};

use super::acquire::{Acquired, settled};
use super::bereft::Bereft;
use super::closing::Closing;
use super::outer::Outer;
use super::path_mtu::PathMtus;
use super::pod_jobs::PodJobs;
use super::probing::Probing;
use super::reload::Reload;
use super::rings::Rings;
use super::sources::Sources;
use super::tables::{Known, Surroundings, accepted};
use super::unreachable::Unreachable;
use super::{Control, desired};
use ringway_config::Config;
use ringway_config::ipam::AddressPool;

impl Control {
    /// Acquires everything in the calling thread's network namespace and assembles it.
    ///
    /// # Errors
    /// See [`Acquired::open`] and [`Control::assemble`].
    pub fn start(config: Config) -> anyhow::Result<Control> {
        let acquired = Acquired::open(&config, Vec::new())?;
        Control::assemble(config, acquired, Sources::default())
    }

    /// Puts tables and workers on what was acquired and finds the pods of before.
    ///
    /// # Errors
    /// What the configuration says contradicts itself, or a thread cannot be made.
    pub fn assemble(
        config: Config,
        acquired: Acquired,
        sources: Sources,
    ) -> anyhow::Result<Control> {
        let Acquired {
            state_dir,
            state,
            unsaved,
            mut netlink,
            underlay,
            cluster,
            plan,
            sockets,
            socket_status,
            mut descriptors,
            node,
            node_queues,
            ledger,
            left,
        } = acquired;
        let config = settled(&config, &underlay, &state);
        let probing = Probing::new(config.underlay.probes);
        let mut tables = Snapshot::default();
        let around = Surroundings {
            config: &config,
            underlay: &underlay,
            known: &|_| Known::default(),
        };
        around.apply(&mut tables, &plan, cluster.state())?;
        tables.accepted = accepted(&config, descriptors.encaps());
        let publisher = Publisher::new(tables);

        // Until the pod networks are known, the most that their pods may get.
        let mtu = match cluster.state().node.cidrs.is_empty() {
            true => u16::try_from(underlay.mtu).unwrap_or(u16::MAX),
            false => underlay.pod_mtu(&config, cluster.state()),
        };
        let returns = Arc::new(Returns::new(BUCKETS, [random(), random()]));
        let (sender, events) = unbounded();
        let mut workers = Vec::new();
        let mut counters = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let cells = Arc::new(Counters::default());
            counters.push(cells.clone());
            let settings = worker_config(&config, index, &returns, mtu);
            let worker =
                Worker::spawn(settings, publisher.reader(), cells, sockets, sender.clone());
            workers.push(worker.with_context(|| format!("worker {index}"))?);
        }
        let link = netlink
            .link(&underlay.interface)
            .context("underlay interface")?;
        let ipam = &config.ipam;
        let mut control = Control {
            rings: Rings::start(&config, &underlay, &link, &workers, &mut descriptors),
            rules: Rules::new(
                desired::rules(&config, cluster.state()),
                config.egress.accept_forward,
            ),
            pools: AddressPool::of_families(
                &cluster.state().node.cidrs,
                &ipam.ranges,
                &ipam.exclude,
            ),
            reload: Reload::new(&config.file),
            config,
            cluster,
            underlay,
            netlink,
            publisher,
            descriptors,
            workers,
            counters,
            events,
            closing: Closing::start().context("thread that closes interfaces")?,
            pod_jobs: PodJobs::new(),
            pods: std::collections::BTreeMap::new(),
            dormant: std::collections::BTreeMap::new(),
            state,
            state_dir,
            unsaved,
            former_macs: std::collections::HashMap::new(),
            cni: Default::default(),
            returns,
            path_mtus: PathMtus::default(),
            unreachable: Unreachable::default(),
            bereft: Bereft::default(),
            probing,
            node,
            ledger,
            left,
            outer: Outer::default(),
            sources,
            told: None,
            health: Arc::default(),
            subnet_env: Default::default(),
            captures: Default::default(),
            interface: link.index,
            changes: Watch::open()?,
            next_hops: NextHops::new(link.index),
            sockets: socket_status,
            attaches: Arc::default(),
            seen: (0, Instant::now()),
            started: Instant::now(),
        };
        control.find_next_hops();
        control.restore();
        control.follow_left(Instant::now());
        control.apply_pending();
        control.await_all_jobs();
        control.hand_to_workers(PortId::NODE, node_queues, None);
        for worker in &control.workers {
            worker.send(worker::Command::Listen);
        }
        control.tell_sources();
        Ok(control)
    }
}

fn worker_config(config: &Config, index: usize, returns: &Arc<Returns>, mtu: u16) -> WorkerConfig {
    WorkerConfig {
        index,
        count: config.workers.count,
        cpu: config.workers.cpus.get(index).copied(),
        polling: config.workers.polling,
        idle_spin_us: config.workers.idle_spin_us,
        ports: tunnel_ports(config),
        returns: returns.clone(),
        largest: usize::from(mtu) + 14,
    }
}

/// UDP ports of tunnels, as workers know them: they do not change in a running agent.
pub(super) fn tunnel_ports(config: &Config) -> UdpPorts {
    UdpPorts {
        vxlan: config.underlay.vxlan_port,
        udp: config.underlay.udp_port,
    }
}

/// A number nobody can guess: the standard library's keys for hash maps come from the kernel.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
