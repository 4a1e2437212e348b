//! Whole-system measurement of Ringway: clusters in network namespaces ([`lab`]), real traffic in
//! them ([`traffic`], [`load`]), and what they are compared with ([`demo`], [`compare`], [`search`], [`soak`]); all of it in a virtual
//! machine whose NICs can do what this one's cannot ([`vm`]).

// First: its macros are for all that follow.
#[macro_use]
pub mod output;

pub mod compare;
pub mod demo;
mod devices;
pub mod estimate;
pub mod hold;
pub mod instructions;
pub mod lab;
pub mod load;
pub mod pipeline;
pub mod ring;
pub mod search;
pub mod soak;
pub mod table;
pub mod traffic;
pub mod vm;

/// The allocator of every program of this crate: the system's, counting.
#[global_allocator]
pub static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> =
    &stats_alloc::INSTRUMENTED_SYSTEM;
