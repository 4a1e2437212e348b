#![forbid(unsafe_code)]
//! packet
