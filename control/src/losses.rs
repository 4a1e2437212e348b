//! What the kernel loses before the switch sees it, or after: counters of its own, read when somebody asks.
//!
//! ```text
//!   pod ▶ TAP's queue ▶ switch ▶ socket or ring ▶ NIC ▶ wire
//!         tap_tx_dropped          │               nic_tx_dropped, nic_tx_errors
//!   pod ◀ its stack ◀── switch ◀──┴ receive buffer, rings ◀ NIC ◀ wire
//!         tap_rx_dropped            socket_dropped,        nic_rx_*
//!         softnet_dropped           ring_*
//! ```
//!
//! No worker reads them. A pod's interface is in the pod's namespace: a thread goes there for each (some 60 µs), so
//! this is not for the control thread. They count since the interface was made or the machine started, not
//! since the agent did.

use std::path::Path;

use ringway_kernel::netlink::{LinkLosses, Netlink};
use ringway_kernel::netns::{Netns, run_in};

use crate::View;
use crate::view::{KernelLoss, Pod};

/// A counter of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelCounter {
    /// `snake_case`, stable.
    pub name: &'static str,
    /// What it counts.
    pub cause: &'static str,
    /// What an operator does about it.
    pub remedy: &'static str,
    /// Where it is read.
    pub source: &'static str,
    /// What leads to it, by way of example.
    pub example: &'static str,
}

macro_rules! counters {
    ($($name:ident = $text:literal, $cause:literal, $remedy:literal, $source:literal, $example:literal;)*) => {
        $(const $name: KernelCounter = KernelCounter {
            name: $text, cause: $cause, remedy: $remedy, source: $source, example: $example,
        };)*

        /// Every one, on the way from a pod to the wire and back.
        pub const ALL: &[KernelCounter] = &[$($name),*];
    };
}

