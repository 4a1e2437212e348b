//! The loop: what was heard, what is to be applied, what is to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringway_cluster::Change;
use ringway_cluster::source::{Apply, Local, State, Status, record};
use tokio::sync::{mpsc, watch as value};
use tokio::task::JoinHandle;

use crate::CONFIG_NAMESPACES;
use crate::alert::Alerts;
use crate::connection::Connection;
use crate::kinds::{Heard, watches};
use crate::members::{Members, NodeChange};
use crate::publish::{self, Publisher};
use crate::report::{self, Queue, Reporter};
use crate::saved::{Saved, source};
use crate::settings::Settings;
use crate::slim::{Invalid, Kind, Namespace, Node, Object, Pod, PodRef, shortened};
use crate::watch::News;

/// News are gathered for so long before they are applied: a thousand a second are fifty changes.
const GATHER: Duration = Duration::from_millis(20);
/// How often the record is written, at most.
const SAVE: Duration = Duration::from_secs(5);
/// When a change that was refused is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// News on the way.
const QUEUE: usize = 1024;
/// Problems that the status names.
const NAMED: usize = 50;

/// What the source is connected to.
pub(crate) struct Ends {
    pub(crate) local: value::Receiver<Local>,
    pub(crate) apply: Apply,
    pub(crate) status: value::Sender<Status>,
    pub(crate) reporter: Reporter,
    pub(crate) reports: Queue,
    pub(crate) stopped: value::Receiver<bool>,
}

