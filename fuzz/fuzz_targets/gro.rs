//! See `ringway_fuzz::gro`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::gro::run(data));
