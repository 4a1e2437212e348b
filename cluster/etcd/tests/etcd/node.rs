//! A node: the source, and a cluster model that follows it as the agent's does.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway_cluster::source::{Local, State, Status};
use ringway_cluster::{Change, Cluster, EncapKind, Node as Own, Source};
use ringway_etcd::{Handle, Saved, Settings, spawn};
use ringway_packet::mac::MacAddr;
use ringway_tables::Cidr;
use tokio::sync::watch;

use super::eventually;
use super::server::{Etcd, PREFIX};

pub(crate) struct Node {
    pub(crate) settings: Settings,
    cluster: Arc<Mutex<Cluster>>,
    /// Changes that arrived.
    pub(crate) changes: Arc<AtomicUsize>,
    /// Whether a network of its own is refused, as by an agent whose pods have another.
    pub(crate) refuses: Arc<AtomicBool>,
    local: watch::Sender<Local>,
    status: watch::Receiver<Status>,
    handle: Option<Handle>,
    _folder: Option<tempfile::TempDir>,
}

/// 0a:58 and the network's first address, as the configuration does.
fn vtep_default(cidrs: &[Cidr]) -> MacAddr {
    let [a, b, c, d] = cidrs
        .first()
        .map_or([0; 4], |cidr| (cidr.first() as u32).to_be_bytes());
    MacAddr([0x0a, 0x58, a, b, c, d])
}

/// Settings of a node whose files are in a folder.
pub(crate) fn settings(etcd: &Etcd, saved: PathBuf) -> Settings {
    Settings {
        node: "node1".into(),
        endpoints: vec![format!("http://{}", etcd.address)],
        prefix: PREFIX.into(),
        ca: None,
        identity: None,
        login: None,
        lease: Settings::LEASE,
        renew_before: Settings::RENEW_BEFORE,
        saved,
        subnet_env: None,
        vtep_default,
    }
}

impl Node {
    /// Starts one with this outer address.
    pub(crate) fn start(etcd: &Etcd, ip: &str) -> Self {
        Self::with(etcd, &[ip], |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(etcd: &Etcd, ips: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let mut settings = settings(etcd, folder.path().join("etcd.json"));
        change(&mut settings);
        let mut node = Self::stopped(settings, ips);
        node._folder = Some(folder);
        node.launch();
        node
    }

    fn stopped(settings: Settings, ips: &[&str]) -> Self {
        let local = Local {
            node: Own::default(),
            addresses: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            encap: EncapKind::Vxlan,
            vni: 1,
            port: 8472,
            pod_mtu: 1450,
            forwards: true,
        };
        Self {
            settings,
            cluster: Arc::default(),
            changes: Arc::default(),
            refuses: Arc::default(),
            local: watch::Sender::new(local),
            status: watch::channel(Status::default()).1,
            handle: None,
            _folder: None,
        }
    }

    /// Starts the source as an agent does that knows nothing but what is on disk.
    pub(crate) fn launch(&mut self) {
        let saved = Saved::load(&self.settings.saved).expect("it can be read");
        let mut cluster = Cluster::default();
        if let Some(saved) = &saved {
            let all = Change::Replace(saved.contents(&self.settings));
            cluster
                .update(&Source::new("etcd"), all)
                .expect("it contradicts nothing");
        }
        self.cluster = Arc::new(Mutex::new(cluster));
        let (into, changes, refuses) = (
            self.cluster.clone(),
            self.changes.clone(),
            self.refuses.clone(),
        );
        let apply = move |change: Change| {
            changes.fetch_add(1, Ordering::Relaxed);
            let own = |change: &Change| match change {
                Change::Replace(contents) => contents.node.is_some(),
                Change::Several(all) => all.iter().any(|c| matches!(c, Change::SetNode(_))),
                _ => false,
            };
            if refuses.load(Ordering::Relaxed) && own(&change) {
                return Err("pods have addresses of 10.9.9.0/24".to_owned());
            }
            let mut cluster = into.lock().expect("nobody panicked");
            cluster
                .update(&Source::new("etcd"), change)
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let (status, follow) = watch::channel(Status::default());
        self.status = follow;
        let local = self.local.subscribe();
        let handle = spawn(self.settings.clone(), saved, local, Box::new(apply), status);
        self.handle = Some(handle.expect("there are threads"));
    }

    /// Stops the source; how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let begin = std::time::Instant::now();
        self.handle.take().expect("it runs").stop();
        begin.elapsed()
    }

    /// How often the source wakes up within a time: it says each time how it stands.
    pub(crate) fn wakes_within(&self, time: Duration) -> usize {
        let mut status = self.status.clone();
        status.mark_unchanged();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("there is an epoll").block_on(async {
            let end = tokio::time::Instant::now() + time;
            let mut count = 0;
            while let Ok(Ok(())) = tokio::time::timeout_at(end, status.changed()).await {
                count += 1;
            }
            count
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Its own pod networks.
    pub(crate) fn cidrs(&self) -> Vec<String> {
        let cluster = self.cluster.lock().expect("nobody panicked");
        cluster
            .state()
            .node
            .cidrs
            .iter()
            .map(Cidr::to_string)
            .collect()
    }

    /// Its own VTEP MAC.
    pub(crate) fn mac(&self) -> String {
        self.cluster
            .lock()
            .expect("nobody panicked")
            .state()
            .node
            .vtep_mac
            .to_string()
    }

    /// Where an address is.
    pub(crate) fn via(&self, ip: &str) -> String {
        let cluster = self.cluster.lock().expect("nobody panicked");
        let route = cluster.state().route(ip.parse().expect("an address"));
        route.map_or("nowhere".into(), |r| r.via.to_string())
    }

    /// VTEP MAC of a peer.
    pub(crate) fn peer_mac(&self, name: &str) -> Option<String> {
        let cluster = self.cluster.lock().expect("nobody panicked");
        let path = cluster.state().peers.get(name)?.v4.as_ref()?;
        Some(path.vtep_mac.to_string())
    }

    pub(crate) fn peers(&self) -> usize {
        self.cluster
            .lock()
            .expect("nobody panicked")
            .state()
            .peers
            .len()
    }

    /// It gets other outer addresses.
    pub(crate) fn set_addresses(&self, ips: &[&str]) {
        let all: Vec<IpAddr> = ips
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        self.local.send_modify(|local| local.addresses = all);
    }

    pub(crate) fn wait_for_subnet(&self) -> String {
        eventually("the node has a subnet", || !self.cidrs().is_empty());
        self.cidrs().join(" ")
    }

    pub(crate) fn wait_for_route(&self, ip: &str, via: &str) {
        eventually(&format!("{ip} is at {via}"), || self.via(ip) == via);
    }

    pub(crate) fn wait_for_state(&self, state: State) {
        eventually(&format!("it is {state:?}"), || self.status().state == state);
    }

    pub(crate) fn wait_for_problem(&self, part: &str) {
        eventually(part, || {
            self.status().problems.iter().any(|p| p.contains(part))
        });
    }

    pub(crate) fn wait_for_error(&self, part: &str) {
        eventually(part, || {
            self.status().error.is_some_and(|e| e.contains(part))
        });
    }
}
