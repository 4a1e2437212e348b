//! See `ringway_fuzz::bpf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::bpf::run(data));
