//! Reads, watches, and settles what follows from it.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_cluster::EncapKind;
use ringway_cluster::flannel::{BackendConf, NetConf};
use ringway_cluster::source::{Apply, Local, Pause, State, Status};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::say::{Outcome, Speaker};
use crate::layout::{Pools, Subnets};
use crate::members::{Members, Record, Records, Rules, Said};
use crate::own::{Hold, View, previous};
use crate::rpc::messages::{
    Event, KeyValue, Op, OpResponse, RangeRequest, TxnRequest, WatchResponse,
};
use crate::rpc::{Client, RpcError, Watch, connect, key_range};
use crate::saved::{Saver, backend};
use crate::{Saved, Settings};

/// News that come within this time of each other are settled together.
const TOGETHER: Duration = Duration::from_millis(20);
/// But none waits longer than this.
const AT_MOST: Duration = Duration::from_millis(200);
/// How long to wait before the servers are tried again, at first and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is still one of a cluster that works, though nothing happens. Also what
/// keeps a token alive (etcd's own end after 5 minutes without use), and when what was refused is offered again.
const CONFIRM: Duration = Duration::from_secs(60);

/// Everything that the thread has.
pub(super) struct Follower {
    settings: Settings,
    local: watch::Receiver<Local>,
    /// Whether somebody still says how this node is.
    local_lives: bool,
    speaker: Speaker,
    status: watch::Sender<Status>,
    saver: Saver,
    hold: Hold,
    previous: Option<Subnets>,
    /// The net-conf's text, and all records.
    config: Option<String>,
    records: Records,
    /// Revision up to which these are everything.
    revision: i64,
    /// When the server said something last; in seconds of the Unix clock, too.
    confirmed: Instant,
    confirmed_s: u64,
    /// Whether it followed when that was last logged.
    logged: Option<bool>,
}

impl Follower {
    pub(super) fn new(
        settings: Settings,
        saved: Option<Saved>,
        local: watch::Receiver<Local>,
        (apply, status): (Apply, watch::Sender<Status>),
    ) -> Self {
        let saved = saved.filter(|s| s.prefix == settings.prefix);
        let said: Said = saved
            .as_ref()
            .map(|s| s.members(&settings).into())
            .unwrap_or_default();
        let own = saved.as_ref().and_then(|s| s.own.clone());
        status.send_modify(|status| {
            status.name = "etcd".into();
            status.state = if saved.is_some() {
                State::Stale
            } else {
                State::Waiting
            };
        });
        Self {
            speaker: Speaker::new(apply, said),
            saver: Saver::new(&settings.saved, saved),
            previous: settings.subnet_env.as_deref().and_then(previous),
            hold: Hold::new(own),
            settings,
            local,
            local_lives: true,
            status,
            config: None,
            records: Records::new(),
            revision: 0,
            confirmed: Instant::now(),
            confirmed_s: 0,
            logged: None,
        }
    }

    /// Follows for ever.
    pub(super) async fn run(&mut self) -> Infallible {
        let mut pause = Pause::between(SHORTEST, LONGEST);
        // Nodes spread over the servers.
        let mut next = usize::from(std::process::id() as u16);
        loop {
            for _ in 0..self.settings.endpoints.len() {
                next = (next + 1) % self.settings.endpoints.len();
                let endpoint = self.settings.endpoints[next].clone();
                let error = match self.session(&endpoint).await {
                    Ok(never) => return never,
                    Err(error) => error,
                };
                if self.logged == Some(true) {
                    pause.reset();
                }
                self.failed(&error);
            }
            tokio::time::sleep(pause.longer()).await;
        }
    }

    /// Writes to disk what is not there yet.
    pub(super) fn save(&mut self) {
        self.saver.write();
    }

    async fn session(&mut self, endpoint: &str) -> Result<Infallible, RpcError> {
        let mut client = connect(&self.settings, endpoint).await?;
        self.hold.connected();
        loop {
            self.read(&mut client).await?;
            let config = self.settings.config_key().into_bytes();
            let ranges = [
                (config, Vec::new()),
                key_range(&self.settings.subnets_key()),
            ];
            let mut watch = client.watch(&ranges, self.revision + 1).await?;
            match self.follow(&mut client, &mut watch).await {
                // This node was too slow for the news; all of it is read instead.
                Err(RpcError::Compacted { revision }) => {
                    tracing::info!(revision, "history of etcd compacted, reading anew");
                }
                Err(e) => return Err(e),
                Ok(never) => match never {},
            }
        }
    }

