//! The source against two API servers: one that does as it is told, and a real one.

mod agent;
mod api;
mod failing;
mod faked;
mod joining;
mod real;
mod telling;
