//! What Flannel writes and reads: a node's annotations, `net-conf.json`, `subnet.env`.
//!
//! Formats as of flannel-io/flannel of 2026 (`pkg/subnet/kube/annotations.go`, `pkg/subnet/config.go`,
//! `pkg/subnet/subnet.go`). Everything here is text to value and back, and hostile input: an operator, another
//! node's agent or whoever may patch a Node writes it.

mod annotations;
mod net_conf;
mod subnet_env;

pub use annotations::{AnnotationError, Annotations, Backend, PREFIX, Vtep};
pub use net_conf::{BackendConf, NetConf, NetConfError};
pub use subnet_env::SubnetEnv;
