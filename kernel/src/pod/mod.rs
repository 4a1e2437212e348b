//! Pods: their interface, and the checks before they get one.

pub mod interface;
pub mod queue;
