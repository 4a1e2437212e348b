//! Why etcd does not answer, or not as wished.

use std::io;
use std::path::{Path, PathBuf};

use tonic::{Code, Status};

/// A connection or a request that failed. Each names the server and what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// No connection.
    #[error("{endpoint}: {why}")]
    Connect {
        /// The server.
        endpoint: String,
        /// The cause, from the outermost to the innermost.
        why: String,
    },
    /// No answer.
    #[error("{endpoint} did not answer within {seconds} s ({what})")]
    Silent {
        /// The server.
        endpoint: String,
        /// How long was waited.
        seconds: u64,
        /// What was asked.
        what: &'static str,
    },
    /// A refusal.
    #[error("{endpoint} refused {what}: {}{}", .status.message(), remedy(.status))]
    Refused {
        /// The server.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// Its answer.
        status: Box<Status>,
    },
    /// A watch that the server ended.
    #[error("{endpoint} ended the watch: {why}")]
    WatchEnded {
        /// The server.
        endpoint: String,
        /// What it said.
        why: String,
    },
    /// History that a watch was to begin with is gone; everything is to be read anew.
    #[error("the history before revision {revision} is compacted")]
    Compacted {
        /// The first revision that is left.
        revision: i64,
    },
    /// A file with a certificate, a key or a password.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An answer that is not one.
    #[error("{endpoint} answered {what} with something else; is it etcd, version 3.4 or later?")]
    Nonsense {
        /// The server.
        endpoint: String,
        /// What was asked.
        what: &'static str,
    },
}

/// What to do about a refusal, where that is known.
fn remedy(status: &Status) -> &'static str {
    match (status.code(), status.message()) {
        (Code::PermissionDenied, _) => {
            " (the user needs readwrite on the prefix: etcdctl role grant-permission)"
        }
        (_, text) if text.contains("invalid user ID or password") => {
            " (see etcd.username and the password file)"
        }
        (_, text) if text.contains("user name is empty") => {
            " (the server wants a user: etcd.username)"
        }
        _ => "",
    }
}

/// Whether the server wants the password again: the token has expired, or users and roles have changed.
pub(super) fn wants_password(status: &Status) -> bool {
    let text = status.message();
    status.code() == Code::Unauthenticated
        || text.contains("revision of auth store is old")
        || text.contains("user name is empty")
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let one = error.to_string();
        // "transport error" says nothing, and many repeat their cause.
        if one != "transport error" && !text.contains(&one) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&one);
        }
        next = error.source();
    }
    text
}

/// A file, or an error that names it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, RpcError> {
    std::fs::read(path).map_err(|source| RpcError::File {
        path: path.to_owned(),
        source,
    })
}
