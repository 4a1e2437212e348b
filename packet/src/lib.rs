#![forbid(unsafe_code)]
//! Packets: headers, the one bounded parse, checksums, flow keys, segmentation and coalescing.
//!
//! Pure: no I/O, no clock, no system call. Every function takes hostile bytes and neither panics
//! nor reads past them; multi-byte fields are read and written big-endian by hand.

pub mod addr;
pub mod arp;
pub mod bpf;
pub mod buffers;
pub mod bytes;
pub mod checksum;
pub mod ethernet;
pub mod ethertype;
pub mod flow;
pub mod gro;
pub mod gso;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod kit;
pub mod mac;
pub mod offload;
pub mod parse;
pub mod proto;
pub mod sctp;
pub mod steer;
pub mod superframe;
pub mod tcp;
pub mod udp;
