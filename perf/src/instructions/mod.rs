//! `ringway-perf instructions`: the guard. Instructions per packet, counted, held against a file.
//!
//! ```text
//!   this program ──starts──▶ valgrind --tool=callgrind ──runs──▶ this program, `instructions-counted`
//!        │                            └─ one count for each call of `counted`, nothing of the rest
//!        └─▶ counts / packets  ⇄  perf/instructions.toml
//! ```
//!
//! Times of a shared machine drift by a third; counts of instructions hardly do: two runs of one
//! binary agree in the pipeline's and differ by less than one percent in those of superframes, where
//! copies depend on how addresses are aligned. They say nothing of caches and branch predictors, which is what
//! `ringway-perf pipeline` is for. A count belongs to one compiler, one C library (its `memcpy`)
//! and the CPU features that valgrind shows the program: where these are not those of the file,
//! numbers are shown and nothing fails.

mod callgrind;
mod counted;
mod record;

use std::path::PathBuf;

use anyhow::Context;

use crate::table::{Cell, Mark, Progress, Table, colour};
pub use counted::main as counted;
use record::{Change, Environment, Record, TOLERANCE, UPDATE};

/// Options of `ringway-perf instructions`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The recorded counts
    #[arg(long, default_value = "perf/instructions.toml", value_name = "FILE")]
    file: PathBuf,
    /// What built this program, as `rustc -V` says it, and RUSTFLAGS if there are any
    #[arg(long, value_name = "TEXT")]
    compiler: String,
    /// Write the counts of now into the file, with the reason why they changed
    #[arg(long, value_name = "REASON")]
    update: Option<String>,
}

/// How it ended, if not by an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing grew, or the file was written.
    Good,
    /// The file is of another compiler, C library or CPU: nothing can be said.
    Elsewhere(String),
}

/// Counts, compares, and prints or writes.
///
/// # Errors
/// A count grew by more than the file allows, valgrind is not to be had, the file is no such file.
pub fn main(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(reason) = &args.update {
        anyhow::ensure!(
            !reason.trim().is_empty(),
            "REASON is empty: say why the counts change; it is kept in {}",
            args.file.display()
        );
    }
    let mut progress = Progress::default();
    progress.step("counting instructions under valgrind, some seconds");
    let (cpu, counts) = callgrind::count()?;
    progress.clear();
    let here = Environment {
        compiler: args.compiler.clone(),
        libc: callgrind::libc(),
        cpu,
    };
    let file = args.file.display();
    let read = std::fs::read_to_string(&args.file);
    if let Some(reason) = &args.update {
        let old = match read {
            Ok(text) => Some(Record::parse(&text).with_context(|| file.to_string())?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
        };
        let new = Record::updated(old.as_ref(), here, &counts, reason);
        if let Some(old) = &old {
            print!("{}", table(&old.compare(&counts)).render(colour()));
        }
        std::fs::write(&args.file, new.text()).with_context(|| format!("cannot write {file}"))?;
        println!("  {file} written: commit it together with the change it is for");
        return Ok(Outcome::Good);
    }
    let text = read.with_context(|| format!("cannot read {file}; to make it run:  {UPDATE}"))?;
    let record = Record::parse(&text).with_context(|| file.to_string())?;
    let changes = record.compare(&counts);
    print!("{}", table(&changes).render(colour()));
    if let Some(difference) = record.environment.difference(&here) {
        return Ok(Outcome::Elsewhere(format!(
            "the counts in {file} are for another environment: {difference}"
        )));
    }
    for change in changes.iter().filter(|change| change.shrank()) {
        println!(
            "  {}: {:.1} → {:.1} instructions per packet; to keep what was gained run:  {UPDATE}",
            change.name,
            change.recorded.unwrap_or_default(),
            change.now.unwrap_or_default()
        );
    }
    let bad: Vec<String> = changes.iter().filter_map(|c| c.complaint()).collect();
    anyhow::ensure!(
        bad.is_empty(),
        "{}\nif that is meant, write the counts down with the reason and commit {file} together with the change:\n  {UPDATE}",
        bad.join("\n")
    );
    Ok(Outcome::Good)
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new(&["instructions per packet", "recorded", "now", "change", ""]);
    for change in changes {
        let number = |n: Option<f64>| n.map_or("–".to_owned(), |n| format!("{n:.1}"));
        let (word, mark) = match (change.complaint(), change.shrank()) {
            (Some(_), _) => (format!("above {:+.0} %", TOLERANCE * 100.0), Mark::Bad),
            (None, true) => ("less".into(), Mark::Good),
            (None, false) => (String::new(), Mark::Plain),
        };
        table.row(vec![
            change.name.as_str().into(),
            number(change.recorded).into(),
            number(change.now).into(),
            change
                .growth()
                .map_or(String::new(), |growth| format!("{:+.1} %", growth * 100.0))
                .into(),
            Cell::new(word, mark),
        ]);
    }
    table
}
