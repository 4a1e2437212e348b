//! Where packets enter and leave the switch: TAP interfaces, the UDP underlay, memory and pcap files.
//!
//! This crate holds every system call on packets and every `unsafe` block of what runs on a node. All kinds of
//! port share one buffer [`pool`] and one [`frame`] description: a linear head with [`HEADROOM`] before
//! it, an optional chain of slices behind it, and offload metadata as virtio-net describes it. A buffer
//! received in a batch lives until the end of that batch, so a payload can be gathered into any number of
//! transmissions without being copied or counted.
//!
//! Nothing here allocates per packet: arrays are sized when a port is made and reused.

mod bpf;
pub mod ethtool;
pub mod fault;
pub mod frame;
pub mod libpcap;
pub mod memory;
pub mod pcap;
pub mod pool;
pub mod port;
pub mod raw;
pub mod socket;
mod sys;
pub mod tap;
pub mod xdp;
pub mod xsk;

pub use frame::{Batch, Frame, SHARED, Slice, Tail};
pub use pool::{BUF_SIZE, Buf, BufId, Census, FRAME_SIZE, HEADROOM, Pool};
pub use port::{Port, TransmitError};

// The namespaces of tests/common serve unit tests too.
#[cfg(test)]
extern crate self as ringway_ports;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(test)]
mod tests {
    /// Ports are made by one thread and run by another.
    #[test]
    fn ports_move_between_threads() {
        fn movable<T: Send>() {}
        movable::<crate::Pool>();
        movable::<crate::Batch>();
        movable::<crate::tap::Tap>();
        movable::<crate::socket::UdpUnderlay>();
        movable::<crate::fault::Fault<crate::memory::Memory>>();
    }
}
