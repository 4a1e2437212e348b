//! The `nft` program.

use std::io::Write;
use std::process::{Command, Stdio};

use super::RulesError;

/// Runs a script as one transaction.
pub(super) fn run(script: &str) -> Result<(), RulesError> {
    let failed = |e: std::io::Error| {
        RulesError::Nft(format!(
            "it cannot be run ({e}); is the package nftables installed?"
        ))
    };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // It says itself why it did not read to the end.
        let _ = pipe.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().find(|line| !line.trim().is_empty());
    Err(RulesError::Nft(
        first.unwrap_or("it failed without a word").to_owned(),
    ))
}

/// The table as the kernel has it; `None` if it is not there, or nobody can tell.
pub(super) fn list(table: &str) -> Option<String> {
    let mut words = vec!["list", "table"];
    words.extend(table.split(' '));
    output(&words)
}

/// What `nft ARGUMENTS` prints.
pub(super) fn output(arguments: &[&str]) -> Option<String> {
    printed("nft", arguments)
}

/// What a program prints; `None` if it cannot be run, or fails.
pub fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}
