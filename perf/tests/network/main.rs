//! Network tests: Ringway and the kernel in network namespaces. They need root (`sudo -E make
//! test`), run one at a time, and remove what they make.

mod addresses;
mod ask;
mod bursts;
mod cleanup;
mod cni;
mod cni_node;
mod common;
mod containerd;
mod errors;
mod expected;
mod flannel;
mod foreign;
mod harness;
mod hostile;
mod idle;
mod kernel;
mod link_local;
mod load;
mod matrix;
mod neighbours;
mod node_port;
mod outside;
mod priority;
mod restart;
mod rings;
mod routed;
mod services;
mod signals;
mod state;
mod superpackets;
mod transfers;
mod translated;
mod xdp;
mod xdp_faults;
mod xdp_node;
