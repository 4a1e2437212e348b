//! What the CNI plugin asks for.
//!
//! The key of an attachment is container and interface: Flannel's default configuration (0.3.1) gives a DEL
//! nothing else. A DEL that
//! found no agent left a file in the state directory's `cni-pending`; those are applied at the start, once a
//! second, and before every ADD, so that no ADD meets what a DEL had ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ringway_cni::api::{Add, Added, AddedIp, Attachment, Check, Collected, Done, Gc, Route};
use ringway_kernel::netlink::{Netlink, NetlinkError};
use ringway_kernel::netns::{Netns, run_in};
use ringway_kernel::pod::interface::PodRoute;
use ringway_tables::Cidr;

use super::attach::NewPod;
use super::{Control, ControlError, Reply};
use crate::request_values;
use crate::state::{CniRecord, PodRecord};
use crate::view;
use ringway_cluster::gateway;
use ringway_config::names::pod_name;

/// Folder in the state directory where the plugin leaves what it could not say.
pub const PENDING: &str = "cni-pending";

impl Control {
    /// Attaches an interface.
    pub(super) fn cni_attach(&mut self, add: Add, answer: Reply<Result<Added, ControlError>>) {
        let new = match self.new_pod(&add) {
            Ok(new) => new,
            Err(e) => return answer(Err(e)),
        };
        let answer = move |outcome: Result<view::Pod, ControlError>| {
            answer(outcome.map(|view| added(&view, &add.routes)));
        };
        self.attach_pod(new, Box::new(answer));
    }

    fn new_pod(&mut self, add: &Add) -> Result<NewPod, ControlError> {
        self.apply_pending();
        self.cni.ignored(&add.network, &add.ignored);
        let netns = request_values::cni_interface(&add.netns, &add.attachment)?;
        if self.this_node().cidrs.is_empty() {
            return Err(self.no_network());
        }
        if let Some(name) = self.state.by_attachment(&add.attachment).map(str::to_owned) {
            self.supersede(&name, &netns)?;
        }
        let (ips, chosen) = if add.delegated.is_empty() {
            self.choose(request_values::ip_addresses(&add.ips)?)?
        } else {
            (self.delegated(add)?, Vec::new())
        };
        let routes = self.routes_for(&add.routes, &ips)?;
        Ok(NewPod {
            name: self.name_for(add),
            netns,
            ifname: add.attachment.ifname.clone(),
            mac: add
                .mac
                .as_deref()
                .map(request_values::mac_address)
                .transpose()?,
            mtu: add.mtu,
            routes,
            cni: Some(CniRecord {
                attachment: add.attachment.clone(),
                network: add.network.clone(),
                pod: add.pod.clone(),
            }),
            bandwidth: add.bandwidth,
            port_mappings: add.port_mappings.clone(),
            ips,
            chosen,
        })
    }

    /// A second ADD for what is there already: refused while it is, and it makes way if its namespace is
    /// gone or was another.
    fn supersede(&mut self, name: &str, netns: &Path) -> Result<(), ControlError> {
        let record = &self.state.pods[name];
        let same = Netns::open(netns).is_ok_and(|n| n.identity() == record.netns_id);
        if same && self.pods.contains_key(name) {
            return Err(ControlError::AttachedByAdd {
                pod: name.to_owned(),
                ifname: record.ifname.clone(),
            });
        }
        tracing::info!(pod = name, "makes way for a new ADD of its container");
        self.remove(name);
        Ok(())
    }

    /// Detaches one. Succeeds if there is none.
    pub(super) fn cni_detach(&mut self, attachment: &Attachment, answer: Reply<Done>) {
        let Some(name) = self.state.by_attachment(attachment).map(str::to_owned) else {
            if self.release_left(attachment) {
                let note = "it was a pod of the network before; its address is free".into();
                return answer(Done { note: Some(note) });
            }
            let note = format!(
                "there is no {} of container {}; nothing had to be done",
                attachment.ifname, attachment.container_id
            );
            return answer(Done { note: Some(note) });
        };
        self.begin_removal(&name, Box::new(|note| answer(Done { note })));
    }

