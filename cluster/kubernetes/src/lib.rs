//! What the Kubernetes API says of the cluster, and what it is told of this node.
#![forbid(unsafe_code)]

pub mod members;
pub mod slim;
