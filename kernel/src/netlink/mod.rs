//! Synchronous rtnetlink: links, their queueing disciplines, addresses, routes and neighbours. Changes of them as they happen
//! are for [`watch`], what a driver can do with XDP is for [`xdp_features`].
//!
//! One socket, one request at a time, each acknowledged before the next: the
//! kernel queues the answer while it handles the `send`, so the following
//! `recv` does not wait. A pod is attached with about ten such requests
//! (20–60 µs each), which is why nothing here is asynchronous and no `ip`
//! process is ever started.
//!
//! A socket belongs to the network namespace of the thread that opened it, for
//! as long as it lives; see [`crate::netns::run_in`].

mod address;
mod error;
mod exchange;
mod link;
mod neighbour;
mod overlay;
mod qdisc;
mod route;
mod route_to;
mod tap;
pub mod watch;
pub mod xdp_features;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use exchange::Exchange;

pub use address::{Address, Lifetime};
pub use error::NetlinkError;
pub use link::{Link, LinkChange, LinkLosses, OperState};
pub use neighbour::{Neighbour, NeighbourState};
pub use overlay::{Overlay, OverlayKind};
pub use route::{Foreign, Route, STATIC};
pub use route_to::{RouteTo, Unroutable};
pub use tap::Tap;
pub use watch::{Change, Watch};
pub use xdp_features::XdpFeatures;

/// An rtnetlink socket in the namespace of the thread that opened it.
pub struct Netlink {
    exchange: Exchange,
    strict: bool,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            exchange: Exchange::open(NETLINK_ROUTE)?,
            strict: false,
        })
    }

    /// Has the kernel filter what it lists, where it can: what others have in the tables costs little then.
    pub fn strict(mut self) -> Self {
        self.strict = self.exchange.set_strict();
        self
    }

    fn request(
        &mut self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange.request(what, message, flags)
    }
}

#[cfg(test)]
mod tests;
