//! Why there is no such socket.

use std::io;

/// Why an AF_PACKET socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// No AF_PACKET, or no right to it.
    #[error("no AF_PACKET socket: {0}; it needs CONFIG_PACKET and CAP_NET_RAW")]
    Socket(#[source] io::Error),
    /// An option the kernel does not have.
    #[error("AF_PACKET socket without {option}: {source}; Linux 4.20 and later have it")]
    Option {
        /// Its name in linux/if_packet.h.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The interface is not there.
    #[error(
        "interface {ifindex} cannot be bound: {source}; is it in this network namespace, and up?"
    )]
    Bind {
        /// Interface index.
        ifindex: u32,
        /// Why.
        source: io::Error,
    },
}
