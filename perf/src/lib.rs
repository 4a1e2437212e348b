//! Whole-system measurement of Ringway: clusters in network namespaces ([`lab`]), real traffic in
//! them ([`traffic`]), and what they are compared with.

pub mod lab;
pub mod traffic;
