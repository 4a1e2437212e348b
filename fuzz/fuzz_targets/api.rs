//! See `ringway_fuzz::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::api::run(data));
