//! What became of packets after they were sent: lost by a socket, or heard of by ICMP.
//!
//! The kernel hands an ICMP error to the socket that is bound to the source port it quotes. While sockets
//! send, the next send there finds it out; a ring's packets carry the same ports, and epoll reports.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use ringway_switch::DropReason;

use super::Engine;
use crate::command::Event;
use crate::config::UnderlaySocket;
use crate::queue_id::TransmitSocket;
use crate::uplink::Uplink;

/// Times that 64 ICMP errors are read when a socket reports some: more than it has room for.
const VISITS: usize = 8;

impl Engine {
    /// Has errors of the transmit sockets reported.
    pub(super) fn watch_errors(&mut self) {
        for (socket, fd) in transmit_sockets(&self.queues.uplink.sockets) {
            if let Err(error) = self.ready.watch_errors(socket, fd) {
                tracing::error!(%error, "cannot watch a transmit socket: path MTUs are not learnt");
            }
        }
    }

    /// No longer.
    pub(super) fn unwatch_errors(&mut self) {
        for (_, fd) in transmit_sockets(&self.queues.uplink.sockets) {
            self.ready.pause(fd);
        }
    }

    /// Reads what ICMP said of packets that a ring sent from a transmit socket's port.
    pub(super) fn read_errors(&mut self, socket: TransmitSocket) {
        let TransmitSocket { underlay, index } = socket;
        let Uplink {
            sockets, report, ..
        } = &mut self.queues.uplink;
        if let Some(Some(underlay)) = sockets.get_mut(underlay) {
            // What a forger adds meanwhile, the next one reports.
            for _ in 0..VISITS {
                if !underlay.socket.drain_errors(index, report) {
                    break;
                }
            }
        }
        self.report_transmissions();
    }

    /// Passes on what the sockets reported, and counts what they lost.
    pub(super) fn report_transmissions(&mut self) {
        let report = &mut self.queues.uplink.report;
        for news in &report.path_mtu {
            let mtu = u16::try_from(news.mtu).unwrap_or(u16::MAX);
            let _ = self.shared.events.try_send(Event::PathMtu {
                dest: news.dest,
                mtu,
            });
        }
        if report.path_mtu_ignored > 0 {
            let _ = self.shared.events.try_send(Event::PathMtuIgnored {
                claims: report.path_mtu_ignored,
            });
        }
        if !report.unreachable.is_empty() {
            let now = Instant::now();
            for news in &report.unreachable {
                let (dest, errno) = (news.dest, news.errno);
                if self.unreachable.may(dest, now) {
                    let _ = self
                        .shared
                        .events
                        .try_send(Event::Unreachable { dest, errno });
                }
            }
        }
        if let Some(off) = report.gso_disabled {
            let _ = self.shared.events.try_send(Event::GsoOff {
                errno: off.errno,
                zero_checksum: off.zero_checksum,
            });
        }
        let drops = report.drops;
        if drops.total() > 0 {
            for (reason, packets) in [
                (DropReason::UnderlayFull, drops.full),
                (DropReason::UnderlayTooBig, drops.too_long),
                (DropReason::UnderlayUnreachable, drops.unreachable),
                (DropReason::UnderlayDenied, drops.denied),
                (DropReason::UnderlayError, drops.other + drops.invalid),
            ] {
                if packets > 0 {
                    self.pipeline.counters().lose(reason, packets as u32, None);
                }
            }
            if report.last_errno != 0 {
                let error = std::io::Error::from_raw_os_error(report.last_errno);
                tracing::debug!(%error, "the kernel refused datagrams to peers");
            }
        }
        report.clear();
    }
}

/// The transmit sockets and their descriptors.
fn transmit_sockets(underlays: &[Option<UnderlaySocket>]) -> Vec<(TransmitSocket, RawFd)> {
    let of = |(underlay, of): (usize, &Option<UnderlaySocket>)| {
        let fds = of
            .iter()
            .flat_map(|of| of.socket.tx_fds().map(AsRawFd::as_raw_fd));
        let socket = |(index, fd)| (TransmitSocket { underlay, index }, fd);
        fds.enumerate().map(socket).collect::<Vec<_>>()
    };
    underlays.iter().enumerate().flat_map(of).collect()
}
