//! See `ringway_fuzz::arrivals`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::arrivals::run(data));
