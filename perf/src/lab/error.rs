//! What can go wrong while a topology is built or torn down.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the lab: each variant says what was tried and what was found.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Network namespaces need CAP_SYS_ADMIN.
    #[error(
        "uid {uid} is not root, and network namespaces need it: start it with sudo (make test and make demo call it themselves)"
    )]
    NotRoot {
        /// The effective uid.
        uid: u32,
    },
    /// A helper program is not installed.
    #[error("cannot start `{command}`: {source} (is it installed?)")]
    Spawn {
        /// The command line.
        command: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// A helper program failed.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status in words.
        status: String,
        /// What it printed on stderr, or on stdout when stderr is empty.
        output: String,
    },
    /// A CNI plugin said no.
    #[error(transparent)]
    Cni(#[from] super::cni::Refused),
    /// A file or system call.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// There is no agent to start.
    #[error("no `{name}` binary in {}: build it (`cargo build --release`) or name it in {env}",
        looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoBinary {
        /// The program.
        name: &'static str,
        /// The environment variable that names it.
        env: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The agent ended by itself.
    #[error("the agent of {node} ended with {status}; the end of its log:\n{log}")]
    AgentEnded {
        /// The node's name.
        node: String,
        /// Its exit status in words.
        status: String,
        /// The last lines it wrote.
        log: String,
    },
    /// The agent runs but does not answer on its socket.
    #[error(
        "the agent of {node} did not answer within {limit:?} ({last}); the end of its log:\n{log}"
    )]
    AgentSilent {
        /// The node's name.
        node: String,
        /// How long was waited.
        limit: Duration,
        /// The last answer to the last question.
        last: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A read verb printed something that is not JSON.
    #[error("`{command}` printed what is not JSON ({source}): {output}")]
    Json {
        /// The command line.
        command: String,
        /// Where parsing stopped.
        source: serde_json::Error,
        /// The beginning of what was printed.
        output: String,
    },
}

impl LabError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }
}

/// Result of a lab operation.
pub type Result<T> = std::result::Result<T, LabError>;
