//! The CNI plugin `ringway-cni`, and what it says to the agent ([`api`]).
//!
//! ```text
//! environment ─ env ┐                                        ┌ result ─▶ stdout, in the version asked for
//! stdin ─ conf ─────┼─▶ verbs ── client ══ socket ══▶ agent ─┤
//! CNI_ARGS ─ args ──┤     │                                  └ error ──▶ stdout, exit 1
//! annotations ──────┘     ├ delegate: another IPAM plugin, if the configuration names one
//!                         └ pending: a DEL that found no agent
//! ```
//!
//! What stands in the configuration is read as Go reads JSON ([`shape`]), whose names, sizes and habits
//! runtimes have; the values that are asked for are checked where their key is known ([`capabilities`]).
//!
//! A runtime starts it for every interface of every pod, so it depends on nothing but the parser of JSON,
//! and links nothing of the data path. Errors are printed as JSON on stdout: that is where the reference
//! library looks for them, whatever the specification's overview says.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod annotations;
pub mod api;
pub mod args;
pub mod capabilities;
pub mod client;
pub mod conf;
pub mod delegate;
pub mod env;
pub mod error;
pub mod http;
pub mod pending;
pub mod result;
pub mod shape;
pub mod verbs;
pub mod version;
