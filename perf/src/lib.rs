//! Whole-system measurement of Ringway: clusters in network namespaces ([`lab`]), real traffic in
//! them ([`traffic`]), and what they are compared with ([`demo`], [`compare`]).

pub mod compare;
pub mod demo;
pub mod hold;
pub mod lab;
pub mod table;
pub mod traffic;