    /// Reads everything as it was at one revision.
    async fn read(&mut self, client: &mut Client) -> Result<(), RpcError> {
        let (key, range_end) = key_range(&self.settings.subnets_key());
        let config = RangeRequest {
            key: self.settings.config_key().into_bytes(),
            range_end: Vec::new(),
        };
        let request = TxnRequest {
            compare: Vec::new(),
            success: vec![
                Op::Range(config).into(),
                Op::Range(RangeRequest { key, range_end }).into(),
            ],
        };
        let answer = client.txn(request).await?;
        let nonsense = || RpcError::Nonsense {
            endpoint: client.endpoint().to_owned(),
            what: "a read of its keys",
        };
        let revision = answer.header.as_ref().ok_or_else(nonsense)?.revision;
        let mut ranges = answer.responses.into_iter().filter_map(|r| r.op);
        let (Some(OpResponse::Range(config)), Some(OpResponse::Range(all))) =
            (ranges.next(), ranges.next())
        else {
            return Err(nonsense());
        };
        self.revision = revision;
        self.config = config.kvs.first().map(text);
        self.records.clear();
        for kv in &all.kvs {
            self.put(kv);
        }
        self.hold.look_again();
        Ok(())
    }

    async fn follow(
        &mut self,
        client: &mut Client,
        watch: &mut Watch,
    ) -> Result<Infallible, RpcError> {
        self.confirm();
        loop {
            self.settle(client).await?;
            let confirm = self.confirmed + CONFIRM;
            let due = [Some(confirm), self.hold.due(), self.saver.due()];
            let due = due.into_iter().flatten().min().unwrap_or(confirm);
            tokio::select! {
                news = watch.next() => {
                    self.take(&news?);
                    let (begin, mut quiet) = (Instant::now(), Instant::now() + TOGETHER);
                    while let Ok(news) = timeout_at(quiet.min(begin + AT_MOST), watch.next()).await {
                        self.take(&news?);
                        quiet = Instant::now() + TOGETHER;
                    }
                }
                changed = self.local.changed(), if self.local_lives => self.local_lives = changed.is_ok(),
                () = sleep_until(due) => {}
            }
            if self.confirmed.elapsed() >= CONFIRM {
                // Through the cluster's leader: a member that has lost the others cannot answer.
                let key = self.settings.config_key().into_bytes();
                let range_end = Vec::new();
                let success = vec![Op::Range(RangeRequest { key, range_end }).into()];
                let compare = Vec::new();
                client.txn(TxnRequest { compare, success }).await?;
                watch.ask();
                self.confirm();
            }
        }
    }

    fn confirm(&mut self) {
        self.confirmed = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.confirmed_s = since.map_or(0, |d| d.as_secs());
    }

    /// Enters news.
    fn take(&mut self, news: &WatchResponse) {
        self.confirm();
        for event in &news.events {
            self.enter(event);
        }
        if !news.events.is_empty() {
            self.hold.look_again();
        }
    }