    /// Detaches all of a network that are not to be kept.
    pub(super) fn cni_gc(&mut self, gc: &Gc) -> Collected {
        self.apply_pending();
        let keep: BTreeSet<&Attachment> = gc.keep.iter().collect();
        let stale = |(name, record): (&String, &PodRecord)| {
            let cni = record.cni.as_ref()?;
            let stale = cni.network == gc.network && !keep.contains(&cni.attachment);
            // A pod with a job under way has a request of its own, which will answer.
            (stale && !self.pod_jobs.has(name)).then(|| (name.clone(), cni.attachment.clone()))
        };
        let all: Vec<_> = self.state.pods.iter().filter_map(stale).collect();
        let mut released = Vec::new();
        for (name, attachment) in all {
            tracing::info!(pod = name, "released: its container is gone (GC)");
            self.begin_removal(&name, Box::new(drop));
            released.push((name, attachment));
        }
        self.await_jobs(|pod_jobs| released.iter().any(|(name, _)| pod_jobs.has(name)));
        let released = released
            .into_iter()
            .map(|(_, attachment)| attachment)
            .collect();
        Collected { released }
    }

    /// Compares an attachment with what an ADD has answered, and with the kernel.
    pub(super) fn cni_check(&mut self, check: &Check) -> Result<Done, ControlError> {
        let Attachment {
            container_id,
            ifname,
        } = &check.attachment;
        let Some(name) = self.state.by_attachment(&check.attachment) else {
            return Err(ControlError::Unknown {
                ifname: ifname.clone(),
                container_id: container_id.clone(),
            });
        };
        let broken = ControlError::Broken;
        if !self.pods.contains_key(name) {
            return Err(broken(format!("pod {name} is recorded but not served")));
        }
        let record = &self.state.pods[name];
        let netns = Netns::open(Path::new(&check.netns)).map_err(ControlError::Gone)?;
        if netns.identity() != record.netns_id {
            let (now, then) = (&check.netns, record.netns.display());
            return Err(broken(format!(
                "{now} is not the namespace that was {then} at the ADD"
            )));
        }
        let len = |ip: &IpAddr| self.this_node().cidr_of(*ip).map_or(0, |c| c.prefix_len());
        let own: Vec<String> = record
            .ips
            .iter()
            .map(|ip| format!("{ip}/{}", len(ip)))
            .collect();
        if let Some(other) = check.ips.iter().find(|ip| !own.contains(ip)) {
            let own = own.join(", ");
            return Err(broken(format!(
                "{other} is not an address of pod {name}, which has {own}"
            )));
        }
        let same = |mac: &&String| mac.eq_ignore_ascii_case(&record.mac.to_string());
        if let Some(mac) = check.mac.as_ref().filter(|mac| !same(mac)) {
            return Err(broken(format!(
                "{mac} is not the MAC address of pod {name}, {}",
                record.mac
            )));
        }
        self.in_kernel(&netns, name, record).map_err(broken)?;
        self.check_node()?;
        Ok(Done::default())
    }

