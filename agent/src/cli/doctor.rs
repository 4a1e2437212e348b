//! `ringway doctor`: what is wrong with this node, the most likely cause first.
//!
//! ```text
//!   agent: status, peers, pods, drops ─┐   a while   ┌─ agent: drops, peers, last drops
//!   pods from inside ──────────────────┴─────────────┴─ pods from inside, the machine ▶ checks ▶ report
//! ```

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use ringway_config::Config;
use ringway_control::view::{Drops, LastDrop, PeerRow, Pod, Status};
use ringway_doctor::look::{self, Known};
use ringway_doctor::{Absent, Asked, Asking, Observed, Pair, Report, Severity, bundle, diagnose};
use serde_json::json;

use super::client::{Client, ClientError};
use super::width::width;
use super::{Failure, output};
use crate::install;
use crate::trace::answer::Answer;
use ringway_control::view::columns::Fields;

/// Columns of the labels of a finding.
const LABEL: usize = 9;

#[derive(clap::Args)]
pub(super) struct Doctor {
    /// One way only: from this pod
    #[arg(long, value_name = "NS/POD", requires = "to")]
    from: Option<String>,
    /// One way only: to this address
    #[arg(long, value_name = "ADDRESS", requires = "from")]
    to: Option<IpAddr>,
    /// Seconds between two looks at what is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Write what a bug report needs into a tar archive, without secrets
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    json: super::Json,
}

/// `file`: the configuration of the node, if the agent does not name another.
pub(super) fn run(client: &Client, file: &Path, wanted: &Doctor) -> Result<(), Failure> {
    if !wanted.json.json && std::io::stderr().is_terminal() {
        output::complain(&format!("looking for {} s …", wanted.seconds));
    }
    let seen = observe(client, file, wanted)?;
    let report = diagnose(&seen);
    output::print(&match wanted.json.json {
        true => format!("{:#}\n", json!(report)),
        false => show(&report),
    })?;
    if let Some(path) = &wanted.bundle {
        bundle::write(path, &seen, &report, config_of(&seen, file).as_ref())
            .with_context(|| format!("writing {}", path.display()))?;
        output::complain(&format!(
            "{} has what a bug report needs; look through it before you send it",
            path.display()
        ));
    }
    match report.findings.len() {
        0 => Ok(()),
        found => Err(Failure::Unwell(found)),
    }
}

fn observe(client: &Client, file: &Path, wanted: &Doctor) -> Result<Observed, Failure> {
    let mut seen = Observed::default();
    seen.agent = match ask(client, wanted, &mut seen) {
        Ok(asked) => Asking::Answered(Box::new(asked)),
        // An agent that answers what nobody understands is none that can be judged.
        Err(Failure::Client(e @ ClientError::Connect { .. })) => Asking::Absent(absent(&e, file)),
        Err(e) => return Err(e),
    };
    let config = config_of(&seen, file);
    let asked = seen.asked();
    let known = Known {
        status: asked.map(|asked| &asked.status),
        peers: asked.map_or(&[], |asked| &asked.peers),
        config: config.as_ref(),
    };
    let mut unseen = Vec::new();
    seen.machine = look::machine(known, &mut unseen);
    seen.unseen.extend(unseen);
    if let Some(cni) = config.map(|config| config.cni).filter(|cni| cni.install) {
        if cni.conf_dir.join(install::CONFLIST).exists() {
            seen.machine.cni_before_ours = install::preferred(&cni.conf_dir);
        }
        seen.machine.cni_dir = cni.conf_dir.display().to_string();
    }
    Ok(seen)
}

/// The configuration that is in force, where it can be read.
fn config_of(seen: &Observed, file: &Path) -> Option<Config> {
    let file = match seen.asked() {
        Some(asked) => Path::new(&asked.status.config.file),
        None => file,
    };
    Config::load(file).ok()
}

fn absent(why: &ClientError, file: &Path) -> Absent {
    let config = match Config::load(file) {
        Ok(config) => super::check::obstacle(&config).map(|e| e.to_string()),
        Err(e) => Some(e.to_string()),
    };
    let why = why.to_string();
    Absent {
        // What is to be done is said by the finding.
        why: why.lines().next().unwrap_or_default().to_owned(),
        config,
        file: file.display().to_string(),
    }
}

