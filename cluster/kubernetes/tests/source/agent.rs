//! An agent as far as a source can tell: a cluster that follows, or refuses.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringway_cluster::source::{Local, Status};
use ringway_cluster::{Change, Cluster, EncapKind};
use ringway_kubernetes::{Handle, Saved, Settings, source, spawn};
use ringway_packet::mac::MacAddr;
use tokio::sync::watch;

/// A node's agent, as far as the source can tell.
pub(crate) struct Agent {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    /// Changes that were applied, and names whose peers are refused.
    pub(crate) applied: Arc<Mutex<usize>>,
    pub(crate) refuse: Arc<Mutex<Vec<&'static str>>>,
    pub(crate) local: watch::Sender<Local>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) handle: Option<Handle>,
    pub(crate) settings: Settings,
    _dir: Arc<tempfile::TempDir>,
}

impl Agent {
    /// That of a node, with a folder of its own.
    pub(crate) fn start(node: &str, kubeconfig: PathBuf) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), node, kubeconfig)
    }

    pub(crate) fn start_in(dir: Arc<tempfile::TempDir>, node: &str, kubeconfig: PathBuf) -> Self {
        let settings = Settings {
            node: node.into(),
            kubeconfig: Some(kubeconfig),
            api_server: None,
            state_dir: dir.path().into(),
            vni: 1,
            vxlan_port: 8472,
            cluster_cidrs: Vec::new(),
            vtep_default: |_| MacAddr([0x0a, 0x58, 10, 244, 1, 0]),
        };
        let saved = Saved::load(&settings).unwrap();
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        if let Some(saved) = &saved {
            let all = Change::Replace(saved.contents(&settings));
            cluster.lock().unwrap().update(&source(), all).unwrap();
        }
        let (applied, refuse) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (to, count, refused) = (cluster.clone(), applied.clone(), refuse.clone());
        let apply = Box::new(move |change: Change| {
            let text = format!("{change:?}");
            if let Some(name) = refused
                .lock()
                .unwrap()
                .iter()
                .find(|name| text.contains(&format!("SetPeer(Peer {{ name: \"{name}\"")))
            {
                return Err(format!("{name} does not suit the underlay"));
            }
            *count.lock().unwrap() += 1;
            to.lock()
                .unwrap()
                .update(&source(), change)
                .map(drop)
                .map_err(|e| e.to_string())
        });
        let nothing = Local {
            forwards: false,
            ..local(node, &[])
        };
        let local = watch::Sender::new(nothing);
        let (status_to, status) = watch::channel(Status::default());
        let handle = spawn(settings.clone(), saved, local.subscribe(), apply, status_to).unwrap();
        Self {
            cluster,
            applied,
            refuse,
            local,
            status,
            handle: Some(handle),
            settings,
            _dir: dir,
        }
    }

    pub(crate) fn via(&self, ip: &str) -> Option<String> {
        let cluster = self.cluster.lock().unwrap();
        cluster
            .state()
            .route(ip.parse().unwrap())
            .map(|route| route.via.to_string())
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.until_within(Duration::from_secs(60), what, holds);
    }

    pub(crate) fn until_within(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !holds(self) {
            assert!(
                Instant::now() < end,
                "not within {limit:?}: {what}; {:#?}",
                self.status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn until_via(&self, ip: &str, via: Option<&str>) {
        self.until(&format!("{ip} by {via:?}"), |agent| {
            agent.via(ip).as_deref() == via
        });
    }

    pub(crate) fn until_problem(&self, wanted: &str) {
        self.until(wanted, |agent| {
            agent.status().problems.iter().any(|p| p.contains(wanted))
        });
    }

    pub(crate) fn stop(mut self) -> Arc<tempfile::TempDir> {
        let begin = Instant::now();
        self.handle.take().unwrap().stop();
        assert!(
            begin.elapsed() < Duration::from_millis(500),
            "{:?}",
            begin.elapsed()
        );
        self._dir.clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop();
        }
    }
}

/// What is in force on a node.
pub(crate) fn local(node: &str, cidrs: &[&str]) -> Local {
    Local {
        node: ringway_cluster::Node {
            name: node.into(),
            cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            vtep_mac: "0a:58:0a:80:01:00".parse().unwrap(),
            vtep_mac_v6: "0a:58:0a:80:01:00".parse().unwrap(),
        },
        addresses: vec!["10.77.0.1".parse().unwrap()],
        encap: EncapKind::Vxlan,
        vni: 1,
        port: 8472,
        pod_mtu: 1450,
        forwards: true,
    }
}
