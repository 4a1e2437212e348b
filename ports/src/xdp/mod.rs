//! The XDP program of the AF_XDP underlay: it gives the sockets what is theirs, the kernel all the rest.
//!
//! An AF_XDP socket by itself receives nothing. A program at the interface must redirect frames to it, and
//! one that redirects every frame takes the node's own traffic with it: SSH, the API server, ARP. So:
//!
//! - [`Filter`] says what is ours: UDP to a port of ours at an underlay address of ours, and in routed
//!   mode whatever goes to a pod's network. It becomes BPF instructions in which addresses and ports are
//!   immediates; another filter is another program.
//! - [`XskMap`] holds the socket of each receive queue. The program asks for the slot of the queue a frame
//!   came in by. **An empty slot passes** to the kernel, whose UDP socket then has the frame: a queue
//!   without a socket, or an agent that restarts, loses nothing. A closed socket leaves its slot.
//! - [`Program`] is loaded, [`Attachment`] is at an interface by a bpf_link: the kernel removes it when the
//!   last descriptor is closed, so also after `kill -9`. [`Attachment::replace`] exchanges the program
//!   between two frames. A descriptor may be given to another process, which [adopts](Attachment::adopt)
//!   it.
//!
//! An interface has one program. One that is not ours stays, and attaching is refused with its name. One
//! of ours, known by its name, is either an agent at work or what it left behind; the caller says whether
//! to take over ([`AttachOptions::take_over`]).
//!
//! **Native** XDP runs in the driver, **generic** XDP after the kernel has made a packet of the frame:
//! slower, and for every driver. A frame whose VLAN tag the NIC has taken off looks untagged here.

mod attach;
mod emit;
mod error;
mod filter;
mod map;
mod netlink;
mod occupant;
mod options;
mod program;
mod refusal;
#[cfg(test)]
mod tests;

pub use attach::Attachment;
pub use error::{AttachError, BpfError, FilterError};
pub use filter::{Filter, MAX_ADDRESSES, MAX_CIDRS, MAX_PORTS};
pub use map::XskMap;
pub use occupant::{Holder, Occupant, Owner, occupant};
pub use options::{AttachMode, AttachOptions, Mode};
pub use program::{Action, PROGRAM_NAME, Program};
pub use refusal::Refusal;
