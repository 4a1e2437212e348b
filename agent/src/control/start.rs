//! Starting: node port, sockets, tables, workers, and the pods of before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use crossbeam_channel::unbounded;
use ringway_kernel::before::Before;
use ringway_kernel::netlink::{Netlink, Watch};
use ringway_kernel::next_hop::NextHops;
use ringway_kernel::node::NodePort;
use ringway_kernel::reconcile::Ledger;
use ringway_kernel::rules::Rules;
use ringway_ports::ethtool;
use ringway_ports::socket::{PathMtu, SocketConfig, UdpChecksum, UdpUnderlay, probe};
use ringway_switch::returns::BUCKETS;
use ringway_switch::{Counters, Ports, Returns};
use ringway_tables::{PortId, Publisher};

use super::closing::Closing;
use super::in_hand::InHand;
use super::node_port::Node;
use super::outer::Outer;
use super::path_mtu::PathMtus;
use super::rings::{self, Rings};
use super::{Control, Descriptors, desired, saving, tables};
use crate::api::view::SocketStatus;
use crate::config::{Checksum, Config, EncapKind, Gro};
use crate::ipam::Pool;
use crate::state::StateDir;
use crate::underlay::Underlay;
use ringway_worker::{self as worker, Worker, WorkerConfig};

impl Control {
    /// Sets up everything in the calling thread's network namespace. On an error
    /// nothing but the node port is left behind.
    pub fn start(config: Config) -> anyhow::Result<Control> {
        let state_dir = StateDir::lock(&config.node.state_dir)?;
        let mut state = state_dir.load()?;
        let mut netlink = Netlink::open()?;
        Underlay::await_addresses(&config, &mut netlink);
        let underlay = Underlay::examine(&config, &mut netlink)?;
        for choice in &underlay.choices {
            tracing::info!(
                address = %choice.address,
                passed_over = choice.passed_over.len(),
                "outer address: {}",
                choice.why
            );
        }
        receive_offload(&config, &underlay, &mut state.before);
        let publisher = Publisher::new(tables::first(&config, &underlay)?);
        let mut descriptors = Descriptors::default();
        let mut sockets = Vec::new();
        let mut opened = Vec::new();
        for index in 0..config.workers.count {
            opened.push(open_sockets(
                &config,
                &underlay,
                index,
                &mut descriptors,
                &mut sockets,
            )?);
        }
        let mtu = underlay.pod_mtu(&config);
        let count = config.workers.count;
        let mut ledger = Ledger::default();
        let spec = desired::node_spec(&config, mtu);
        let node_port = NodePort::open(spec, count, &mut state.before, &mut ledger);
        // Also when it failed: what was changed by then is changed.
        let unsaved = state_dir.save(&state).err();
        unsaved.iter().for_each(saving::warn_unsaved);
        let (port, queues) = node_port?;
        let node = Node {
            port,
            outer_mtu: underlay.mtu,
        };
        let rules = Rules::new(desired::rules(&config), config.egress.accept_forward);

        let returns = Arc::new(Returns::new(BUCKETS, [random(), random()]));
        let (sender, events) = unbounded();
        let mut workers = Vec::new();
        let mut counters = Vec::new();
        for (index, underlays) in opened.into_iter().enumerate() {
            let cells = Arc::new(Counters::default());
            counters.push(cells.clone());
            let settings = WorkerConfig {
                index,
                count,
                cpu: config.workers.cpus.get(index).copied(),
                polling: config.workers.polling,
                idle_spin_us: config.workers.idle_spin_us,
                ports: Ports {
                    vxlan: config.underlay.vxlan_port,
                    udp: config.underlay.udp_port,
                },
                returns: returns.clone(),
                largest: usize::from(mtu) + 14,
            };
            let worker = Worker::spawn(
                settings,
                publisher.reader(),
                cells,
                underlays,
                sender.clone(),
            );
            workers.push(worker.with_context(|| format!("worker {index}"))?);
        }
        let link = netlink
            .link(&underlay.interface)
            .context("underlay interface")?;
        let interface = link.index;
        let pools = config
            .node
            .pod_cidrs
            .iter()
            .map(|cidr| Pool::new(*cidr, &config.ipam.ranges, &config.ipam.exclude))
            .collect();
        let mut control = Control {
            rings: Rings::start(&config, &underlay, &link, &workers, &mut descriptors),
            config,
            underlay,
            netlink,
            publisher,
            descriptors,
            workers,
            counters,
            events,
            closing: Closing::start().context("thread that closes interfaces")?,
            in_hand: InHand::new(),
            pods: std::collections::BTreeMap::new(),
            dormant: std::collections::BTreeMap::new(),
            state,
            state_dir,
            unsaved: unsaved.map(|e| e.to_string()),
            pools,
            rules,
            former_macs: std::collections::HashMap::new(),
            cni: Default::default(),
            returns,
            path_mtus: PathMtus::default(),
            node,
            ledger,
            outer: Outer::default(),
            interface,
            changes: Watch::open()?,
            next_hops: NextHops::new(interface),
            sockets,
            started: Instant::now(),
        };
        control.find_next_hops();
        control.restore();
        control.apply_pending();
        control.await_all_in_hand();
        control.hand_to_workers(PortId::NODE, queues, None);
        for worker in &control.workers {
            worker.send(worker::Command::Listen);
        }
        Ok(control)
    }
}

