//! Where changes come from. A source knows how to read one thing and tells what it says now; it knows neither
//! tables nor workers.

pub mod file;
