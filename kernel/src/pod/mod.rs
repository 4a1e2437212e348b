//! Pods: their interface, and the checks before they get one.

mod error;
pub mod interface;
pub mod lanes;
pub mod queue;
