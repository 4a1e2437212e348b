//! The API: HTTP and JSON on a unix socket.
//!
//! ```text
//! curl --unix-socket /run/ringway/ringway.sock http://ringway/v1/status
//! ```
//!
//! [`ringway_requests`] turns bodies into requests (pure), [`serve`] is the socket with
//! its limits, [`ringway_control::view`] the shapes of the answers, which the command line reads
//! too. The work is done by [`ringway_control`] on its own thread.

pub mod agents;
pub mod capture;
pub mod connection;
pub mod drops;
mod elsewhere;
pub mod idle;
mod log;
pub mod scrape;
pub mod serve;
mod streamed;
pub mod tables;
mod tcp;
mod tls;
pub mod trace;
