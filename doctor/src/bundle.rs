//! What a bug report needs, in a tar archive.
//!
//! No packet's payload, no certificate, key, token or password is in it: the configuration names files of such, and
//! none of those is read. Of dropped frames the summary is kept, and the bytes are not.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use ringway_config::Config;
use serde_json::{Value, json};

use crate::{Asking, Observed, Report};

/// Commands whose output goes along; what a machine does not have is left out, with the reason.
const COMMANDS: &[(&str, &[&str])] = &[
    ("uname", &["-a"]),
    ("ip", &["-d", "link"]),
    ("ip", &["address"]),
    ("ip", &["rule"]),
    ("ip", &["route", "show", "table", "all"]),
    ("ip", &["-6", "rule"]),
    ("ip", &["-6", "route", "show", "table", "all"]),
    ("ip", &["neighbour"]),
    ("nft", &["-a", "list", "ruleset"]),
    ("ss", &["-lnptu"]),
    ("df", &["-h"]),
];
/// Files that go along.
const FILES: &[&str] = &[
    "/etc/os-release",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/net/snmp",
    "/proc/net/snmp6",
    "/proc/net/netstat",
    "/proc/net/softnet_stat",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/core/netdev_max_backlog",
];
/// Bytes of one command's output, or of one file.
const PIECE: usize = 4 << 20;

/// Writes it. Only its owner may read it.
///
/// # Errors
/// It cannot be written; a file that is there is not replaced.
pub fn write(
    path: &Path,
    seen: &Observed,
    report: &Report,
    config: Option<&Config>,
) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut archive = tar::Builder::new(io::BufWriter::new(file));
    let mut add = |name: String, text: &str| {
        let bytes = &text.as_bytes()[..text.len().min(PIECE)];
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seen.machine.clock_s);
        archive.append_data(&mut header, format!("ringway-bundle/{name}"), bytes)
    };
    add("report.json".into(), &format!("{:#}\n", json!(report)))?;
    if let Asking::Answered(asked) = &seen.agent {
        for (name, value) in [
            ("status", json!(asked.status)),
            ("pods", json!(asked.pods)),
            ("peers", json!(asked.peers_later)),
            ("drops", json!(asked.drops)),
            ("drops-before", json!(asked.before)),
            ("drops-last", without_bytes(json!(asked.last))),
        ] {
            add(format!("{name}.json"), &format!("{value:#}\n"))?;
        }
    }
    if let Some(config) = config {
        add("config.toml".into(), &ringway_config::show(config))?;
    }
    for (program, arguments) in COMMANDS {
        let name = format!("{program} {}", arguments.join(" "));
        let file = name.replace([' ', '/'], "_");
        add(format!("{file}.txt"), &output(program, arguments))?;
    }
    for path in FILES {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| format!("{e}\n"));
        add(path.trim_start_matches('/').to_owned(), &text)?;
    }
    archive.into_inner()?.flush()
}

/// What a program prints, and what it complains of.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        }
        Err(e) => format!("{program}: {e}\n"),
    }
}

fn without_bytes(mut last: Value) -> Value {
    for drop in last.as_array_mut().into_iter().flatten() {
        if let Some(drop) = drop.as_object_mut() {
            drop.remove("bytes");
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::healthy;
    use ringway_control::view::LastDrop;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_bundle_has_what_was_seen_and_no_bytes_of_packets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.tar");
        let mut seen = healthy();
        let Asking::Answered(asked) = &mut seen.agent else {
            panic!()
        };
        asked.last = vec![LastDrop {
            reason: "spoofed_mac".into(),
            time_ns: 1,
            kind: "pod".into(),
            name: "default/web".into(),
            length: 60,
            packets: 1,
            contents: "frame".into(),
            summary: "ARP".into(),
            bytes: "5ec2e7".into(),
        }];
        let report = crate::diagnose(&seen);
        write(&path, &seen, &report, None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut names = Vec::new();
        for entry in tar::Archive::new(File::open(&path).unwrap())
            .entries()
            .unwrap()
        {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name.ends_with("drops-last.json") {
                assert!(
                    text.contains("spoofed_mac") && !text.contains("5ec2e7"),
                    "{text}"
                );
            }
            names.push(name);
        }
        for wanted in [
            "report.json",
            "status.json",
            "uname_-a.txt",
            "proc/net/snmp",
        ] {
            assert!(
                names.contains(&format!("ringway-bundle/{wanted}")),
                "{names:?}"
            );
        }
        // What is there stays.
        let again = write(&path, &seen, &report, None).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
