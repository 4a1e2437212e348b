#![forbid(unsafe_code)]
//! switch
