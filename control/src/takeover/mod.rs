//! Taking a node over from Flannel while its pods run, and giving it back.
//!
//! ```text
//! Flannel's pod leaves ─▶ overlay: MAC noted, device removed ─▶ our sockets ─▶ bridge narrowed ─▶ node port
//!                                                                  ─▶ forwarding ─▶ our conflist
//! ```
//!
//! **Never two overlays at once.** Both would receive at one UDP port, and peers know one MAC address. The agent
//! waits until Flannel has left (`agent`), for a device that is removed under a running flanneld breaks the node
//! until that is started anew. The device goes right before our sockets open. Its MAC address is ours from then
//! on: peers have it in their tables, and need not change anything. It is on disk before the device goes.
//!
//! **Pods on the bridge keep their network** until somebody makes them anew. Their addresses are not given out,
//! and the switch passes what is for them to the node's stack, which has a route for each
//! ([`ringway_kernel::bridge`]). Which they are is in the books of Flannel's IPAM plugin (`books`). A pod is
//! gone when its runtime has said so, which is a DEL of a container that we do not know, or when nothing is on
//! the bridge any more.
//!
//! **Given back** is a mark in the state: an agent that finds it does nothing by itself, until Flannel's overlay
//! has been here again, the machine was started anew, or somebody takes the mark away.

mod books;
mod give_back;
mod left;
mod overlay;
mod record;

pub use books::{Book, BookError};
pub use overlay::{Former, foreign, former};
pub use record::{Record, is_given_back, take_again};

pub(super) use left::Left;
pub use left::Names;
pub(super) use overlay::{note, remove};
