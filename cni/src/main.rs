//! The `ringway-cni` plugin.

// Printing macros panic when nobody reads.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{Read, Write};
use std::process::ExitCode;

use ringway_cni::env::Env;
use ringway_cni::verbs;

/// Bytes of a configuration that are read; a GC names every container of the node.
const CONF_MAX: u64 = 64 << 20;

const HELP: &str = concat!(
    "ringway-cni ",
    env!("CARGO_PKG_VERSION"),
    ", CNI plugin of Ringway: attaches containers to the node's packet switch.\n\
    \n\
    Container runtimes call it, with CNI_COMMAND and others in the environment and the network\n\
    configuration on stdin. `ringway install-cni` puts it and its configuration where they look.\n\
    CNI protocol versions supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0\n\
    \n\
    By hand:  CNI_COMMAND=VERSION ringway-cni </dev/null\n\
    Pods and their addresses:  ringway pods\n"
);

fn main() -> ExitCode {
    let env = Env::from_process();
    if env.command.is_empty() {
        // A person, not a runtime; without an argument it may be a runtime that forgot, and must fail.
        if std::env::args().len() > 1 {
            return exit(print(HELP));
        }
        let _ = std::io::stderr().write_all(HELP.as_bytes());
    }
    let mut stdin = Vec::new();
    // VERSION comes without a configuration, maybe with a terminal.
    if !env.command.is_empty() && env.command != "VERSION" {
        let _ = std::io::stdin().take(CONF_MAX).read_to_end(&mut stdin);
    }
    let (text, good) = verbs::run(&env, &stdin);
    // A result that nobody got is none: the runtime takes the failure for one, and deletes what was made.
    exit(print(&text) && good)
}

/// False, with the reason on stderr, when not all of it could be written.
fn print(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(e) = &written {
        // What is said on stderr never decides anything.
        let _ = writeln!(
            std::io::stderr(),
            "ringway-cni: the result cannot be written: {e}"
        );
    }
    written.is_ok()
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
