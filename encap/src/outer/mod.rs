//! The whole outer frame, for ports that carry frames rather than datagrams.
//!
//! [`OuterHeader`] is made once per path and pushed in front of every packet; [`pop_outer`] takes
//! a received frame apart. The two are inverse: what was carried comes back byte for byte.

mod pop;
mod push;
mod spec;

pub use pop::{Layer, Outer, PopError, pop_outer, verify_checksum};
pub use push::{Fields, OuterHeader, PushError, SCRATCH};
pub use spec::{OuterSpec, SpecError, TransportSpec, UdpChecksum};

pub(crate) const ETHERNET_LEN: usize = 14;
pub(crate) const IPV4_LEN: usize = 20;
pub(crate) const IPV6_LEN: usize = 40;
pub(crate) const UDP_LEN: usize = 8;
