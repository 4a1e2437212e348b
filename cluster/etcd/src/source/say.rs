//! What this source says, at once where that is possible, else as much of it as is taken.

use ringway_cluster::Change;
use ringway_cluster::source::Apply;

use crate::members::{Said, one_by_one};

/// Says what differs from what is in force.
pub(super) struct Speaker {
    apply: Apply,
    said: Said,
    /// Whether anything was said by this agent.
    spoken: bool,
    refused: Vec<String>,
}

/// What became of this node's own part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in force.
    InForce,
    /// The rest may be.
    NodeRefused(String),
}

impl Speaker {
    /// `said` is in force already.
    pub(super) fn new(apply: Apply, said: Said) -> Self {
        Self {
            apply,
            said,
            spoken: false,
            refused: Vec::new(),
        }
    }

    /// What was not taken, and why.
    pub(super) fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Says it. A contradiction (with the file's peers, with what pods need) costs only the peer that has it.
    pub(super) fn say(&mut self, wanted: &Said) -> Outcome {
        self.refused.clear();
        // Once as a whole, whatever else may be in force of an earlier agent's.
        let changes = self.said.changes(wanted);
        let whole = match self.spoken {
            false => Change::Replace(wanted.contents()),
            true if changes.is_empty() => return Outcome::InForce,
            true => Change::Several(changes.clone()),
        };
        self.spoken = true;
        if (self.apply)(whole.clone()).is_ok() {
            self.said.enter(&whole);
            return Outcome::InForce;
        }
        let mut outcome = Outcome::InForce;
        for (who, part) in one_by_one(changes, &self.said) {
            match (self.apply)(part.clone()) {
                Ok(()) => self.said.enter(&part),
                Err(why) => {
                    if who == "this node" {
                        outcome = Outcome::NodeRefused(why.clone());
                    }
                    self.refused.push(format!("{who} is not followed: {why}"));
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Members, Record, Records, Rules, source};
    use ringway_cluster::{Cluster, EncapKind, Peer, Route, Source, Via};
    use std::sync::{Arc, Mutex};

    fn said(ips: &[u8]) -> Said {
        let record = |i: &u8| {
            let value = format!(r#"{{"PublicIP":"10.77.0.{i}","PublicIPv6":null}}"#);
            let (created, modified, lease) = (1, 1, 1);
            (
                format!("10.5.{i}.0-24"),
                Record {
                    value,
                    created,
                    modified,
                    lease,
                },
            )
        };
        let records: Records = ips.iter().map(record).collect();
        let rules = Rules {
            own: None,
            node: None,
            vni: 1,
            backend: EncapKind::Udp,
            networks: vec!["10.5.0.0/16".parse().unwrap()],
            reserved: Vec::new(),
        };
        Members::of(&records, &rules).into()
    }

    /// A cluster of which a file says that peer `filed` has 10.77.0.3.
    fn cluster() -> Arc<Mutex<Cluster>> {
        let mut cluster = Cluster::default();
        let peer = Peer {
            name: "filed".into(),
            addresses: Arc::from(["10.77.0.3".parse().unwrap()]),
            v4: None,
            v6: None,
            source: Source::new("file"),
        };
        cluster
            .update(&Source::new("file"), Change::SetPeer(peer))
            .unwrap();
        Arc::new(Mutex::new(cluster))
    }

    #[test]
    fn one_that_contradicts_the_file_is_named_and_the_others_are_followed() {
        let cluster = cluster();
        let into = cluster.clone();
        let apply: Apply = Box::new(move |change| {
            let mut cluster = into.lock().unwrap();
            cluster
                .update(&source(), change)
                .map(drop)
                .map_err(|e| e.to_string())
        });
        let mut speaker = Speaker::new(apply, Said::default());
        assert_eq!(speaker.say(&said(&[2, 3, 4])), Outcome::InForce);
        let refused = speaker.refused().join("\n");
        assert!(
            refused.starts_with("node 10.77.0.3 is not followed: 10.77.0.3 is an address of peer"),
            "{refused}"
        );
        let leads = |ip: &str| {
            let cluster = cluster.lock().unwrap();
            let route: Option<&Route> = cluster.state().route(ip.parse().unwrap());
            route.map(|r| r.via.clone())
        };
        assert_eq!(leads("10.5.2.1"), Some(Via::Peer("10.77.0.2".into())));
        assert_eq!(leads("10.5.3.1"), None);
        assert_eq!(leads("10.5.4.1"), Some(Via::Peer("10.77.0.4".into())));
        // It is offered again with the next news, and taken once the file has let it go.
        cluster
            .lock()
            .unwrap()
            .update(&Source::new("file"), Change::RemovePeer("filed".into()))
            .unwrap();
        speaker.say(&said(&[3, 4]));
        assert_eq!(speaker.refused(), [""; 0]);
        assert_eq!(leads("10.5.2.1"), None);
        assert_eq!(leads("10.5.3.1"), Some(Via::Peer("10.77.0.3".into())));
    }

    #[test]
    fn what_does_not_differ_is_not_said() {
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let apply: Apply = Box::new(move |_| {
            *counted.lock().unwrap() += 1;
            Ok(())
        });
        let mut speaker = Speaker::new(apply, said(&[2]));
        for _ in 0..3 {
            speaker.say(&said(&[2]));
        }
        // The first time as a whole, whatever is in force.
        assert_eq!(*count.lock().unwrap(), 1);
        speaker.say(&said(&[2, 4]));
        assert_eq!(*count.lock().unwrap(), 2);
    }
}
