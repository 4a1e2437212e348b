//! What the control plane has the worker do.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ringway_ports::tap::Tap;
use ringway_tables::PortId;

use super::Engine;
use crate::command::{Command, Event, LaneQueue};
use crate::config::UnderlaySocket;
use crate::lanes::Lane;
use crate::local_ports::LocalQueue;
use crate::queue_id::QueueId;
use crate::queues::Queues;
use crate::shaper::Shaper;
use crate::sockets;
use crate::uplink::{former_place, place};
use crate::visit::Round;

impl Engine {
    /// Acts on commands; `false` means stop.
    pub(super) fn handle_commands(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::AddTap {
                    port,
                    queue,
                    lane,
                    read,
                    uso,
                    limits,
                } => {
                    self.remove(port);
                    // A pod's number may have been another's; only the worker may write its counters.
                    if port != PortId::NODE {
                        self.pipeline.counters().port(port).reset();
                    }
                    if read {
                        self.watch_tap(QueueId::Tap(port), &queue);
                    }
                    let lane = lane.filter(|_| read).map(|LaneQueue { queue, slots }| {
                        self.watch_tap(QueueId::Bulk(port), &queue);
                        Box::new(Lane::new(Tap::new(queue, port.0), slots))
                    });
                    let queue = LocalQueue {
                        port: Tap::new(queue, port.0),
                        lane,
                        read,
                        uso,
                        shaper: Shaper::new(limits),
                    };
                    self.queues.ports.add(port, queue);
                }
                Command::Announce { port, ips, mac } => {
                    self.acting().announce(port, &ips, mac);
                }
                Command::Probe(requests) => {
                    let mut round = self.acting();
                    requests
                        .iter()
                        .for_each(|request| round.send_probe(request));
                    self.queues.flush();
                    self.report_transmissions();
                }
                Command::Observe(id, observer) => self.observers.add(id, observer),
                Command::Unobserve(id) => self.observers.remove(id),
                Command::RemoveTap { port, done } => {
                    self.remove(port);
                    let _ = done.send(());
                }
                Command::OpenRings {
                    configs,
                    unfinished,
                    done,
                } => {
                    self.unwatch_rings();
                    let Queues {
                        uplink, buffers, ..
                    } = &mut self.queues;
                    uplink.unfinished = unfinished;
                    let result = uplink.rings.open(&mut buffers.pool, &configs);
                    uplink.rings.publish(&buffers.pool, &self.shared.buffers);
                    if self.listening {
                        self.watch_rings();
                    }
                    let _ = done.send(result);
                }
                Command::CloseRings { done } => {
                    self.unwatch_rings();
                    self.queues.uplink.rings.close();
                    let _ = done.send(());
                }
                Command::Listen => {
                    self.listening = true;
                    self.watch_rings();
                    sockets::watch(&self.queues.uplink.sockets, &mut self.ready);
                }
                Command::SetSocket(new) => {
                    self.set_socket(place(new.encap, new.v6), Some(*new));
                }
                Command::SetFormerSocket { encap, v6, socket } => {
                    self.set_socket(former_place(encap, v6), socket.map(|socket| *socket));
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// A round for what is not read from a queue.
    fn acting(&mut self) -> Round<'_> {
        Round {
            snapshot: self.reader.load(),
            pipeline: &mut self.pipeline,
            queues: &mut self.queues,
            observer: self.observers.some(),
            now: self.started.elapsed().as_nanos() as u64,
        }
    }

    fn set_socket(&mut self, at: usize, new: Option<UnderlaySocket>) {
        self.unwatch_errors();
        let uplink = &mut self.queues.uplink;
        sockets::set(uplink, at, new, &mut self.ready, self.listening);
        if self.listening && !self.queues.uplink.rings.open.is_empty() {
            self.watch_errors();
        }
    }

    fn watch_rings(&mut self) {
        for (i, xsk) in self.queues.uplink.rings.open.iter().enumerate() {
            let queue = QueueId::Ring(i as u32);
            if let Err(error) = self.ready.add(queue, xsk.fd().as_raw_fd()) {
                tracing::error!(queue = xsk.queue(), %error, "cannot watch an AF_XDP ring");
            }
        }
        if !self.queues.uplink.rings.open.is_empty() {
            self.watch_errors();
        }
    }

    fn unwatch_rings(&mut self) {
        self.unwatch_errors();
        for (i, xsk) in self.queues.uplink.rings.open.iter().enumerate() {
            self.ready
                .remove(QueueId::Ring(i as u32), xsk.fd().as_raw_fd());
        }
    }

    /// Reads a queue again that had to wait.
    pub(super) fn resume(&mut self, id: QueueId) {
        let Some(queue) = self.queues.ports.queue(id) else {
            return;
        };
        let fd = queue.fd().clone();
        if let Err(error) = self.ready.resume(id, fd.as_raw_fd()) {
            self.not_watched(id, fd, &error);
        }
    }

    fn watch_tap(&mut self, id: QueueId, queue: &Arc<OwnedFd>) {
        if let Err(error) = self.ready.add(id, queue.as_raw_fd()) {
            self.not_watched(id, queue.clone(), &error);
        }
    }

    fn not_watched(&self, id: QueueId, queue: Arc<OwnedFd>, error: &std::io::Error) {
        let Some(port) = id.port() else { return };
        let reason = format!("its queue cannot be watched: {error}");
        let _ = self.shared.events.send(Event::PortGone {
            port,
            queue,
            reason,
        });
    }

    fn remove(&mut self, port: PortId) {
        let counters = self.pipeline.counters();
        if let Some(queue) = self.queues.ports.remove(port, counters)
            && queue.read
        {
            let fd = queue.port.fd().as_raw_fd();
            self.ready.remove(QueueId::Tap(port), fd);
            if let Some(lane) = queue.lane {
                let fd = lane.port.fd().as_raw_fd();
                self.ready.remove(QueueId::Bulk(port), fd);
            }
        }
    }
}
