#![forbid(unsafe_code)]
//! encap
