//! The API: HTTP and JSON on a unix socket.
//!
//! ```text
//! curl --unix-socket /run/ringway/ringway.sock http://ringway/v1/status
//! ```
//!
//! [`request`] turns bodies into requests (pure), [`serve`] is the socket with
//! its limits, [`view`] the shapes of the answers, which the command line reads
//! too. The work is done by [`crate::control`] on its own thread.

pub mod request;
pub mod serve;
pub mod tables;
pub mod view;

use serde::{Deserialize, Serialize};

pub use request::{Attach, Detach, parse_attach, parse_detach};
pub use tables::{port_totals, totals};

/// An answer that says no: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// HTTP status, 4xx: the caller's; 5xx: ours.
    #[serde(skip)]
    pub status: u16,
    /// What was tried and what was found.
    pub error: String,
    /// What to do.
    pub remedy: String,
}

impl ApiError {
    /// An error with any status.
    pub fn new(status: u16, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            remedy: remedy.into(),
        }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(400, error, remedy)
    }

    /// 409: it contradicts what is.
    pub fn conflict(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(409, error, remedy)
    }

    /// 500: something on this machine failed.
    pub fn internal(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(500, error, remedy)
    }
}
