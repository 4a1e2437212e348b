//! The last good state, in one file: what the records were, and which was this node's.
//!
//! Written whole, to a temporary name and renamed, when it has changed and at most every [`EVERY`]. An agent that
//! starts while etcd is away goes on with it. A file that cannot be understood, or of a newer version, is set aside
//! and named in the log: the node then waits for etcd as a new one does.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_cluster::flannel::{BackendConf, NetConf};
use ringway_cluster::source::Local;
use ringway_cluster::source::record::{self, beside};
use ringway_cluster::{Contents, EncapKind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Settings;
use crate::members::{Members, Records, Rules};
use crate::own::Own;

/// Version of the format that this program writes.
const SCHEMA: u64 = 1;
/// How often it is written at most.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// What an agent knew last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    schema: u64,
    /// Of another prefix it is another cluster's.
    pub(crate) prefix: String,
    /// The net-conf.
    pub(crate) config: String,
    pub(crate) own: Option<Own>,
    /// VNI that this node had.
    pub(crate) vni: u32,
    /// Outer addresses that this node had.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) records: Records,
}

impl Saved {
    pub(crate) fn new(
        prefix: &str,
        config: String,
        own: Option<Own>,
        local: &Local,
        records: Records,
    ) -> Self {
        Self {
            schema: SCHEMA,
            prefix: prefix.to_owned(),
            config,
            own,
            vni: local.vni,
            addresses: local.addresses.clone(),
            records,
        }
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or what cannot be understood cannot be set aside.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let why = match serde_json::from_slice::<Saved>(&text) {
            Ok(saved) if saved.schema == SCHEMA => return Ok(Some(saved)),
            Ok(saved) => format!(
                "its schema is {}, this version knows {SCHEMA}",
                saved.schema
            ),
            Err(e) => e.to_string(),
        };
        let aside = beside(path, "damaged");
        fs::rename(path, &aside)?;
        let (path, aside) = (path.display(), aside.display());
        tracing::warn!(%path, %aside, why, "last good state set aside; this node waits for etcd");
        Ok(None)
    }

    /// The net-conf, as it was read; nothing if it is of another prefix.
    pub fn net_conf(&self, settings: &Settings) -> Option<&str> {
        (self.prefix == settings.prefix).then_some(&*self.config)
    }

    /// What it comes to; nothing if it is of another prefix.
    pub fn contents(&self, settings: &Settings) -> Contents {
        self.members(settings).contents()
    }

    pub(crate) fn members(&self, settings: &Settings) -> Members {
        let Some(conf) = self.conf().filter(|_| self.prefix == settings.prefix) else {
            return Members::default();
        };
        let node = self.own.as_ref().and_then(|own| own.node(&settings.node));
        let rules = Rules {
            own: self.own.as_ref().map(|own| own.key.as_str()),
            node: node.as_ref(),
            vni: self.vni,
            backend: backend(&conf),
            networks: conf.networks().collect(),
            reserved: self.addresses.clone(),
        };
        Members::of(&self.records, &rules)
    }

    fn conf(&self) -> Option<NetConf> {
        NetConf::parse(&self.config).ok()
    }
}

/// The encapsulation of the net-conf, as far as it matters to what a reservation is.
pub(crate) fn backend(conf: &NetConf) -> EncapKind {
    match conf.backend {
        BackendConf::Udp { .. } => EncapKind::Udp,
        _ => EncapKind::Vxlan,
    }
}

/// Writes it when it is due.
pub(crate) struct Saver {
    path: PathBuf,
    last: Option<Saved>,
    next: Option<Saved>,
    not_before: Instant,
    problem: Option<String>,
}

impl Saver {
    pub(crate) fn new(path: &Path, last: Option<Saved>) -> Self {
        Self {
            path: path.to_owned(),
            last,
            next: None,
            not_before: Instant::now(),
            problem: None,
        }
    }

