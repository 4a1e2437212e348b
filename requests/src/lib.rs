//! From the bytes of a request to what is asked: pure, so that it can be fuzzed.
//!
//! [`bodies`] has most, [`trace`] what traces are asked for by; [`ApiError`] is how anything is refused.
#![forbid(unsafe_code)]

pub mod bodies;
mod error;
pub mod trace;

pub use bodies::{
    BODY_MAX, Described, GC_MAX, LogWanted, parse_attach, parse_capture, parse_cni_add,
    parse_cni_check, parse_cni_del, parse_cni_gc, parse_detach, parse_give_back, parse_log,
    parse_pause,
};
pub use error::ApiError;
pub use trace::{Wanted, parse_trace};