/// What was heard, and what has become of it.
struct Source {
    settings: Settings,
    apply: Apply,
    members: Members,
    alerts: Alerts,
    pods: BTreeMap<PodRef, Pod>,
    namespaces: BTreeMap<String, Namespace>,
    /// `net-conf.json` of each namespace.
    net_conf: [Option<String>; 2],
    net_conf_problem: Option<String>,
    /// Outer addresses of this node.
    outer: Vec<IpAddr>,
    /// Objects that cannot be read, by kind and name.
    unreadable: BTreeMap<(&'static str, String), String>,
    /// Changes that control has refused.
    refused: BTreeMap<String, String>,
    /// Kinds that have been listed, and that fail.
    listed: BTreeSet<&'static str>,
    failing: BTreeMap<&'static str, String>,
    publisher: Publisher,
    /// How often the watch has said something of this node: now, and when the last write began.
    told: u64,
    told_at_write: u64,
    /// Unix seconds at which all kinds were last current.
    confirmed_s: Option<u64>,
    /// Whether the record is behind.
    unsaved: bool,
    unsaved_problem: Option<String>,
}

/// The ConfigMap in each of the two namespaces.
const CONFIGS: [&str; 2] = ["configmaps in kube-flannel", "configmaps in kube-system"];
/// Kinds without which the cluster is not known.
const NEEDED: [&str; 1] = ["nodes"];

/// Runs until it is stopped.
pub(crate) async fn run(settings: Settings, saved: Option<Saved>, ends: Ends) {
    let Ends {
        mut local,
        apply,
        status,
        reporter,
        reports,
        mut stopped,
    } = ends;
    let alerts = Alerts::new(&settings.node, reporter);
    let mut this = Source::new(settings, saved, (apply, alerts));
    // What is there already is news to it.
    local.mark_changed();
    this.tell(&status);
    let connection = Arc::new(Connection::new(this.settings.clone()));
    let (sender, mut heard) = mpsc::channel(QUEUE);
    let (flannel, has_flannel) = value::channel(false);
    let watches = watches(&this.settings, &connection, &sender, has_flannel);
    drop(sender);
    let node = this.settings.node.clone();
    let reporting = tokio::spawn(report::run(connection.clone(), node, reports));
    // A patch on its way: a server that does not answer delays nothing else.
    let mut publishing: Option<Written> = None;
    let now = Instant::now();
    let (mut apply_at, mut save_at): (Option<Instant>, _) = (None, now + SAVE);
    loop {
        let publish_at = this.publisher.due().unwrap_or(now);
        let wake = apply_at.into_iter().chain(this.unsaved.then_some(save_at));
        let wake = wake.chain(this.alerts.due());
        let wake = wake
            .chain((publishing.is_none() && this.wants_to_publish(&local)).then_some(publish_at))
            .min();
        let wait = wake.map(|at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            news = heard.recv() => {
                let Some(news) = news else { break };
                this.hear(news);
                while let Ok(more) = heard.try_recv() {
                    this.hear(more);
                }
                let has = this.namespaces.contains_key(CONFIG_NAMESPACES[0]);
                flannel.send_if_modified(|had| std::mem::replace(had, has) != has);
                if !has && this.listed.contains("namespaces") {
                    this.forget_flannel();
                }
                apply_at = apply_at.min(Some(Instant::now() + GATHER)).or(Some(Instant::now() + GATHER));
            }
            changed = local.changed() => {
                if changed.is_err() { break }
                this.outer.clone_from(&local.borrow_and_update().addresses);
                this.follow_rules();
                apply_at = Some(Instant::now());
            }
            () = tokio::time::sleep(wait.unwrap_or(RETRY)) => {
                // Nothing to do for so long: what was refused is tried again.
                if wait.is_none() { apply_at = Some(Instant::now()); }
            }
            written = finished(&mut publishing) => {
                publishing = None;
                this.published(written);
                this.tell(&status);
            }
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        if apply_at.is_some_and(|at| at <= Instant::now()) {
            apply_at = None;
            this.apply_pending();
            if this.listed.contains("nodes") {
                this.alerts.look(&this.members, Instant::now());
            }
            this.tell(&status);
        }
        if this.alerts.due().is_some_and(|at| at <= Instant::now()) {
            this.alerts.look(&this.members, Instant::now());
        }
        if publishing.is_none() && this.publisher.due().is_none_or(|at| at <= Instant::now()) {
            publishing = this.publish(&connection, &local);
        }
        if this.unsaved && save_at <= Instant::now() {
            save_at = Instant::now() + SAVE;
            this.save();
        }
    }
    watches.into_iter().for_each(|watch| watch.abort());
    reporting.abort();
    publishing.inspect(JoinHandle::abort);
    if this.unsaved {
        this.save();
    }
}

/// A Node that is being written.
type Written = JoinHandle<Result<Object<Node>, String>>;

/// The end of it; never, if there is none.
async fn finished(task: &mut Option<Written>) -> Result<Object<Node>, String> {
    match task {
        Some(task) => task.await.unwrap_or_else(|e| Err(e.to_string())),
        None => std::future::pending().await,
    }
}

impl Source {
    fn new(settings: Settings, saved: Option<Saved>, (apply, alerts): (Apply, Alerts)) -> Self {
        let (rules, problem) = crate::rules(&settings, None, &[]);
        let mut this = Self {
            members: Members::new(source(), rules, settings.vtep_default),
            settings,
            apply,
            alerts,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            net_conf: [None, None],
            net_conf_problem: problem,
            outer: Vec::new(),
            unreadable: BTreeMap::new(),
            refused: BTreeMap::new(),
            listed: BTreeSet::new(),
            failing: BTreeMap::new(),
            publisher: Publisher::default(),
            told: 0,
            told_at_write: 0,
            confirmed_s: None,
            unsaved: false,
            unsaved_problem: None,
        };
        if let Some(saved) = saved {
            this.members = saved.members(&this.settings);
            // The agent has started with it.
            this.members.all_done();
            this.confirmed_s = Some(saved.confirmed_s);
            // Which of the two it was is not on record; the one that is followed in any case says soon what it is.
            let has_flannel = saved
                .namespaces
                .iter()
                .any(|s| s.name == CONFIG_NAMESPACES[0]);
            this.net_conf[usize::from(!has_flannel)] = saved.net_conf;
            let pods = saved.pods.into_iter();
            this.pods = pods.map(|pod| (pod.id.clone(), pod)).collect();
            let spaces = saved.namespaces.into_iter();
            this.namespaces = spaces.map(|space| (space.name.clone(), space)).collect();
        }
        this
    }

    fn hear(&mut self, news: Heard) {
        match news {
            Heard::Nodes(news) => {
                if let Some(news) = self.judge("nodes", news) {
                    match news {
                        News::All(mut nodes, bad) => {
                            // What one was before it could not be read any more holds.
                            let known = bad.iter().filter_map(|b| self.members.node(&b.name));
                            nodes.extend(known.cloned());
                            self.members.replace(nodes);
                            self.unsaved = true;
                            self.told += 1;
                        }
                        News::Set(node) => {
                            self.told += u64::from(*node.name == *self.settings.node);
                            self.unsaved |= self.members.set(node);
                        }
                        News::Gone(_, name) => {
                            self.members.remove(&name);
                            self.unsaved = true;
                        }
                        _ => {}
                    }
                }
            }
            Heard::Pods(news) => {
                let news = self.judge("pods", news);
                let gone = |namespace: Option<String>, name| PodRef {
                    namespace: namespace.unwrap_or_default(),
                    name,
                };
                self.unsaved |= enter(&mut self.pods, |pod| pod.id.clone(), gone, news);
            }
            Heard::Namespaces(news) => {
                let news = self.judge("namespaces", news);
                let spaces = &mut self.namespaces;
                self.unsaved |= enter(spaces, |space| space.name.clone(), |_, name| name, news);
            }
            Heard::Config(which, news) => {
                let text = match self.judge(CONFIGS[which], news) {
                    Some(News::All(all, _)) => all.into_iter().find_map(|map| map.net_conf),
                    Some(News::Set(map)) => map.net_conf,
                    Some(News::Gone(..)) => None,
                    _ => return,
                };
                if self.net_conf[which] != text {
                    self.net_conf[which] = text;
                    self.unsaved = true;
                    self.follow_rules();
                }
            }
        }
    }

    /// Takes in how the kind stands and what of it cannot be read; the rest comes back.
    fn judge<T: Kind>(&mut self, kind: &'static str, news: News<T>) -> Option<News<T>> {
        match &news {
            News::Failed(why) => {
                self.failed(kind, why.clone());
                return None;
            }
            News::Missing if NEEDED.contains(&kind) => {
                let why =
                    "the server does not know them; is it an API server, and is its URL right?";
                self.failed(kind, why.into());
                return None;
            }
            // Not there is an answer, too.
            News::Missing | News::Confirmed => {}
            News::All(_, bad) => {
                self.unreadable.retain(|(of, _), _| *of != kind);
                let named = bad.iter().map(|b| ((kind, b.name.clone()), b.to_string()));
                self.unreadable.extend(named);
            }
            News::Unreadable(invalid) => {
                let Invalid { name, .. } = invalid;
                self.unreadable
                    .insert((kind, name.clone()), invalid.to_string());
            }
            News::Gone(_, name) => {
                self.unreadable.remove(&(kind, shortened(name)));
            }
            News::Set(object) => {
                self.unreadable.remove(&(kind, object.name().to_owned()));
            }
        }
        if self.failing.remove(kind).is_some() && self.failing.is_empty() {
            tracing::info!("the Kubernetes API answers again");
        }
        if self.listed.insert(kind) && self.listed.len() == 1 {
            tracing::info!("the Kubernetes API answers");
        }
        Some(news)
    }

    fn failed(&mut self, kind: &'static str, why: String) {
        if self.failing.is_empty() {
            self.confirmed_s = self.current().then(now_s).or(self.confirmed_s);
            tracing::warn!("the Kubernetes API: {kind}: {why}; what it said before stays in force");
        }
        self.failing.insert(kind, why);
    }

    /// Whether everything that is needed was listed and is followed.
    fn current(&self) -> bool {
        let follows =
            |kind: &&str| self.listed.contains(*kind) && !self.failing.contains_key(*kind);
        NEEDED.iter().all(follows)
    }

    /// Nodes are held against what net-conf.json and this node's own addresses are now.
    fn follow_rules(&mut self) {
        let text = self.net_conf().map(String::as_str);
        let (rules, problem) = crate::rules(&self.settings, text, &self.outer);
        if problem != self.net_conf_problem
            && let Some(problem) = &problem
        {
            tracing::warn!("{problem}");
        }
        self.net_conf_problem = problem;
        self.members.set_rules(rules);
    }

    /// Flannel's own namespace is not there: nobody follows what was in it.
    fn forget_flannel(&mut self) {
        self.failing.remove(CONFIGS[0]);
        if self.net_conf[0].take().is_some() {
            self.unsaved = true;
            self.follow_rules();
        }
    }

    /// The text that counts, of the two that there may be.
    fn net_conf(&self) -> Option<&String> {
        self.net_conf.iter().flatten().next()
    }

    /// All that is pending at once; if that is refused, Node by Node, so that one costs no other anything.
    fn apply_pending(&mut self) {
        // Before the list is there, what was recorded holds.
        if !self.listed.contains("nodes") {
            return;
        }
        let pending = self.members.pending();
        if pending.is_empty() {
            self.refused.clear();
            return;
        }
        // This node itself may be refused for its pods' sake.
        let (own, others): (Vec<_>, Vec<_>) = pending.into_iter().partition(|change| change.own);
        let before = std::mem::take(&mut self.refused);
        for group in [own, others] {
            if group.is_empty() {
                continue;
            }
            let all: Vec<Change> = group
                .iter()
                .flat_map(|c| c.changes.iter().cloned())
                .collect();
            match (self.apply)(Change::Several(all)) {
                Ok(()) => group
                    .into_iter()
                    .for_each(|change| self.members.done(change)),
                Err(why) if group.len() == 1 => self.refuse(&group[0], why),
                Err(_) => self.one_by_one(group),
            }
        }
        for (name, why) in &self.refused {
            if before.get(name) != Some(why) {
                tracing::warn!(node = name, "it is not followed: {why}");
            }
        }
    }

    /// As long as some of them are taken, others may have become possible.
    fn one_by_one(&mut self, mut group: Vec<NodeChange>) {
        loop {
            let count = group.len();
            let mut left = Vec::new();
            for change in group {
                match (self.apply)(Change::Several(change.changes.clone())) {
                    Ok(()) => {
                        self.refused.remove(&*change.name);
                        self.members.done(change);
                    }
                    Err(why) => {
                        self.refuse(&change, why);
                        left.push(change);
                    }
                }
            }
            if left.is_empty() || left.len() == count {
                return;
            }
            group = left;
        }
    }

    fn refuse(&mut self, change: &NodeChange, why: String) {
        self.refused.insert(change.name.to_string(), why);
    }

    fn wants_to_publish(&mut self, local: &value::Receiver<Local>) -> bool {
        if !self.current() {
            return false;
        }
        let local = local.borrow();
        let node = self.members.node(&self.settings.node);
        node.is_some_and(|node| self.publisher.wanted(node, &local).is_some())
    }

    /// Begins to write what differs, if anything does.
    fn publish(
        &mut self,
        connection: &Arc<Connection>,
        local: &value::Receiver<Local>,
    ) -> Option<Written> {
        if !self.current() {
            return None;
        }
        let node = self.members.node(&self.settings.node)?;
        let local = local.borrow().clone();
        let patch = self.publisher.wanted(node, &local)?;
        self.publisher.begin(&patch);
        self.told_at_write = self.told;
        let (connection, name) = (connection.clone(), self.settings.node.clone());
        let write = async move { publish::write(&connection, &name, &patch).await };
        Some(tokio::spawn(write))
    }

    /// What was written is known without waiting for the watch to say so; if the watch has said something of this
    /// node meanwhile, that may be what somebody has written since.
    fn published(&mut self, written: Result<Object<Node>, String>) {
        let before: Vec<String> = self.publisher.problems().cloned().collect();
        let result = written.as_ref().map(|_| ()).map_err(String::as_str);
        self.publisher.done(result);
        for problem in self.publisher.problems().filter(|p| !before.contains(p)) {
            tracing::warn!("{problem}");
        }
        if let Ok(Ok(node)) = written.map(|object| object.value)
            && self.told == self.told_at_write
        {
            self.unsaved |= self.members.set(node);
        }
    }

    fn save(&mut self) {
        let confirmed_s = if self.current() {
            now_s()
        } else {
            self.confirmed_s.unwrap_or(0)
        };
        let mut saved = Saved::new(&self.settings.node, confirmed_s);
        saved.net_conf = self.net_conf().cloned();
        saved.nodes = self.members.nodes().cloned().collect();
        saved.pods = self.pods.values().cloned().collect();
        saved.namespaces = self.namespaces.values().cloned().collect();
        let file = self.settings.saved();
        let problem = record::write(&file, &saved).err().map(|e| {
            let file = file.display();
            format!("{file} cannot be written ({e}): a start while the API is away would not know its peers")
        });
        if problem.is_some() && problem != self.unsaved_problem {
            tracing::warn!("{}", problem.as_deref().unwrap_or_default());
        }
        // What could not be written is tried again with the next change.
        self.unsaved = false;
        self.unsaved_problem = problem;
    }

    fn tell(&self, status: &value::Sender<Status>) {
        let current = self.current();
        let state = match (current, self.confirmed_s) {
            (true, _) => State::Current,
            (false, Some(_)) => State::Stale,
            (false, None) => State::Waiting,
        };
        let error = self
            .failing
            .iter()
            .next()
            .map(|(kind, why)| format!("{kind}: {why}"));
        let refused = self
            .refused
            .iter()
            .map(|(name, why)| format!("node {name}: {why}"));
        let mut problems: Vec<String> = self.net_conf_problem.iter().cloned().collect();
        problems.extend(self.publisher.problems().cloned());
        problems.extend(self.unsaved_problem.clone());
        problems.extend(refused);
        problems.extend(self.members.problems().map(|(_, p)| p.text.clone()));
        problems.extend(self.unreadable.values().cloned());
        let more = problems.len().saturating_sub(NAMED);
        if more > 0 {
            problems.truncate(NAMED);
            problems.push(format!("{more} more"));
        }
        let next = Status {
            name: source().to_string(),
            state,
            confirmed_s: if current { None } else { self.confirmed_s },
            error,
            problems,
        };
        status.send_if_modified(|was| {
            let differs = *was != next;
            *was = next;
            differs
        });
    }
}

/// Enters news of a kind, each object by its key; whether anything of it is another now.
fn enter<K: Ord, T: Kind + PartialEq>(
    all: &mut BTreeMap<K, T>,
    key: impl Fn(&T) -> K,
    gone: impl Fn(Option<String>, String) -> K,
    news: Option<News<T>>,
) -> bool {
    match news {
        Some(News::All(objects, _)) => {
            *all = objects
                .into_iter()
                .map(|object| (key(&object), object))
                .collect();
            true
        }
        Some(News::Set(object)) => match all.get(&key(&object)) {
            Some(known) if *known == object => false,
            _ => {
                all.insert(key(&object), object);
                true
            }
        },
        Some(News::Gone(namespace, name)) => all.remove(&gone(namespace, name)).is_some(),
        _ => false,
    }
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
