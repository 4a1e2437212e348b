//! See `ringway_fuzz::gso`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::gso::run(data));
