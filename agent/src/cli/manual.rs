//! Completions and manual pages, made of the command line's own definition.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;

use super::{Failure, command, output};

/// Prints what a shell needs to complete our words.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "ringway", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}

/// Writes `ringway.1` and a page for every verb.
pub(super) fn pages(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command(), folder))
        .with_context(|| format!("writing manual pages into {}", folder.display()))?;
    Ok(())
}
