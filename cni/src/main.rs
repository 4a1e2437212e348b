//! The `ringway-cni` plugin.

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
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        eprint!("{HELP}");
    }
    let mut stdin = Vec::new();
    // VERSION comes without a configuration, maybe with a terminal.
    if !env.command.is_empty() && env.command != "VERSION" {
        let _ = std::io::stdin().take(CONF_MAX).read_to_end(&mut stdin);
    }
    let (text, good) = verbs::run(&env, &stdin);
    let mut stdout = std::io::stdout();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
