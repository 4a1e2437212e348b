//! See `ringway_fuzz::split`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::split::run(data));
