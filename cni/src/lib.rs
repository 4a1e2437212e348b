//! The CNI plugin `ringway-cni`, and what it says to the agent ([`api`]).

#![forbid(unsafe_code)]

pub mod api;
