//! Where a packet goes, why one is dropped, and the page: what a node says when it is asked.

use crate::lab::{Drops, Family, LabError, Page, Pod, Topology};
use crate::table::{Mark, paint};
use std::time::{Duration, Instant};

/// Longest until a drop is counted.
const LIMIT: Duration = Duration::from_secs(3);
/// Whose address nobody has: a pod that uses it lies.
const FALSE: &str = "10.99.0.1";

/// What was asked, and what was found.
pub(super) struct Explained {
    /// `ringway trace`, and its answer.
    trace: (String, String),
    /// Of a packet that was made to be dropped.
    drop: (String, String),
    /// It serves as long as this lives.
    pub(super) page: Page,
}

/// Traces a packet from the first pod to the one on the other node, has the first send one that is dropped, and
/// serves the page.
pub(super) fn explain(
    topology: &mut Topology,
    [a, _, c]: &[Pod; 3],
) -> Result<Explained, LabError> {
    let to = c.ip(Family::V4).to_string();
    let words = format!("trace --from {} --to {to} --tcp 443", a.name());
    let agent = topology.n1.agent()?;
    let answer = agent.cli(&words.split(' ').collect::<Vec<_>>())?;
    let trace = (words, answer);
    let before = Drops::from_json(&agent.json(&["drops"])?);
    a.ns.ip(&format!("addr add {FALSE}/32 dev lo"))?;
    // That nothing answers is the point.
    let _ = a.ns.command("ping", &format!("-c 1 -W 1 -I {FALSE} {to}"));
    a.ns.ip(&format!("addr del {FALSE}/32 dev lo"))?;
    let end = Instant::now() + LIMIT;
    let reason = loop {
        let now = Drops::from_json(&agent.json(&["drops"])?).since(&before);
        let found = now.iter().next().map(|(reason, _)| reason.to_owned());
        match found {
            Some(reason) => break reason,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            None => {
                return Err(LabError::Command {
                    command: format!("ping -I {FALSE} {to}"),
                    status: "no drop".into(),
                    output: "the packet of a false sender was not dropped".into(),
                });
            }
        }
    };
    let words = format!("drops --explain {reason}");
    let answer = agent.cli(&["drops", "--explain", &reason])?;
    let last = agent.cli(&["drops", "--last", &reason])?;
    let drop = (words, format!("{answer}\n{last}"));
    let page = Page::start(agent)?;
    Ok(Explained { trace, drop, page })
}

impl Explained {
    /// In words; each line is indented.
    pub(super) fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for (what, (command, answer)) in [
            ("where a packet goes", &self.trace),
            (
                "why one was dropped: it said it came from an address that is not the pod's",
                &self.drop,
            ),
        ] {
            text.push_str(&format!("  {}\n", paint(what, Mark::Good, colour)));
            text.push_str(&format!("  # ringway {command}\n"));
            for line in answer.lines() {
                text.push_str(&format!("  {line}\n"));
            }
            text.push('\n');
        }
        let what = "all of it live, in a browser, until this demo ends (--hold keeps it)";
        text.push_str(&format!(
            "  {}\n  # ringway ui\n",
            paint(what, Mark::Good, colour)
        ));
        text.push_str(&format!("  {}\n", self.page.url()));
        text
    }
}