    fn enter(&mut self, event: &Event) {
        const DELETED: i32 = 1;
        let Some(kv) = &event.kv else { return };
        let deleted = event.kind == DELETED;
        if kv.key == self.settings.config_key().into_bytes() {
            // One that is gone says nothing: what it said last stays.
            if !deleted {
                self.config = Some(text(kv));
            }
        } else if !deleted {
            self.put(kv);
        } else if let Some(key) = self.end_of(&kv.key) {
            // The own record may have been made anew since.
            let newer = |record: &Record| record.modified > kv.mod_revision;
            if !self.records.get(&key).is_some_and(newer) {
                self.records.remove(&key);
            }
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        let Some(key) = self.end_of(&kv.key) else {
            return;
        };
        let record = Record {
            value: text(kv),
            created: kv.create_revision,
            modified: kv.mod_revision,
            lease: kv.lease,
        };
        let newer = |known: &Record| known.modified > record.modified;
        if !self.records.get(&key).is_some_and(newer) {
            self.records.insert(key, record);
        }
    }

    /// What stands behind `subnets/`.
    fn end_of(&self, key: &[u8]) -> Option<String> {
        let prefix = self.settings.subnets_key();
        let end = key.strip_prefix(prefix.as_bytes())?;
        Some(String::from_utf8_lossy(end).into_owned())
    }

    /// Draws the consequences.
    async fn settle(&mut self, client: &mut Client) -> Result<(), RpcError> {
        let local = self.local.borrow_and_update().clone();
        let mut problems = Vec::new();
        let (all, settings) = (&mut self.records, &self.settings);
        self.hold.renew(client, all, settings).await?;
        match self.conf() {
            Ok(conf) => self.obey(client, &conf, &local, &mut problems).await?,
            Err(why) => {
                self.hold.wait_for_net_conf();
                problems.push(why);
            }
        }
        self.saver.settle();
        problems.extend(self.hold.problem().map(str::to_owned));
        problems.extend(self.speaker.refused().iter().cloned());
        problems.extend(self.saver.problem().map(str::to_owned));
        self.follows(problems, client.endpoint());
        Ok(())
    }

    fn conf(&self) -> Result<NetConf, String> {
        let key = self.settings.config_key();
        match self.config.as_deref().map(NetConf::parse) {
            Some(conf) => conf.map_err(|e| format!("{key}: {e}")),
            None => Err(format!(
                "there is no {key} yet: etcdctl put {key} \
                 '{{\"Network\":\"10.5.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}'"
            )),
        }
    }

    /// Does and says what the net-conf and the records come to.
    async fn obey(
        &mut self,
        client: &mut Client,
        conf: &NetConf,
        local: &Local,
        problems: &mut Vec<String>,
    ) -> Result<(), RpcError> {
        problems.extend(differs(conf, local));
        match Pools::of(conf) {
            Ok(pools) => {
                let view = View {
                    settings: &self.settings,
                    local,
                    pools: &pools,
                    previous: self.previous,
                };
                let all = &mut self.records;
                self.hold.ensure(client, all, &view).await?;
            }
            Err(e) => {
                self.hold.wait_for_net_conf();
                problems.push(format!("{}: {e}", self.settings.config_key()));
            }
        }
        let members = self.members(conf, local);
        problems.extend(members.problems.iter().cloned());
        match self.speaker.say(&members.into()) {
            Outcome::InForce => self.hold.in_force(),
            Outcome::NodeRefused(why) => {
                self.hold.refused(client, &mut self.records, &why).await?;
            }
        }
        self.offer(local);
        Ok(())
    }

    fn members(&self, conf: &NetConf, local: &Local) -> Members {
        let own = self.hold.own();
        let node = own.and_then(|own| own.node(&self.settings.node));
        let rules = Rules {
            own: own.map(|own| own.key.as_str()),
            node: node.as_ref(),
            vni: local.vni,
            backend: backend(conf),
            networks: conf.networks().collect(),
            reserved: local.addresses.clone(),
        };
        Members::of(&self.records, &rules)
    }

    fn offer(&mut self, local: &Local) {
        self.saver.offer(Saved::new(
            &self.settings.prefix,
            self.config.clone().unwrap_or_default(),
            self.hold.own().cloned(),
            local,
            self.records.clone(),
        ));
    }

    fn follows(&mut self, problems: Vec<String>, endpoint: &str) {
        if self.logged != Some(true) {
            tracing::info!(endpoint, "following etcd");
            self.logged = Some(true);
        }
        let new = Status {
            name: "etcd".into(),
            state: State::Current,
            confirmed_s: Some(self.confirmed_s),
            error: None,
            problems,
        };
        for problem in new.problems.iter() {
            if !self.status.borrow().problems.contains(problem) {
                tracing::warn!("etcd: {problem}");
            }
        }
        self.status.send_replace(new);
    }

    fn failed(&mut self, error: &RpcError) {
        let why = error.to_string();
        if self.logged != Some(false) {
            tracing::warn!("etcd is not followed, what it said last stays: {why}");
            self.logged = Some(false);
        }
        self.status.send_modify(|status| {
            if status.state == State::Current {
                status.state = State::Stale;
            }
            status.error = Some(why);
        });
    }
}

/// What this node does otherwise than the net-conf says.
fn differs(conf: &NetConf, local: &Local) -> Option<String> {
    let ours = match local.encap {
        EncapKind::Vxlan => format!("vxlan, VNI {}, port {}", local.vni, local.port),
        EncapKind::Udp => format!("udp, port {}", local.port),
    };
    let theirs = match &conf.backend {
        BackendConf::Vxlan { vni, port, .. } => format!("vxlan, VNI {vni}, port {port}"),
        BackendConf::Udp { port } => format!("udp, port {port}"),
        BackendConf::Other(name) => format!("{name:?}"),
    };
    (ours != theirs).then(|| {
        format!(
            "the net-conf's backend is {theirs}, this node's {ours}: nodes of Flannel do not reach its pods; set \
             underlay.encap, underlay.vni and underlay.port"
        )
    })
}

fn text(kv: &KeyValue) -> String {
    String::from_utf8_lossy(&kv.value).into_owned()
}