counters! {
    TAP_TX_DROPPED = "tap_tx_dropped", "A pod or the node sent, and the queue of its interface was full: nobody read it fast enough, or nobody at all while the agent was away.", "If it goes on: give the workers processors of their own, or raise `workers.count`. Of a pod with an egress limit it is the limit at work.", "IFLA_STATS64 of the pod's interface, in its namespace (ip -s link)", "A burst of more than 1000 packets; a pod that sends more than its egress limit; a restart of the agent.";
    TAP_RX_DROPPED = "tap_rx_dropped", "The pod's or the node's stack did not take what the switch had written: the interface was down, its backlog was full, or nobody there wants that protocol.", "Set the interface up; else see softnet_dropped, and what the pod is sent (`ringway capture --pod`).", "IFLA_STATS64 of the pod's interface, in its namespace (ip -s link)", "ip link set eth0 down, in the pod; IPv6 sent to a pod that has it disabled.";
    NIC_TX_DROPPED = "nic_tx_dropped", "The underlay interface had no room for packets to be sent.", "The NIC or its queue is the limit: see `tc -s qdisc` of the interface and its ring sizes (ethtool -g).", "IFLA_STATS64 of the underlay interface (ip -s link)", "A bulk sender on a slow NIC; a shaper on the interface.";
    NIC_TX_ERRORS = "nic_tx_errors", "The underlay interface failed to send packets.", "See the kernel's log (dmesg) and `ethtool -S` of the interface; check cable and switch port.", "IFLA_STATS64 of the underlay interface (ip -s link)", "A link that flaps.";
    NIC_RX_DROPPED = "nic_rx_dropped", "The underlay interface or the stack behind it dropped received packets: no memory, a full backlog, or a protocol that nobody here wants.", "See `ethtool -S` of the interface and softnet_dropped; a few that grow slowly are LLDP and the like.", "IFLA_STATS64 of the underlay interface (ip -s link)", "LLDP or spanning tree frames of the switch; a backlog that is full.";
    NIC_RX_MISSED = "nic_rx_missed", "The NIC received packets and had no buffer for them: the node was too slow.", "Raise the receive ring (ethtool -G IFACE rx …), spread its queues over processors, or slow the senders.", "IFLA_STATS64 of the underlay interface (ip -s link)", "More small packets than one processor serves.";
    NIC_RX_FIFO = "nic_rx_fifo", "The receive queue of the NIC overflowed.", "Raise the receive ring (ethtool -G IFACE rx …) or spread its queues over processors.", "IFLA_STATS64 of the underlay interface (ip -s link)", "A burst at line rate.";
    NIC_RX_ERRORS = "nic_rx_errors", "The underlay interface received broken packets: wrong check sequence, wrong length.", "Check cable, transceiver and switch port; `ethtool -S` of the interface says which kind.", "IFLA_STATS64 of the underlay interface (ip -s link)", "A faulty cable; an MTU that the switch has smaller than the sender.";
    SOCKET_DROPPED = "socket_dropped", "The kernel dropped datagrams at a receive socket of the underlay: its buffer was full, or their checksum was wrong. What is known when a later one arrives is counted as socket_overflow, too.", "More arrives than the workers read: give them processors of their own, raise `workers.count`, or net.core.rmem_max and restart the agent.", "SO_MEMINFO of each receive socket", "A burst from several nodes at once; workers that share their processors with busy pods.";
    RING_RX_FULL = "ring_rx_full", "The receive ring of a worker was full, and the kernel dropped frames.", "More arrives than the worker reads: raise `workers.count`, or give the workers processors of their own.", "XDP_STATISTICS of the AF_XDP socket (rx_ring_full)", "A burst at line rate to one receive queue.";
    RING_FILL_EMPTY = "ring_fill_empty", "The kernel found no buffer to receive into: the fill ring of a worker was empty.", "More arrives than the worker reads: raise `workers.count`, or give the workers processors of their own.", "XDP_STATISTICS of the AF_XDP socket (rx_fill_ring_empty_descs)", "A worker that was kept from running.";
    RING_RX_DROPPED = "ring_rx_dropped", "The kernel dropped frames before a ring for another reason, such as their length.", "Compare the MTU of the underlay interface with that of the other nodes.", "XDP_STATISTICS of the AF_XDP socket (rx_dropped)", "Frames longer than a buffer of the ring.";
    SOFTNET_DROPPED = "softnet_dropped", "The backlog of a processor was full, and the kernel dropped packets of some interface. Counts for the whole machine.", "Raise net.core.netdev_max_backlog, or spread receive queues over more processors (RSS, RPS).", "second column of /proc/net/softnet_stat, all processors", "Many pods that receive by veth or TAP on one processor.";
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// The counters.
    pub all: Vec<KernelLoss>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

impl Losses {
    fn add(&mut self, counter: KernelCounter, at: &str, count: u64) {
        self.all.push(KernelLoss {
            counter: counter.name.into(),
            at: at.into(),
            count,
            rate: None,
            cause: counter.cause.into(),
            remedy: counter.remedy.into(),
        });
    }

    fn add_tap(&mut self, at: &str, read: Result<LinkLosses, String>) {
        match read {
            Ok(losses) => {
                self.add(TAP_TX_DROPPED, at, losses.tx_dropped);
                self.add(TAP_RX_DROPPED, at, losses.rx_dropped);
            }
            Err(why) => self.unread.push(format!("{at}: {why}")),
        }
    }
}

/// Reads all of them, from the namespace of the node.
pub fn read(view: &View) -> Losses {
    let mut losses = Losses::default();
    let status = &view.status;
    for pod in &view.pods {
        losses.add_tap(&format!("pod {}", pod.name), of_pod(pod));
    }
    let mut netlink = Netlink::open();
    let mut of_link = |name: &str| match &mut netlink {
        Ok(netlink) => netlink.link_losses(name).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    losses.add_tap(
        &format!("node {}", status.interface),
        of_link(&status.interface),
    );
    let nic = &status.underlay.interface;
    match of_link(nic) {
        Ok(found) => {
            for (counter, count) in [
                (NIC_TX_DROPPED, found.tx_dropped),
                (NIC_TX_ERRORS, found.tx_errors),
                (NIC_RX_DROPPED, found.rx_dropped),
                (NIC_RX_MISSED, found.rx_missed),
                (NIC_RX_FIFO, found.rx_fifo),
                (NIC_RX_ERRORS, found.rx_errors),
            ] {
                losses.add(counter, nic, count);
            }
        }
        Err(why) => losses.unread.push(format!("{nic}: {why}")),
    }
    for socket in &view.sockets {
        let at = format!("{}, worker {}", socket.local, socket.worker);
        match &socket.dropped {
            Ok(dropped) => losses.add(SOCKET_DROPPED, &at, u64::from(*dropped)),
            Err(why) => losses.unread.push(format!("{at}: {why}")),
        }
    }
    if !status.underlay.rings.is_empty() {
        for worker in &status.workers {
            let (at, buffers) = (format!("worker {}", worker.index), &worker.buffers);
            losses.add(RING_RX_FULL, &at, buffers.rx_full);
            losses.add(RING_FILL_EMPTY, &at, buffers.fill_empty);
            losses.add(RING_RX_DROPPED, &at, buffers.rx_dropped);
        }
    }
    match softnet() {
        Ok(dropped) => losses.add(SOFTNET_DROPPED, "all processors", dropped),
        Err(why) => losses.unread.push(format!("{SOFTNET}: {why}")),
    }
    losses
}

/// Of a pod's interface, where that is.
fn of_pod(pod: &Pod) -> Result<LinkLosses, String> {
    let netns = Netns::open(Path::new(&pod.netns)).map_err(|e| e.to_string())?;
    let read = run_in(&netns, || Netlink::open()?.link_losses(&pod.ifname));
    let read = read.map_err(|e| e.to_string())?;
    read.map_err(|e| e.to_string())
}

/// A line for each processor, in hexadecimal columns.
const SOFTNET: &str = "/proc/net/softnet_stat";

fn softnet() -> Result<u64, String> {
    let text = std::fs::read_to_string(SOFTNET).map_err(|e| e.to_string())?;
    dropped_in(&text).ok_or_else(|| "not what is expected there".into())
}

fn dropped_in(softnet: &str) -> Option<u64> {
    let of_processor = |line: &str| {
        let dropped = line.split_whitespace().nth(1)?;
        u64::from_str_radix(dropped, 16).ok()
    };
    softnet.lines().map(of_processor).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_no_drop_reason_has_them() {
        let mut names: Vec<&str> = ALL.iter().map(|counter| counter.name).collect();
        let reasons = ringway_switch::DropReason::ALL.iter();
        names.extend(reasons.map(|reason| reason.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn dropped_packets_of_all_processors_are_added() {
        let text = "0000a1b2 00000003 00000000 0 0\n00000001 000000ff 00000002 0 0\n";
        assert_eq!(dropped_in(text), Some(0x102));
        for bad in ["0000\n", "0000 zz 0\n", "\n"] {
            assert_eq!(dropped_in(bad), None, "{bad:?}");
        }
        assert!(softnet().is_ok());
    }
}
