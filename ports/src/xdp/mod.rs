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
//! - [`Program`] is the filter loaded over the map.

mod bpf;
mod emit;
mod error;
mod filter;
mod insn;
mod map;
mod program;
#[cfg(test)]
mod tests;

pub use error::{BpfError, FilterError};
pub use filter::{Filter, MAX_ADDRESSES, MAX_CIDRS, MAX_PORTS};
pub use map::XskMap;
pub use program::{Action, PROGRAM_NAME, Program};
