//! The `ringway` agent: control plane, API and command line.
//!
//! ```text
//! main ─ cli ─┬─ agent: config ─ underlay ─ state ─ node ─ control ─ worker
//!             │                              api ───┘ (requests)
//!             └─ every other verb: api, over the unix socket
//! ```
//!
//! The data path runs in [worker](ringway_worker) threads; [`control`] is one thread that
//! changes what they see. Only the API socket is asynchronous.

// Printing macros panic when nobody reads: what is said goes by `log` and `cli::output`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod asked;
pub mod cli;
pub mod config_file;
pub mod control;
pub mod install;
pub mod log;
pub mod processors;
pub mod state;
pub mod totals;
pub mod underlay;
pub mod view;