    /// That the interface is as it was made; what another plugin added to it does not matter.
    fn in_kernel(&self, netns: &Netns, name: &str, record: &PodRecord) -> Result<(), String> {
        let ifname = &record.ifname;
        let look = || {
            let mut netlink = Netlink::open()?;
            let link = netlink.link(ifname)?;
            let addresses = netlink.addresses(link.index)?;
            let routes = netlink.routes(link.index)?;
            Ok::<_, NetlinkError>((link, addresses, routes))
        };
        let (link, addresses, routes) = run_in(netns, look)
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("pod {name}: {e}"))?;
        if !link.up {
            return Err(format!("{ifname} of pod {name} is down"));
        }
        for ip in &record.ips {
            if !addresses.iter().any(|a| a.ip == *ip) {
                return Err(format!("{ifname} of pod {name} has lost its address {ip}"));
            }
            let gateway = self.this_node().gateway_of(*ip);
            let leads =
                |r: &ringway_kernel::netlink::Route| r.prefix_len == 0 && r.gateway == gateway;
            // Of a second interface the default route is another's.
            if ifname == "eth0" && !routes.iter().any(leads) {
                let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
                return Err(format!(
                    "{ifname} of pod {name} has lost its {family} default route"
                ));
            }
        }
        Ok(())
    }

    /// Applies what the plugin could not say while no agent was there.
    pub(super) fn apply_pending(&mut self) {
        let folder = self.state_dir.path().join(PENDING);
        let (files, mut troubles) = waiting(&folder);
        for file in files {
            // Once: its container may have been attached again since.
            if self.cni.applied(&file) {
                if let Err(e) = std::fs::remove_file(&file) {
                    troubles.insert(file, Trouble::Applied(e.to_string()));
                }
                continue;
            }
            match read_pending(&file) {
                // Its own request is still being served.
                Ok(attachment) if self.is_attachment_busy(&attachment) => continue,
                Ok(attachment) => {
                    if let Some(name) = self.state.by_attachment(&attachment).map(str::to_owned) {
                        self.remove(&name);
                    } else {
                        self.release_left(&attachment);
                    }
                    let Attachment {
                        container_id,
                        ifname,
                    } = attachment;
                    tracing::info!(
                        container_id,
                        ifname,
                        "applied a DEL that came while no agent was running"
                    );
                }
                Err(Unread::Garbage(e)) => {
                    tracing::error!(file = %file.display(), "not a pending DEL, removed: {e}");
                }
                Err(Unread::Trouble(e)) => {
                    troubles.insert(file, Trouble::Unread(e));
                    continue;
                }
            }
            if let Err(e) = std::fs::remove_file(&file) {
                troubles.insert(file, Trouble::Applied(e.to_string()));
            }
        }
        self.cni.troubles(troubles);
    }

    /// The addresses another IPAM plugin gave; they must be of this node, whose gateway answers for them.
    fn delegated(&self, add: &Add) -> Result<Vec<IpAddr>, ControlError> {
        let mut texts = Vec::new();
        for one in &add.delegated {
            let (ip, len) = request_values::address_with_length(&one.address)?;
            let cidr = self.this_node().cidr_of(ip);
            if let Some(cidr) = cidr
                && len.is_some_and(|len| len != cidr.prefix_len())
            {
                let given = one.address.clone();
                return Err(ControlError::IpamNetwork { given, cidr });
            }
            let own = self.this_node().gateway_of(ip);
            let given: Option<IpAddr> = match &one.gateway {
                Some(text) => Some(text.parse().map_err(|_| {
                    let given = text.clone();
                    ControlError::IpamNoGateway { given }
                })?),
                None => None,
            };
            if given.is_some() && given != own {
                let own = own.map_or("none".to_owned(), |ip| ip.to_string());
                let given = one.gateway.clone().unwrap_or_default();
                return Err(ControlError::IpamGateway { given, own });
            }
            texts.push(ip.to_string());
        }
        Ok(request_values::ip_addresses(&texts)?)
    }

    /// Routes as asked for; without a next hop by the gateway of their family.
    fn routes_for(&self, asked: &[Route], ips: &[IpAddr]) -> Result<Vec<PodRoute>, ControlError> {
        let mut routes = Vec::new();
        for route in asked {
            let cidr: Cidr = route.dst.parse().map_err(ControlError::RouteNetwork)?;
            let refused = |why| {
                let dst = route.dst.clone();
                Err(ControlError::Route { dst, why })
            };
            let v6 = cidr.is_ipv6();
            let own = self.this_node().main_cidr(v6).map(gateway);
            let Some(gateway) = route.gw.or(own).filter(|ip| ip.is_ipv6() == v6) else {
                return refused("there is no gateway of its family");
            };
            if !ips.iter().any(|ip| ip.is_ipv6() == v6) {
                return refused("the pod has no address of its family");
            }
            // The default routes by our gateway come anyhow.
            if cidr.prefix_len() == 0 && Some(gateway) == own {
                continue;
            }
            routes.push(PodRoute {
                destination: cidr.network(),
                prefix_len: cidr.prefix_len(),
                gateway,
            });
        }
        Ok(routes)
    }

    /// What people will call it: Kubernetes' names if they can be had, with the container's id where an
    /// earlier sandbox of the pod is still there.
    fn name_for(&self, add: &Add) -> String {
        let Attachment {
            container_id,
            ifname,
        } = &add.attachment;
        let short: String = container_id.chars().take(12).collect();
        let long = format!("{container_id}/{ifname}");
        let Some(pod) = add.pod.as_ref().filter(|pod| !pod.name.is_empty()) else {
            return long;
        };
        let mut name = format!("{}/{}", pod.namespace, pod.name);
        if ifname != "eth0" {
            name = format!("{name}:{ifname}");
        }
        if self.state.pods.contains_key(&name) {
            name = format!("{name}@{short}");
        }
        if self.state.pods.contains_key(&name) || pod_name(&name).is_err() {
            return long;
        }
        name
    }
}

