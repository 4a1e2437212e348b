#![forbid(unsafe_code)]
//! tables
