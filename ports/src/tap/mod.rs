//! TAP interfaces: how a pod, and the node's own stack, exchange frames with the switch.
//!
//! Every TAP is persistent, so that it survives the agent, and carries a `virtio_net_hdr` of 10 bytes
//! before each frame: one read or write moves a superframe of up to 64 KB whose segmentation and checksum
//! stay undone. [`create_persistent`] makes one in the caller's network namespace; [`open_queue`] attaches
//! to one that exists; [`Tap`] is the [`Port`](crate::Port) over the descriptor of one queue. Creating,
//! opening and running are separate, so that a descriptor may come from anywhere.
//!
//! Traps this module knows (Linux `drivers/net/tun.c`): attaching to a name that does not exist creates a
//! fleeting interface; attaching with another `IFF_MULTI_QUEUE` than at creation gives a bare `EINVAL`;
//! flags such as `IFF_VNET_HDR` are overwritten by whoever attaches last; a TAP without an owner can be
//! taken by anybody who may open `/dev/net/tun`.
//!
//! The crate `tun` is not used: it refuses multi-queue (`queues(2)`), and offload flags, header size and owner
//! need ioctls of our own on its descriptor anyway.

mod create;
mod port;
mod steering;

pub use create::{
    Offloads, Opened, TapError, TapOptions, create_persistent, delete, open_first, open_queue,
    unpersist,
};
pub use port::{Tap, TapCounters};
pub use steering::{LANES, Slots, Steering, SteeringError, unsteer};
