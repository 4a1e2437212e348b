//! Pods that are still on the bridge of the network before.

use ringway_config::names::deletion;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_cni::api::Attachment;
use ringway_kernel::bridge::{self, Bridge};
use ringway_kernel::netlink::Netlink;
use ringway_kernel::network::Network;
use ringway_kernel::reconcile::Condition;
use ringway_packet::addr::from_ip;
use ringway_tables::Snapshot;

use super::books::{self, Book};
use super::{former, overlay};
use crate::state::State;
use crate::view::LeftPod;
use crate::{Control, desired};
use ringway_config::Config;

/// How often books, bridge and overlays are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Names of pods by their address: namespace and name.
pub type Names = Box<dyn Fn(IpAddr) -> Option<(String, String)> + Send>;

/// What is known of them.
#[derive(Default)]
pub(crate) struct Left {
    looked: Option<Instant>,
    bridge: Option<Bridge>,
    books: Vec<Book>,
    names: Option<Names>,
    /// The overlay of somebody else, while the agent runs.
    second: Option<Condition>,
    /// What keeps them from their network or others from theirs, and since when.
    failed: Option<(String, Instant)>,
}

impl Left {
    /// Whose an address is, if it is one of them.
    pub(crate) fn holder(&self, ip: IpAddr) -> Option<&str> {
        let found = self.books.iter().find(|book| book.ip == ip);
        found.map(|book| book.container_id.as_str())
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.books.iter().map(|book| book.ip)
    }

    pub(crate) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let failed = self.failed.clone().map(|(found, since)| Condition {
            what: "the bridge of the network before".into(),
            wanted: "the way to the pods on it, and to nothing else".into(),
            found,
            why:
                "tried again every 2 s; no pod is attached until then, for its address may be taken"
                    .into(),
            since,
        });
        self.second.clone().into_iter().chain(failed)
    }

    /// Why nobody knows which addresses are free.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_ref().map(|(why, _)| why.as_str())
    }

    /// For `ringway status`: one for each container.
    pub(crate) fn view(&self) -> Vec<LeftPod> {
        let mut all: Vec<LeftPod> = Vec::new();
        for book in &self.books {
            if let Some(known) = all.iter_mut().find(|p| p.container_id == book.container_id) {
                known.ips.push(book.ip);
                continue;
            }
            let named = self.names.as_ref().and_then(|names| names(book.ip));
            all.push(LeftPod {
                ips: vec![book.ip],
                container_id: book.container_id.clone(),
                remedy: remedy(named.as_ref(), book.ip),
                pod: named.map(|(namespace, name)| format!("{namespace}/{name}")),
            });
        }
        all
    }

    /// What is on the bridge, if there is one.
    ///
    /// # Errors
    /// The kernel or the books cannot be read, or there are interfaces on the bridge and no books: whose addresses
    /// those are, nobody knows.
    pub(crate) fn read(
        netlink: &mut Netlink,
        config: &Config,
        recorded: &State,
        networks: &[Network],
    ) -> Result<Option<(Bridge, Vec<Book>)>, String> {
        let own = &config.node.interface;
        let known = recorded.takeover.bridge().map(|(name, _)| name);
        let found = bridge::find(netlink, own, networks, known).map_err(|e| e.to_string())?;
        let Some(found) = found else {
            return Ok(None);
        };
        let mut books = Vec::new();
        // Books of what is on no bridge are left over.
        if !found.ports.is_empty() {
            let folder = &config.cni.books;
            books = books::read(folder).map_err(|e| e.to_string())?;
            let inside = |ip| networks.iter().any(|n| n.cidr.contains(from_ip(ip)));
            let ours = |ip: &IpAddr| recorded.pods.values().any(|pod| pod.ips.contains(ip));
            books.retain(|book| inside(book.ip) && !ours(&book.ip));
            // Later on the last of them may be gone from the books and not yet from the bridge.
            if books.is_empty() && known.is_none() {
                return Err(format!(
                    "{} has interfaces ({}), and {} has no addresses of theirs: name the folder of the IPAM plugin \
                     in cni.books, or remove the interfaces if they are no pods'",
                    found.name,
                    found.ports.join(", "),
                    folder.display()
                ));
            }
        }
        Ok(Some((found, books)))
    }

    /// Has the bridge lead to the pods on it and to nothing else; before the node port gets the same networks.
    /// Addresses of pods that are gone since.
    ///
    /// # Errors
    /// What the kernel or the books refuse; what was done until then stays.
    pub(crate) fn settle(
        &mut self,
        netlink: &mut Netlink,
        config: &Config,
        recorded: &mut State,
        networks: &[Network],
    ) -> Result<Vec<IpAddr>, String> {
        let read = Self::read(netlink, config, recorded, networks)?;
        self.bridge = read.as_ref().map(|(found, _)| found.clone());
        let Some((found, books)) = read else {
            return Ok(self.note(Vec::new()));
        };
        // Saved with the node port's settings, which come next.
        recorded.takeover.note_bridge(Some((&found.name, networks)));
        let addresses: Vec<IpAddr> = books.iter().map(|book| book.ip).collect();
        // First of all: whatever fails now, nobody else gets these addresses.
        let gone = self.note(books);
        bridge::narrow(netlink, &found, networks, &addresses).map_err(|e| e.to_string())?;
        if found.ports.is_empty() {
            netlink
                .delete_link(&found.name)
                .map_err(|e| e.to_string())?;
            self.bridge = None;
            recorded.takeover.note_bridge(None);
            tracing::info!(
                "take-over: no pod is left on {}; it was removed. Rules that Flannel may have left, and that do no \
                 harm: the chains FLANNEL-POSTRTG (nat) and FLANNEL-FWD (filter) of iptables",
                found.name
            );
        }
        Ok(gone)
    }

    /// Takes note of who is on the bridge, and says what is new. Addresses of those that are gone.
    fn note(&mut self, books: Vec<Book>) -> Vec<IpAddr> {
        if books == self.books {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.books, books);
        let known = |container: &str| before.iter().any(|book| book.container_id == container);
        for pod in self.view() {
            if !known(&pod.container_id) {
                tracing::warn!(
                    ips = ?pod.ips, container_id = pod.container_id, pod = pod.pod,
                    "a pod is still on the bridge of the network before, and keeps its network until it is made \
                     anew: {}",
                    pod.remedy
                );
            }
        }
        let gone = before.iter().filter(|book| self.holder(book.ip).is_none());
        let gone = gone.inspect(|book| {
            let container_id = &book.container_id;
            tracing::info!(ip = %book.ip, container_id, "is no longer on the bridge");
        });
        gone.map(|book| book.ip).collect()
    }
}