    /// This is what there is now.
    pub(crate) fn offer(&mut self, saved: Saved) {
        self.next = (self.last.as_ref() != Some(&saved)).then_some(saved);
    }

    /// Writes it if it is due.
    pub(crate) fn settle(&mut self) {
        if Instant::now() >= self.not_before {
            self.write();
        }
    }

    /// When it is to be written although nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next.as_ref().map(|_| self.not_before)
    }

    /// Why it is not on disk.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Writes what is not written yet.
    pub(crate) fn write(&mut self) {
        let Some(next) = self.next.take() else {
            return;
        };
        self.not_before = Instant::now() + EVERY;
        match record::write(&self.path, &next) {
            Ok(()) => {
                self.problem = None;
                self.last = Some(next);
            }
            Err(e) => {
                let path = self.path.display();
                self.problem = Some(format!(
                    "cannot write {path}, a restart would not know its peers: {e}"
                ));
                self.next = Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Record;

    fn saved(count: usize) -> Saved {
        let record = |i: usize| {
            let (a, b) = (i >> 8, i & 255);
            let value = format!(
                r#"{{"PublicIP":"10.77.{a}.{b}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"12:c6:65:89:{a:02x}:{b:02x}"}}}}"#
            );
            let (created, modified, lease) = (1, 1, 7587862094675312345);
            let record = Record {
                value,
                created,
                modified,
                lease,
            };
            (format!("10.{}.{b}.0-24", 128 + a), record)
        };
        Saved {
            schema: SCHEMA,
            prefix: Settings::PREFIX.into(),
            config: r#"{"Network":"10.128.0.0/9","Backend":{"Type":"vxlan"}}"#.into(),
            vni: 1,
            records: (0..count).map(record).collect(),
            ..Saved::default()
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    }

    #[test]
    fn what_is_written_is_read_once_it_is_due_and_only_what_changed() {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("etcd.json");
            assert_eq!(Saved::load(&path).unwrap(), None);
            let mut saver = Saver::new(&path, None);
            saver.offer(saved(2));
            saver.settle();
            let read = Saved::load(&path).unwrap().unwrap();
            assert_eq!(read.records, saved(2).records);
            assert_eq!(saver.due(), None);
            // Not yet again.
            saver.offer(saved(3));
            saver.settle();
            assert!(saver.due().unwrap() > Instant::now());
            assert_eq!(Saved::load(&path).unwrap().unwrap(), read);
            // And back: there is nothing to write.
            saver.offer(saved(2));
            assert_eq!(saver.due(), None);
            saver.offer(saved(3));
            saver.write();
            assert_eq!(Saved::load(&path).unwrap().unwrap().records.len(), 3);
        });
    }

    #[test]
    fn five_thousand_nodes_take_a_megabyte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.json");
        let all = saved(5000);
        record::write(&path, &all).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        println!("last good state of 5,000 nodes: {size} bytes");
        assert!(size < 2_000_000, "{size}");
        assert_eq!(Saved::load(&path).unwrap(), Some(all));
    }

    #[test]
    fn a_damaged_or_newer_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.json");
        let mut newer = saved(1);
        newer.schema = SCHEMA + 1;
        for text in [
            b"{\"schema\":1".to_vec(),
            Vec::new(),
            serde_json::to_vec(&newer).unwrap(),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(Saved::load(&path).unwrap(), None);
            assert!(!path.exists());
            assert_eq!(fs::read(beside(&path, "damaged")).unwrap(), text);
        }
    }

    #[test]
    fn where_it_cannot_be_written_that_is_a_problem_and_it_is_tried_again() {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("none/etcd.json");
            let mut saver = Saver::new(&path, None);
            saver.offer(saved(1));
            saver.settle();
            assert!(saver.problem().unwrap().contains("cannot write"));
            assert!(saver.due().is_some());
            fs::create_dir(folder.path().join("none")).unwrap();
            saver.write();
            assert_eq!((saver.problem(), saver.due()), (None, None));
        });
    }
}
