//! `ringway-perf`: the demo and the measurements. Each subcommand lives in a module of the library.

use clap::{Parser, Subcommand};
use ringway_perf::output::write;
use ringway_perf::{
    compare, demo, hold, instructions, lab, load, pipeline, ring, search, soak, traffic, vm,
};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "ringway-perf",
    version,
    about = "Ringway measured: demo and comparisons with the kernel"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Two nodes and three pods on this machine, real traffic, a table of results
    Demo(demo::Args),
    /// Throughput and latency, compared with the kernel bridge and kernel VXLAN
    Compare(compare::Args),
    /// Full-rate traffic for minutes: memory must not grow, no buffer may be lost
    Soak(soak::Args),
    /// Two nodes and three pods to experiment with, until Ctrl-C
    Lab(hold::Args),
    /// The pipeline alone on one core, from a capture in memory to nowhere
    Pipeline(pipeline::Args),
    /// Instructions per packet, counted under valgrind and compared with those recorded
    Instructions(instructions::Args),
    /// Both directions between an AF_XDP ring and memory, compared with bare ring loops
    Ring(ring::Args),
    /// Send stamped UDP packets: rate, sizes, flows
    Generate(load::GenerateArgs),
    /// Count stamped packets at the other end: lost, duplicated, reordered, latency
    Sink(load::SinkArgs),
    /// The highest rate at a small loss, and latency at half of it; Ringway and the kernel in turns
    LossSearch(search::Args),
    /// Remove what killed runs have left behind
    Clean,
    /// What is counted (started by `instructions` under valgrind)
    #[command(hide = true)]
    InstructionsCounted,
    /// The other process of a pod (started by the demo)
    #[command(hide = true)]
    AnswerOnce {
        /// 4 or 6
        family: u8,
    },
    /// Boot a virtual machine and print what was found in it (started by `make zerocopy`)
    #[command(hide = true)]
    Vm(vm::HostArgs),
    /// The work inside the virtual machine (started by its init)
    #[command(hide = true)]
    VmGuest(vm::GuestArgs),
}

/// How a run came to its end.
enum End {
    Good,
    /// Not everything was as it should be.
    Bad,
    /// Nothing can be said here, and why.
    Skipped(String),
}

impl From<bool> for End {
    fn from(good: bool) -> End {
        if good { End::Good } else { End::Bad }
    }
}

/// As automake has it for tests; the scripts count it.
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Bad) => ExitCode::FAILURE,
        Ok(End::Skipped(why)) => {
            write(std::io::stderr(), format_args!("{why}\n"));
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            write(
                std::io::stderr(),
                format_args!("error: {}\n", describe(&error)),
            );
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, of which some tell theirs themselves.
fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(command: Command) -> anyhow::Result<End> {
    match command {
        Command::Demo(args) => Ok(demo::run(&args)?.into()),
        Command::Compare(args) => Ok(compare::run(&args)?.into()),
        Command::Soak(args) => Ok(soak::run(&args)?.into()),
        Command::Lab(args) => Ok(hold::run(&args)?.into()),
        Command::Pipeline(args) => Ok(pipeline::main(&args)?.into()),
        Command::Instructions(args) => match instructions::main(&args)? {
            instructions::Outcome::Good => Ok(End::Good),
            instructions::Outcome::Elsewhere(why) => Ok(End::Skipped(why)),
        },
        Command::InstructionsCounted => instructions::counted().map(|()| End::Good),
        Command::Ring(args) => Ok(ring::main(&args)?.into()),
        Command::Generate(args) => Ok(load::generate(&args)?.into()),
        Command::Sink(args) => Ok(load::sink(&args)?.into()),
        Command::LossSearch(args) => Ok(search::run(&args)?.into()),
        Command::Clean => {
            lab::require_root()?;
            for leftover in lab::remove_leftovers() {
                write(std::io::stdout(), format_args!("removed {leftover}\n"));
            }
            Ok(End::Good)
        }
        Command::AnswerOnce { family } => {
            let family = if family == 6 {
                lab::Family::V6
            } else {
                lab::Family::V4
            };
            traffic::answer_once(family)?;
            Ok(End::Good)
        }
        Command::Vm(args) => Ok(vm::host(&args)?.into()),
        Command::VmGuest(args) => Ok(vm::guest(&args).into()),
    }
}