/// The command that makes a pod anew.
fn remedy(named: Option<&(String, String)>, ip: IpAddr) -> String {
    match named {
        Some((namespace, name)) => deletion(namespace, name),
        None => format!(
            "kubectl delete pod of the namespace and name that `kubectl get pods -A --field-selector \
             status.podIP={ip}` prints"
        ),
    }
}

impl Control {
    /// Who names pods that are left on the bridge by their address.
    pub fn name_left_pods(&mut self, names: Names) {
        self.left.names = Some(names);
    }

    /// Every few seconds: what is on the bridge, and whether there is a second overlay.
    pub(crate) fn look_at_left(&mut self, now: Instant) {
        let due = |at: Instant| now.saturating_duration_since(at) >= PERIOD;
        if !self.config.node.takeover || !self.left.looked.is_none_or(due) {
            return;
        }
        let failing = self.left.failed.is_some();
        self.follow_left(now);
        if failing && self.left.failed.is_none() {
            // What the node port is to take from the bridge.
            self.want_node();
        }
    }

    /// The same at once.
    pub(crate) fn follow_left(&mut self, now: Instant) {
        if !self.config.node.takeover {
            return;
        }
        self.left.looked = Some(now);
        let failed = self.settle_bridge().err();
        if failed.as_deref() != self.left.failure() {
            match &failed {
                Some(why) => tracing::error!("pods of the network before: {why}"),
                None => tracing::info!("the bridge of the network before is as it should be"),
            }
            let since = self.left.failed.as_ref().map_or(now, |(_, since)| *since);
            self.left.failed = failed.map(|why| (why, since));
        }
        self.look_for_overlay(now);
        let addresses: Vec<u128> = self.left.addresses().map(from_ip).collect();
        let mut next = Snapshot::clone(&self.publisher.current());
        if next.set_behind(&addresses) {
            self.publisher.publish(next);
        }
    }

    fn settle_bridge(&mut self) -> Result<(), String> {
        let networks = desired::networks(self.cluster.state());
        let Control {
            left,
            netlink,
            config,
            state,
            ..
        } = self;
        let recorded = state.takeover.clone();
        let gone = left.settle(netlink, config, state, &networks);
        let changed = state.takeover != recorded;
        for ip in gone.iter().flatten().copied() {
            // The last to be given out: connections may still lead to it.
            state.ipam.of_mut(ip.is_ipv6()).released(ip);
        }
        if changed {
            // Logged if it fails, and tried again.
            let _ = self.save();
        }
        gone?;
        let Some(bridge) = &self.left.bridge else {
            return Ok(());
        };
        let pods = self.pods.values().flat_map(|pod| pod.record.ips.iter());
        let pods: BTreeSet<IpAddr> = pods.copied().collect();
        bridge::answer_for(&mut self.netlink, bridge, &pods).map_err(|e| e.to_string())
    }

    fn look_for_overlay(&mut self, now: Instant) {
        let Ok(all) = former(&self.config, &mut self.netlink) else {
            return;
        };
        let since = self.left.second.as_ref().map_or(now, |known| known.since);
        let second = overlay::second(&self.config, &all, since);
        match (&second, &self.left.second) {
            (Some(new), None) => tracing::error!("{new}"),
            (None, Some(_)) => tracing::info!("the overlay is Ringway's alone again"),
            _ => {}
        }
        self.left.second = second;
    }

    /// A DEL of a container that is none of ours: it may be one of those. True if so.
    pub(crate) fn release_left(&mut self, attachment: &Attachment) -> bool {
        let Attachment {
            container_id,
            ifname,
        } = attachment;
        let of_it = self
            .left
            .books
            .iter()
            .filter(|b| b.is_of(container_id, ifname));
        let mut any = false;
        for book in of_it {
            any = true;
            if let Err(e) = book.release() {
                tracing::warn!("address {} stays reserved: {e}", book.ip);
            }
        }
        if any {
            self.follow_left(Instant::now());
        }
        any
    }
}
