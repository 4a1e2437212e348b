//! Events: what an operator should know, where `kubectl describe` shows it.
//!
//! An Event is a write to etcd, and a node in trouble has the same trouble a hundred times a second. So the same is
//! reported once in ten minutes, there is a bucket for what differs, and a queue that is full loses Events and nothing
//! else. events.k8s.io/v1 is written, not core/v1, which is kept for older programs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Who};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::settings::chain;
use crate::slim::{PodRef, shortened};

/// Events on the way.
const QUEUE: usize = 64;
/// How long the same is not said again.
const SAME: Duration = Duration::from_secs(600);
/// Events at once, and the time after which there may be one more.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(10);
/// How long the server may take to take one.
const ANSWER: Duration = Duration::from_secs(10);
/// Kinds of Events that are remembered.
const REMEMBERED: usize = 1024;

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// A node, by its name.
    Node(String),
    /// One of its pods, with its UID.
    Pod(PodRef, String),
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// What it is about.
    pub about: About,
    /// Whether something is wrong.
    pub warning: bool,
    /// In a word, as `AttachFailed`.
    pub reason: &'static str,
    /// What was tried: `Attaching`.
    pub action: &'static str,
    /// What, and the remedy.
    pub note: String,
}

/// Takes Events, from any thread; never blocks.
#[derive(Clone)]
pub struct Reporter(mpsc::Sender<Report>);

/// The other end.
pub(crate) type Queue = mpsc::Receiver<Report>;

impl Reporter {
    pub(crate) fn new() -> (Self, Queue) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self(sender), queue)
    }

    /// Reports; whether there was room.
    pub fn report(&self, report: Report) -> bool {
        self.0.try_send(report).is_ok()
    }
}

/// Writes what comes.
pub(crate) async fn run(connection: Arc<Connection>, node: String, mut queue: Queue) {
    let mut pace = Pace::new(Instant::now());
    while let Some(report) = queue.recv().await {
        if !pace.may(&report, Instant::now()) {
            continue;
        }
        // One that is kept makes a series of what differs in its note alone, which is a patch of the first.
        let (to, made) = match connection.client().await {
            Ok((client, made)) => (recorder_of(client, &node), made),
            Err(e) => {
                tracing::debug!("an Event cannot be written: {e}");
                continue;
            }
        };
        let event = Event {
            type_: if report.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: report.reason.into(),
            note: Some(shortened(&report.note)),
            action: report.action.into(),
            secondary: None,
        };
        let about = reference(&report.about);
        let why = match timeout(ANSWER, to.publish(&event, &about)).await {
            Ok(Ok(())) => continue,
            Ok(Err(e)) => chain(&e),
            Err(_) => format!("no answer for {} s", ANSWER.as_secs()),
        };
        connection.doubt(made).await;
        tracing::debug!("an Event cannot be written: {why}");
    }
}

fn recorder_of(client: Client, node: &str) -> Recorder {
    let who = Who {
        controller: "ringway".into(),
        instance: Some(node.into()),
    };
    Recorder::new(client, who)
}

fn reference(about: &About) -> ObjectReference {
    match about {
        // The kubelet names its node by name and UID alike, and `kubectl describe node` looks for that.
        About::Node(node) => ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.clone()),
            uid: Some(node.clone()),
            ..ObjectReference::default()
        },
        About::Pod(pod, uid) => ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        },
    }
}

/// Which Events are written.
struct Pace {
    tokens: u32,
    refilled: Instant,
    said: HashMap<Report, Instant>,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            refilled: now,
            said: HashMap::new(),
        }
    }

    fn may(&mut self, report: &Report, now: Instant) -> bool {
        self.said.retain(|_, at| now.duration_since(*at) < SAME);
        if self.said.contains_key(report) {
            return false;
        }
        while self.tokens < BURST && now.duration_since(self.refilled) >= REFILL {
            self.tokens += 1;
            self.refilled += REFILL;
        }
        if self.tokens == 0 {
            return false;
        }
        if self.tokens == BURST {
            self.refilled = now;
        }
        self.tokens -= 1;
        if self.said.len() < REMEMBERED {
            self.said.insert(report.clone(), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(note: u32) -> Report {
        Report {
            about: About::Node("n1".into()),
            warning: true,
            reason: "RangeFull",
            action: "Attaching",
            note: note.to_string(),
        }
    }

    #[test]
    fn the_same_is_said_once_in_ten_minutes() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert!(pace.may(&report(1), begin));
        assert!(!pace.may(&report(1), begin + SAME / 2));
        assert!(pace.may(&report(1), begin + SAME));
    }

    #[test]
    fn a_node_in_trouble_writes_ten_and_then_six_a_minute() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let written = |pace: &mut Pace, from: u32, at| {
            (from..from + 1000)
                .filter(|n| pace.may(&report(*n), at))
                .count()
        };
        assert_eq!(written(&mut pace, 0, begin), 10);
        assert_eq!(written(&mut pace, 1000, begin + Duration::from_secs(59)), 5);
        assert_eq!(written(&mut pace, 2000, begin + Duration::from_secs(60)), 1);
    }

    #[test]
    fn a_full_queue_loses_events_and_blocks_nobody() {
        let (reporter, _queue) = Reporter::new();
        let taken = (0..1000).filter(|n| reporter.report(report(*n))).count();
        assert_eq!(taken, QUEUE);
    }
}
