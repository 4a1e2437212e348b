//! Errors as a runtime gets them.

use serde::Serialize;

/// The version is not supported.
pub const VERSION: u32 = 1;
/// A field of the configuration is not supported, or its value is not.
pub const FIELD: u32 = 2;
/// An environment variable is missing or makes no sense.
pub const ENV: u32 = 4;
/// A file or socket.
pub const IO: u32 = 5;
/// The configuration, or an answer, is not understood.
pub const DECODE: u32 = 6;
/// The configuration contradicts itself or the node.
pub const INVALID: u32 = 7;
/// Try again later.
pub const LATER: u32 = 11;
/// STATUS: no ADD can be served.
pub const UNAVAILABLE: u32 = 50;

/// Why a verb failed: the fields of the specification's error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Error {
    /// Code of the specification (below 100) or of ours, see [`crate::api`].
    pub code: u32,
    /// What was tried and what was found.
    pub msg: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// An error.
    pub fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// A value that is not understood: which, where, and what is expected.
    pub fn value(place: &str, value: &str, expected: &str) -> Self {
        Self::new(
            INVALID,
            format!("{place}: {value:?} is not understood"),
            format!("expected {expected}"),
        )
    }
}

/// Result of a verb's step.
pub type Result<T> = std::result::Result<T, Error>;
