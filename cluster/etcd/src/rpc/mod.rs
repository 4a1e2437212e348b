//! As much of etcd's v3 API as this takes: transactions, leases, watches, passwords.

mod client;
mod connect;
mod error;
pub(crate) mod messages;

pub(crate) use client::{Client, Watch, key_range};
pub(crate) use connect::connect;
pub use error::RpcError;
