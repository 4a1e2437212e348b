//! `ringway-perf vm`: boots the virtual machine, shows what it says, judges how it ended.

use super::console::Console;
use super::line::Line;
use super::machine::Machine;
use crate::table::{Cell, Mark, Progress, Table, colour, paint};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// What is booted.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The kernel
    #[arg(long)]
    kernel: PathBuf,
    /// The initramfs
    #[arg(long)]
    initrd: PathBuf,
    /// File for what appears on the console
    #[arg(long)]
    console: PathBuf,
    /// Seconds until the last result
    #[arg(long, default_value_t = 180)]
    limit: u64,
}

/// How long it may take to turn itself off.
const OFF: Duration = Duration::from_secs(15);

/// Why the machine did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no place for what appears on the console.
    #[error("cannot write the console's file: {0}")]
    Log(std::io::Error),
    /// qemu did not start.
    #[error("cannot start qemu-system-x86_64: {0} (is it installed?)")]
    Spawn(std::io::Error),
    /// It ended by itself before its last word: a kernel panic, most likely.
    #[error("the virtual machine ended after {seconds} s, at: {step}; its console:\n{console}")]
    Broke {
        /// How long it ran.
        seconds: u64,
        /// What it said last that it would do.
        step: String,
        /// The end of what appeared on the console.
        console: String,
    },
    /// It was turned off.
    #[error(
        "the virtual machine was not done after {seconds} s, last at: {step}; its console:\n{console}"
    )]
    Slow {
        /// The limit.
        seconds: u64,
        /// What it said last that it would do.
        step: String,
        /// The end of what appeared on the console.
        console: String,
    },
}

/// Something tried, and what was found: one or one for each family.
type Row = (String, Vec<Result<String, String>>);

/// Runs it; `true` if everything was as it should be.
pub fn run(args: &Args) -> Result<bool, VmError> {
    let begin = Instant::now();
    let mut progress = Progress::default();
    progress.step("a virtual machine with two virtio NICs boots");
    let machine = Machine::boot(&args.kernel, &args.initrd, &args.console)?;
    let mut rows = Vec::new();
    let heard = listen(&machine, args, begin, &mut progress, &mut rows);
    let expected = match heard {
        Ok(expected) => expected,
        Err(error) => {
            // What it had found may say why.
            progress.clear();
            show(&rows);
            return Err(error);
        }
    };
    progress.step("the machine turns itself off");
    let off = turned_off(&machine);
    drop(machine);
    progress.clear();
    let console = Console::read(&args.console);
    let whole = match rows.len() {
        found if found == expected => Ok(format!("after {found} results")),
        found => Err(format!("{found} of {expected} results came across")),
    };
    let complaints = console
        .complaint()
        .map_or(Ok("none".into()), |line| Err(line.into()));
    rows.push(("the check came to its end".into(), vec![whole]));
    rows.push(("the machine turned itself off".into(), vec![off]));
    rows.push(("complaints of its kernel".into(), vec![complaints]));
    let good = show(&rows);
    if !good {
        println!("  the console's end:\n{}", console.tail());
    }
    println!("  {:.0} s", begin.elapsed().as_secs_f64());
    Ok(good)
}

/// Collects results until the machine says how many there should be.
fn listen(
    machine: &Machine,
    args: &Args,
    begin: Instant,
    progress: &mut Progress,
    rows: &mut Vec<Row>,
) -> Result<usize, VmError> {
    let limit = Duration::from_secs(args.limit);
    let mut step = "boot".to_owned();
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        let text = machine.lines.recv_timeout(left).map_err(|error| {
            let (seconds, step) = (begin.elapsed().as_secs(), step.clone());
            let console = Console::read(&args.console).tail();
            match error {
                RecvTimeoutError::Timeout => VmError::Slow {
                    seconds,
                    step,
                    console,
                },
                RecvTimeoutError::Disconnected => VmError::Broke {
                    seconds,
                    step,
                    console,
                },
            }
        })?;
        match Line::read(&text) {
            Some(Line::Step { text }) => {
                progress.step(&format!("{:3} s  {text}", begin.elapsed().as_secs()));
                step = text;
            }
            Some(Line::Row { what, found }) => rows.push((what, found)),
            Some(Line::Done { rows }) => return Ok(rows),
            None => {}
        }
    }
}

/// Waits until qemu has closed its end: what may still go wrong is the taking down.
fn turned_off(machine: &Machine) -> Result<String, String> {
    let until = Instant::now() + OFF;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match machine.lines.recv_timeout(left) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok("yes".into()),
            Err(RecvTimeoutError::Timeout) => return Err(format!("not within {OFF:?}")),
        }
    }
}

/// Prints rows; `true` if all are good.
fn show(rows: &[Row]) -> bool {
    let colour = colour();
    let mut table = Table::default();
    let mut long = Vec::new();
    for (what, found) in rows {
        let mut cells = vec![what.as_str().into()];
        for result in found {
            cells.push(match result {
                Ok(found) => Cell::new(format!("ok   {found}"), Mark::Good),
                Err(found) => {
                    let first = found.lines().next().unwrap_or_default();
                    if first.len() < found.len() {
                        long.push(found);
                    }
                    Cell::new(format!("FAIL {first}"), Mark::Bad)
                }
            });
        }
        table.row(cells);
    }
    print!("{}", table.render(colour));
    for text in long {
        println!("\n  {}", paint("FAIL", Mark::Bad, colour));
        text.lines().for_each(|line| println!("  | {line}"));
        println!();
    }
    rows.iter()
        .all(|(_, found)| found.iter().all(Result::is_ok))
}
