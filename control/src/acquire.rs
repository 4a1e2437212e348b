//! What the data path runs on, acquired before anything is assembled: the locked state, what the machine says of
//! the underlay, sockets, and the node port's queues.
//!
//! Today all of it is opened. Another process could hand over the same: every descriptor is a value here, and
//! nothing behind it asks where it came from.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use ringway_cluster::{Cluster, Contents, Plan, Source, diff};
use ringway_ports::ethtool;
use ringway_ports::socket::{PathMtu, SocketConfig, UdpChecksum, UdpUnderlay, probe};
use ringway_worker as worker;

use super::node_port::{Node, Pace};
use super::sources::recall;
use super::{Descriptors, SocketDescriptors, desired, rings, saving};
use crate::state::{State, StateDir};
use crate::takeover::{self, Former};
use crate::underlay::Underlay;
use crate::view::SocketStatus;
use ringway_config::{Checksum, Config, EncapKind, Gro};
use ringway_kernel::before::Before;
use ringway_kernel::netlink::Netlink;
use ringway_kernel::node::NodePort;
use ringway_kernel::pod::interface::Queues;
use ringway_kernel::reconcile::Ledger;

/// All of it.
pub struct Acquired {
    pub(super) state_dir: StateDir,
    pub(super) state: State,
    /// Why the state is not on disk, if it is not.
    pub(super) unsaved: Option<String>,
    pub(super) netlink: Netlink,
    pub(super) underlay: Underlay,
    /// What the file says of the cluster, and what other sources knew last.
    pub(super) cluster: Cluster,
    pub(super) plan: Plan,
    /// Sockets of each worker, and what is said of them.
    pub(super) sockets: Vec<Vec<worker::UnderlaySocket>>,
    pub(super) socket_status: Vec<SocketStatus>,
    pub(super) descriptors: Descriptors,
    /// The node port, its queues, and what is wrong with it.
    pub(super) node: Node,
    pub(super) node_queues: Queues,
    pub(super) ledger: Ledger,
    /// Pods of the network before.
    pub(super) left: takeover::Left,
}

impl Acquired {
    /// Opens everything in the calling thread's network namespace. On an error nothing but the node port is left
    /// behind. The lock on the state directory comes first: it keeps a second agent from touching what the first
    /// one has. `saved`: what sources beside the file knew last, which is in force from the beginning.
    ///
    /// # Errors
    /// Another agent is at work, or something of it cannot be had.
    pub fn open(config: &Config, saved: Vec<(Source, Contents)>) -> anyhow::Result<Acquired> {
        let state_dir = StateDir::lock(&config.node.state_dir)?;
        let mut state = state_dir.load()?;
        let mut netlink = Netlink::open()?;
        let former = former(config, &mut netlink, &state_dir, &mut state)?;
        let mut config = config.clone();
        state.takeover.complete(&mut config);
        let config = &config;
        let (mut cluster, _) = config.cluster()?;
        Underlay::await_addresses(config, &mut netlink);
        let mut underlay = Underlay::examine(config, cluster.state(), &mut netlink)?;
        let config = &settled(config, &underlay, &state);
        let any = !saved.is_empty();
        for (source, contents) in saved {
            recall(&mut cluster, (config, &underlay), &source, contents);
        }
        // The peers say which of the node's addresses is the one to take.
        if any && let Ok(better) = Underlay::examine(config, cluster.state(), &mut netlink) {
            underlay = better;
        }
        let wanted = cluster.state();
        let plan = diff(&ringway_cluster::State::default(), wanted);
        for choice in &underlay.choices {
            tracing::info!(
                address = %choice.address,
                passed_over = choice.passed_over.len(),
                "outer address: {}",
                choice.why
            );
        }
        receive_offload(config, &underlay, &mut state.before);
        let mut left = takeover::Left::default();
        let networks = desired::networks(wanted);
        if config.node.takeover {
            let read = takeover::Left::read(&mut netlink, config, &state, &networks);
            read.map_err(anyhow::Error::msg).context("take-over")?;
        }
        // All that may be refused was; from here to our sockets the node has no overlay.
        takeover::remove(&former, &mut netlink).context("take-over")?;
        if config.node.takeover {
            let settled = left.settle(&mut netlink, config, &mut state, &networks);
            settled.map_err(anyhow::Error::msg).context("take-over")?;
        }
        let encaps = wanted.encaps(config.underlay.encap);
        let mut descriptors = Descriptors::default();
        let (mut sockets, mut socket_status) = (Vec::new(), Vec::new());
        for index in 0..config.workers.count {
            let which = (encaps.as_slice(), index);
            let (fds, status) = (&mut descriptors, &mut socket_status);
            sockets.push(open_sockets(config, &underlay, which, fds, status)?);
        }
        let (mtu, count) = (underlay.pod_mtu(config, wanted), config.workers.count);
        let mut ledger = Ledger::default();
        let spec = desired::node_spec(config, wanted, mtu);
        let opened = NodePort::open(spec, count, &mut state.before, &mut ledger);
        // Also when it failed: what was changed by then is changed.
        let unsaved = state_dir.save(&state).err();
        unsaved.iter().for_each(saving::warn_unsaved);
        let (port, node_queues) = opened?;
        let node = Node {
            port,
            outer_mtu: underlay.mtu,
            rules: Pace::default(),
        };
        Ok(Acquired {
            state_dir,
            state,
            unsaved: unsaved.map(|e| e.to_string()),
            netlink,
            underlay,
            cluster,
            plan,
            sockets,
            socket_status,
            descriptors,
            node,
            node_queues,
            ledger,
            left,
        })
    }
}

