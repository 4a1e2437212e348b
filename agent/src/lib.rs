//! The `ringway` agent: the API, the command line, and what starts it all.
//!
//! ```text
//! main ─ cli ─┬─ agent: config, control, log ─ api (requests)
//!             ├─ check, show, install
//!             └─ every other verb: a client of the api, over the unix socket
//! ```
//!
//! [`ringway_control`] is one thread that changes what the data path sees. Only the API socket is asynchronous.

// Printing macros panic when nobody reads: what is said goes by `log` and `cli::output`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod cli;
pub mod install;
pub mod metrics;
mod reasons;
pub mod sources;
pub mod summary;

pub use ringway_trace as trace;