fn ask(client: &Client, wanted: &Doctor, seen: &mut Observed) -> Result<Asked, Failure> {
    let pods: Vec<Pod> = client.get("/v1/pods")?;
    let peers: Vec<PeerRow> = client.get("/v1/tables/peers")?;
    let before: Drops = client.get("/v1/drops")?;
    let begin = Instant::now();
    let first = look::inside(&pods);
    std::thread::sleep(Duration::from_secs(wanted.seconds.into()).saturating_sub(begin.elapsed()));
    let inside = look::inside(&pods).since(&first);
    let drops: Drops = client.get("/v1/drops")?;
    let peers_later: Vec<PeerRow> = client.get("/v1/tables/peers")?;
    let between = begin.elapsed();
    // At last, so that what was noticed meanwhile is in it.
    let status: Status = client.get("/v1/status")?;
    let last: Vec<LastDrop> = client.get("/v1/drops/last")?;
    seen.unseen.extend(inside.unseen);
    seen.unseen.extend(drops.unread.iter().cloned());
    seen.pods = inside.pods;
    if let (Some(from), Some(to)) = (&wanted.from, wanted.to) {
        seen.pair = Some(Pair {
            from: from.clone(),
            to,
            trace: trace(client, from, to)?,
        });
    }
    Ok(Asked {
        status,
        before,
        drops,
        between,
        last,
        peers,
        peers_later,
        pods,
    })
}

/// The last frame of an echo request; why there is none is a finding.
fn trace(
    client: &Client,
    from: &str,
    to: IpAddr,
) -> Result<Result<crate::trace::answer::Trace, String>, Failure> {
    let body = json!({ "from": from, "to": to.to_string() });
    match client.ask::<Answer>("/v1/trace", &body) {
        Ok(mut answer) => Ok(answer
            .traces
            .pop()
            .ok_or_else(|| "nothing is sent".to_owned())),
        Err(Failure::Client(ClientError::Refused(e))) => Ok(Err(e.error)),
        Err(e) => Err(e),
    }
}

fn show(report: &Report) -> String {
    let mut out = Fields::new(width(), LABEL);
    for (n, finding) in report.findings.iter().enumerate() {
        if n > 0 {
            out.line("");
        }
        let warning = match finding.severity {
            Severity::Broken => "",
            Severity::Warning => "warning: ",
        };
        out.heading(&format!("{}. {warning}{}", n + 1, finding.cause));
        for evidence in &finding.evidence {
            out.push("   seen", evidence);
        }
        out.push("   to do", &finding.remedy);
        for command in &finding.commands {
            // In one piece, so that it can be copied.
            out.line(&format!("     {command}"));
        }
    }
    if report.findings.is_empty() {
        out.heading(&format!(
            "Nothing is wrong. Looked at: {}.",
            report.checked.join("; ")
        ));
    }
    for unseen in &report.unseen {
        out.push("unseen", unseen);
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_doctor::{About, Finding};

    #[test]
    fn findings_are_numbered_and_commands_stand_alone() {
        let command = format!("ringway capture --peer {}", "n".repeat(80));
        let report = Report {
            findings: vec![Finding {
                check: "peer".into(),
                severity: Severity::Broken,
                about: About::Peer("node2".into()),
                cause: "Nothing comes back from peer node2".into(),
                evidence: vec!["12 packets went to it in 2 s, and none came".into()],
                remedy: "see whether its agent runs and gets them, and whether something on the way drops the port".into(),
                commands: vec![command.clone()],
            }],
            checked: Vec::new(),
            unseen: vec!["the firewall: no program".into()],
        };
        let text = show(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "1. Nothing comes back from peer node2",
                "   seen  12 packets went to it in 2 s, and none came",
            ]
        );
        assert!(
            lines.contains(&format!("     {command}").as_str()),
            "{text}"
        );
        assert!(text.contains("unseen   the firewall"), "{text}");
        let wide = lines
            .iter()
            .filter(|line| line.chars().count() > 80)
            .count();
        assert_eq!(wide, 1, "{text}");
        let well = show(&Report {
            checked: vec!["the clock".into()],
            ..Report::default()
        });
        assert_eq!(well, "Nothing is wrong. Looked at: the clock.\n");
    }
}