/// What was said of the plugin's doings, so that it is not said every second, or for every pod.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of what lies in the folder of pending DELs.
    troubles: BTreeMap<PathBuf, Trouble>,
    /// Keys of network configurations that are not known.
    ignored: BTreeSet<String>,
}

impl Said {
    /// Logs what is new of these; what is over is forgotten, and would be said again.
    fn troubles(&mut self, now: BTreeMap<PathBuf, Trouble>) {
        for (file, trouble) in &now {
            if self.troubles.get(file) != Some(trouble) {
                tracing::error!(file = %file.display(), "{trouble}; it stays, and this is logged once");
            }
        }
        self.troubles = now;
    }

    /// Whether a DEL was applied whose file cannot be removed.
    pub(super) fn applied(&self, file: &Path) -> bool {
        matches!(self.troubles.get(file), Some(Trouble::Applied(_)))
    }

    fn ignored(&mut self, network: &str, keys: &[String]) {
        for key in keys {
            if self.ignored.len() < IGNORED_MAX && self.ignored.insert(key.clone()) {
                tracing::warn!(
                    network,
                    key,
                    "unknown key in the network configuration, ignored"
                );
            }
        }
    }
}

/// What is wrong with a file or the folder of pending DELs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// It was applied, and cannot be removed.
    Applied(String),
    /// It cannot be read.
    Unread(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(e) => write!(f, "an applied DEL cannot be removed: {e}"),
            Self::Unread(what) => f.write_str(what),
        }
    }
}

/// So many names of unknown keys are remembered.
const IGNORED_MAX: usize = 1000;
/// Longest pending DEL, in bytes.
const PENDING_MAX: u64 = 64 * 1024;

/// What lies in the folder and is to be read, and what is wrong with the folder.
fn waiting(folder: &Path) -> (Vec<PathBuf>, BTreeMap<PathBuf, Trouble>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Default::default(),
        Err(e) => {
            let trouble = Trouble::Unread(format!("pending DELs cannot be looked for: {e}"));
            return (Vec::new(), BTreeMap::from([(folder.to_owned(), trouble)]));
        }
    };
    // A name that begins with a dot is still being written.
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let files = entries
        .flatten()
        .filter(|entry| !hidden(&entry.file_name()));
    (files.map(|entry| entry.path()).collect(), BTreeMap::new())
}

/// Why a file is no DEL.
enum Unread {
    /// Nobody can read it as one.
    Garbage(String),
    /// It is not to be read.
    Trouble(String),
}

/// Only what the plugin leaves: a small file. Others could make the agent wait, or never end.
fn read_pending(file: &Path) -> Result<Attachment, Unread> {
    let trouble = |e: io::Error| Unread::Trouble(format!("a pending DEL cannot be read: {e}"));
    let metadata = std::fs::symlink_metadata(file).map_err(trouble)?;
    if !metadata.is_file() || metadata.len() > PENDING_MAX {
        let what = "not a pending DEL: it is no file, or a large one";
        return Err(Unread::Trouble(what.into()));
    }
    let text = std::fs::read(file).map_err(trouble)?;
    serde_json::from_slice(&text).map_err(|e| Unread::Garbage(e.to_string()))
}

/// The answer to an ADD.
fn added(view: &view::Pod, extra: &[Route]) -> Added {
    let ips = view.ips.iter().zip(&view.gateways);
    let mut routes: Vec<Route> = view
        .gateways
        .iter()
        .map(|gateway| Route {
            dst: if gateway.is_ipv6() {
                "::/0"
            } else {
                "0.0.0.0/0"
            }
            .into(),
            gw: Some(*gateway),
        })
        .collect();
    let new: Vec<Route> = extra
        .iter()
        .filter(|r| !routes.iter().any(|o| o.dst == r.dst))
        .cloned()
        .collect();
    routes.extend(new);
    Added {
        mac: view.mac.clone(),
        mtu: view.mtu,
        ips: ips
            .map(|(address, gateway)| AddedIp {
                address: address.clone(),
                gateway: *gateway,
            })
            .collect(),
        routes,
    }
}
