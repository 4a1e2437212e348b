//! What is wrong with Nodes, told once: in the log of every node, and by one of them as an Event.
//!
//! Every agent sees the same, and a cluster of a thousand nodes must not write a thousand Events. So each reports what
//! is wrong with its own Node, and the oldest node that has an agent reports the rest: what is wrong with nodes that
//! have none, and that the two ends of a path speak different encapsulations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::members::{Members, Problem, ProblemKind};
use crate::report::{About, Report, Reporter};

/// New ones that the log names at once.
const LOGGED: usize = 20;

/// What lasts so long is an Event: agents that start together do not know of each other at first.
const LASTS: Duration = Duration::from_secs(3);
/// After so long it is asked again whose it is to report: who it was may be gone.
const AGAIN: Duration = Duration::from_secs(60);

/// What was told already.
pub(crate) struct Alerts {
    own: Arc<str>,
    reporter: Reporter,
    told: BTreeMap<Arc<str>, Vec<Told>>,
}

/// A problem that the log has.
struct Told {
    problem: Problem,
    /// When it is to be asked whether it is ours to report; never again once it was reported.
    ask: Option<Instant>,
}

impl Alerts {
    pub(crate) fn new(own: &str, reporter: Reporter) -> Self {
        Self {
            own: own.into(),
            reporter,
            told: BTreeMap::new(),
        }
    }

    /// When to look although nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.told
            .values()
            .flatten()
            .filter_map(|told| told.ask)
            .min()
    }

    /// Tells what is new.
    pub(crate) fn look(&mut self, members: &Members, now: Instant) {
        self.told.retain(|node, told| {
            told.retain(|told| members.problems_of(node).contains(&told.problem));
            !told.is_empty()
        });
        self.log(members, now);
        if self.due().is_some_and(|at| at <= now) {
            self.report_due(members, now);
        }
    }

    fn log(&mut self, members: &Members, now: Instant) {
        let told = &self.told;
        let is_new = |node: &Arc<str>, problem: &Problem| {
            let known = told.get(node);
            !known.is_some_and(|all| all.iter().any(|told| told.problem == *problem))
        };
        let new: Vec<(Arc<str>, Problem)> = members
            .problems()
            .filter(|(node, problem)| is_new(node, problem))
            .map(|(node, problem)| (node.clone(), problem.clone()))
            .collect();
        for (_, problem) in new.iter().take(LOGGED) {
            tracing::warn!("{}", problem.text);
        }
        if new.len() > LOGGED {
            let more = new.len() - LOGGED;
            tracing::warn!("{more} more problems of Nodes; `ringway status` names them");
        }
        for (node, problem) in new {
            let ask = problem.kind.reason().map(|_| now + LASTS);
            self.told
                .entry(node)
                .or_default()
                .push(Told { problem, ask });
        }
    }

    fn report_due(&mut self, members: &Members, now: Instant) {
        let speakers = members.oldest_agents();
        let mut told = std::mem::take(&mut self.told);
        for (node, told) in &mut told {
            for told in told
                .iter_mut()
                .filter(|t| t.ask.is_some_and(|at| at <= now))
            {
                told.ask = match self.is_ours_to_say(members, &speakers, node, &told.problem) {
                    Some(reason) => {
                        self.report(node, reason, told.problem.text.clone());
                        None
                    }
                    None => Some(now + AGAIN),
                };
            }
        }
        self.told = told;
    }

    fn report(&self, about: &str, reason: &'static str, note: String) {
        // One that finds no room is in the log all the same.
        self.reporter.report(Report {
            about: About::Node(about.to_owned()),
            warning: true,
            reason,
            action: "Following",
            note,
        });
    }

    fn is_ours_to_say(
        &self,
        members: &Members,
        [oldest, second]: &[Option<Arc<str>>; 2],
        node: &Arc<str>,
        problem: &Problem,
    ) -> Option<&'static str> {
        let reason = problem.kind.reason()?;
        if *node == self.own {
            return Some(reason);
        }
        if members.has_agent(node) && problem.kind != ProblemKind::Encapsulation {
            return None;
        }
        let speaker = if oldest.as_ref() == Some(node) {
            second
        } else {
            oldest
        };
        (speaker.as_ref() == Some(&self.own)).then_some(reason)
    }
}