/// A number nobody can guess: the standard library's keys for hash maps come from the kernel.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Has the kernel put received datagrams of a flow together before the socket sees them: nearly twice
/// the throughput where the NIC delivers single packets. A device that cannot is no error.
pub(super) fn receive_offload(config: &Config, underlay: &Underlay, before: &mut Before) {
    if config.underlay.gro == Gro::Keep {
        return;
    }
    // A veth joins what a socket has sent only when told to for whoever comes last.
    let features: &[&str] = if underlay.veth {
        &[ethtool::GRO, ethtool::UDP_GRO_FORWARDING]
    } else {
        &[ethtool::GRO]
    };
    match ethtool::turn_on(&underlay.interface, features) {
        Ok(changed) if changed.is_empty() => {}
        Ok(changed) => {
            before.turned_on(&underlay.interface, &changed);
            tracing::info!(
                interface = underlay.interface,
                "receive offload turned on: {} (underlay.gro = \"keep\" leaves it)",
                changed.join(", ")
            );
        }
        Err(error) => tracing::warn!(
            interface = underlay.interface, %error,
            "receive offload cannot be turned on; throughput may be half of what it could be"
        ),
    }
}

/// Opens a worker's sockets: one for each outer family and encapsulation.
pub(super) fn open_sockets(
    config: &Config,
    underlay: &Underlay,
    worker: usize,
    descriptors: &mut Descriptors,
    status: &mut Vec<SocketStatus>,
) -> anyhow::Result<Vec<worker::UnderlaySocket>> {
    let mut all = Vec::new();
    for address in underlay.addresses() {
        for kind in config.encaps() {
            let v6 = address.is_ipv6();
            let local = SocketAddr::new(address, config.port(kind));
            let socket = SocketConfig {
                reuse_port: config.workers.count > 1,
                checksum: match config.underlay.udp_checksum {
                    Checksum::Auto if config.underlay.dont_fragment => UdpChecksum::Auto,
                    Checksum::Off if !v6 => UdpChecksum::Off,
                    Checksum::Auto | Checksum::On | Checksum::Off => UdpChecksum::On,
                },
                path_mtu: if config.underlay.dont_fragment || v6 {
                    PathMtu::Probe
                } else {
                    PathMtu::Omit
                },
                tx_ports: config.source_ports_of_one(),
                ..SocketConfig::new(local)
            };
            if worker == 0 && socket.reuse_port {
                probe(&socket).context("underlay socket")?;
            }
            let socket = UdpUnderlay::open(&socket).context("underlay socket")?;
            descriptors
                .add_sockets(worker, kind, v6, &socket)
                .context("duplicating underlay sockets")?;
            let granted = socket.granted();
            if worker == 0 {
                status.push(SocketStatus {
                    local: local.to_string(),
                    encap: match kind {
                        EncapKind::Vxlan => format!("vxlan, VNI {}", config.underlay.vni),
                        EncapKind::Udp => "udp".into(),
                    },
                    gso: granted.gso,
                    gro: granted.gro,
                    receive_buffer_bytes: granted.rcvbuf,
                });
                tracing::info!(
                    %local, gso = granted.gso, gro = granted.gro, receive_buffer = granted.rcvbuf,
                    "underlay by UDP socket"
                );
            }
            all.push(worker::UnderlaySocket {
                socket,
                encap: config.encap(kind),
                v6,
                unfinished: rings::unfinished(config, underlay),
            });
        }
    }
    Ok(all)
}