/// The overlay that is to make way, with its MAC addresses on disk: they are read before it goes. Whoever comes
/// here has a node that is not given back, or is taken again.
fn former(
    config: &Config,
    netlink: &mut Netlink,
    state_dir: &StateDir,
    state: &mut State,
) -> anyhow::Result<Vec<Former>> {
    let mut changed = std::mem::take(&mut state.takeover.given_back);
    let mut former = Vec::new();
    if config.node.takeover {
        former = takeover::former(config, netlink).context("take-over")?;
        changed |= takeover::note(&mut state.takeover, &former);
    }
    if changed {
        let saved = state_dir.save(state);
        saved.context(
            "take-over: the MAC address of Flannel's overlay has to be on disk before it goes",
        )?;
    }
    Ok(former)
}

/// The configuration with the interface that was found: while the agent runs it stays the same one.
pub(super) fn settled(config: &Config, underlay: &Underlay, state: &State) -> Config {
    let mut config = config.clone();
    state.takeover.complete(&mut config);
    config.underlay.interface.clone_from(&underlay.interface);
    config
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

/// Opens a worker's sockets: one for each outer family and encapsulation. `which`: encapsulations, and the
/// worker's number.
pub(super) fn open_sockets(
    config: &Config,
    underlay: &Underlay,
    (encaps, worker): (&[EncapKind], usize),
    descriptors: &mut Descriptors,
    status: &mut Vec<SocketStatus>,
) -> anyhow::Result<Vec<worker::UnderlaySocket>> {
    let mut all = Vec::new();
    for address in underlay.addresses() {
        for kind in encaps.iter().copied() {
            let which = (address, kind, worker);
            all.push(open_socket(config, underlay, which, descriptors, status)?);
        }
    }
    Ok(all)
}

/// Opens one. `which`: its address, its encapsulation, and the worker's number.
pub(super) fn open_socket(
    config: &Config,
    underlay: &Underlay,
    (address, kind, worker): (IpAddr, EncapKind, usize),
    descriptors: &mut Descriptors,
    status: &mut Vec<SocketStatus>,
) -> anyhow::Result<worker::UnderlaySocket> {
    let local = SocketAddr::new(address, config.port(kind));
    let socket = socket_config(config, local);
    if worker == 0 {
        probe(&socket).context("underlay socket")?;
    }
    let socket = UdpUnderlay::open(&socket).context("underlay socket")?;
    descriptors
        .add_sockets(worker, kind, local, &socket)
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
    Ok(of_worker(config, underlay, kind, local, socket))
}

/// The same sockets once more, for another use of a worker's.
pub(super) fn adopt_socket(
    config: &Config,
    underlay: &Underlay,
    open: &SocketDescriptors,
) -> anyhow::Result<worker::UnderlaySocket> {
    let open = open.duplicate().context("duplicating underlay sockets")?;
    let socket = UdpUnderlay::adopt(&socket_config(config, open.local), open.fds)?;
    Ok(of_worker(config, underlay, open.encap, open.local, socket))
}

fn of_worker(
    config: &Config,
    underlay: &Underlay,
    kind: EncapKind,
    local: SocketAddr,
    socket: UdpUnderlay,
) -> worker::UnderlaySocket {
    worker::UnderlaySocket {
        socket,
        encap: config.encap(kind),
        v6: local.is_ipv6(),
        unfinished: rings::unfinished(config, underlay),
    }
}

fn socket_config(config: &Config, local: SocketAddr) -> SocketConfig {
    let v6 = local.is_ipv6();
    SocketConfig {
        workers: config.workers.count as u32,
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
    }
}
