#![forbid(unsafe_code)]
//! Fuzz targets: each takes any bytes and asserts what must hold for them.
//!
//! The bodies are here, in safe and ordinary code, so that `cargo test` can replay every seed
//! without a fuzzer; `fuzz_targets/` are the programs that `make fuzz` drives with coverage.
//! A fuzzer cannot guess checksums, so the frame targets have a switch in their input that
//! [`repair`]s them: both kinds of frame are tried.

pub mod api;
pub mod arrivals;
pub mod bpf;
pub mod config;
pub mod fragment;
pub mod gro;
pub mod gso;
mod input;
pub mod parse;
pub mod pcap;
pub mod pipeline;
pub mod repair;
pub mod seeds;
pub mod split;
mod world;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; the names are those of the folders in `seeds/`.
pub const TARGETS: &[Target] = &[
    ("parse", parse::run),
    ("gso", gso::run),
    ("gro", gro::run),
    ("fragment", fragment::run),
    ("split", split::run),
    ("pipeline", pipeline::run),
    ("arrivals", arrivals::run),
    ("bpf", bpf::run),
    ("api", api::run),
    ("config", config::run),
    ("pcap", pcap::run),
];
