//! Why a netlink request failed.

use std::io;

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket could be opened in this namespace.
    #[error("no netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// Sending or receiving failed.
    #[error("{what}: netlink: {source}")]
    Io {
        /// What was asked, in words.
        what: String,
        /// The error of send(2) or recv(2).
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("{what}: {source}")]
    Refused {
        /// What was asked, in words.
        what: String,
        /// The kernel's errno.
        source: io::Error,
    },
    /// An answer could not be understood.
    #[error("{what}: answer not understood: {detail}")]
    Answer {
        /// What was asked, in words.
        what: String,
        /// The decoder's message.
        detail: String,
    },
    /// No link of that name in this namespace.
    #[error("no interface {name:?} in this namespace")]
    NoLink {
        /// The name asked for.
        name: String,
    },
}

impl NetlinkError {
    /// The errno behind the error, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(e) | Self::Io { source: e, .. } | Self::Refused { source: e, .. } => {
                e.raw_os_error()
            }
            Self::NoLink { .. } => Some(libc::ENODEV),
            Self::Answer { .. } => None,
        }
    }
}
