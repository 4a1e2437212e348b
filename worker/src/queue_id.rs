//! Names of what a worker waits for, and their epoll tokens.
//!
//! ```text
//!   0 ..            MAX_SOCKETS ..    + MAX_RINGS ..          1 << 32 ..        usize::MAX - 1
//!   receive sockets AF_XDP rings      TAPs, by port number,   transmit sockets  the waker
//!                                     two lanes each
//! ```

use mio::Token;
use ringway_ports::socket::MAX_TX_PORTS;
use ringway_tables::PortId;

use super::ring_set::MAX_RINGS;

/// Receive sockets of a worker, at most: two families, each with every encapsulation, each at the address in use
/// and at a former one.
pub(super) const MAX_SOCKETS: usize = 8;
const FIRST_RING: usize = 2 * MAX_SOCKETS;
const FIRST_TAP: usize = FIRST_RING + MAX_RINGS;
/// Transmit sockets of one underlay: each lane has its own.
const TX_SOCKETS: usize = 2 * MAX_TX_PORTS;
/// Tokens from here on are transmit sockets.
const FIRST_TRANSMIT: usize = 1 << 32;
const WAKER: usize = usize::MAX - 1;

/// A queue that a worker reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum QueueId {
    /// The receive socket of that number for quiet flows.
    Socket(u32),
    /// That for bulk.
    BulkSocket(u32),
    /// The open ring of that number.
    Ring(u32),
    /// The TAP of a port; of one with lanes that for quiet flows.
    Tap(PortId),
    /// The lane for bulk of a port's TAP.
    Bulk(PortId),
}

impl QueueId {
    /// The port whose queue it is.
    pub(super) fn port(self) -> Option<PortId> {
        match self {
            QueueId::Tap(port) | QueueId::Bulk(port) => Some(port),
            QueueId::Socket(_) | QueueId::BulkSocket(_) | QueueId::Ring(_) => None,
        }
    }

    /// A small number, different for each queue.
    #[inline]
    pub(super) fn index(self) -> usize {
        match self {
            QueueId::Socket(i) => 2 * i as usize,
            QueueId::BulkSocket(i) => 2 * i as usize + 1,
            QueueId::Ring(i) => FIRST_RING + i as usize,
            QueueId::Tap(port) => FIRST_TAP + 2 * port.0 as usize,
            QueueId::Bulk(port) => FIRST_TAP + 2 * port.0 as usize + 1,
        }
    }

    fn of_index(index: usize) -> QueueId {
        match index {
            0..FIRST_RING if index.is_multiple_of(2) => QueueId::Socket(index as u32 / 2),
            0..FIRST_RING => QueueId::BulkSocket(index as u32 / 2),
            FIRST_RING..FIRST_TAP => QueueId::Ring((index - FIRST_RING) as u32),
            _ => {
                let port = PortId(((index - FIRST_TAP) / 2) as u32);
                match (index - FIRST_TAP) % 2 {
                    0 => QueueId::Tap(port),
                    _ => QueueId::Bulk(port),
                }
            }
        }
    }
}

/// What an epoll event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Watched {
    /// A queue has something to read.
    Queue(QueueId),
    /// A transmit socket has errors to be read.
    Transmit(TransmitSocket),
    /// The control plane has sent a command.
    Waker,
}

/// A transmit socket: its underlay, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TransmitSocket {
    pub(super) underlay: usize,
    pub(super) index: usize,
}

impl Watched {
    pub(super) fn token(self) -> Token {
        Token(match self {
            Watched::Queue(queue) => queue.index(),
            Watched::Transmit(TransmitSocket { underlay, index }) => {
                FIRST_TRANSMIT + underlay * TX_SOCKETS + index
            }
            Watched::Waker => WAKER,
        })
    }

    #[inline]
    pub(super) fn of(Token(token): Token) -> Watched {
        match token {
            0..FIRST_TRANSMIT => Watched::Queue(QueueId::of_index(token)),
            WAKER => Watched::Waker,
            _ => Watched::Transmit(TransmitSocket {
                underlay: (token - FIRST_TRANSMIT) / TX_SOCKETS,
                index: (token - FIRST_TRANSMIT) % TX_SOCKETS,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_has_a_token_of_its_own_and_comes_back_from_it() {
        let (sockets, rings) = (MAX_SOCKETS as u32, MAX_RINGS as u32);
        let ports = [0, 1, 63, 64, 1023, 1 << 20];
        let transmit = (0..MAX_SOCKETS).flat_map(|underlay| {
            [0, 1, TX_SOCKETS - 1].map(|index| TransmitSocket { underlay, index })
        });
        let mut all = vec![Watched::Waker];
        all.extend((0..sockets).map(|i| Watched::Queue(QueueId::Socket(i))));
        all.extend((0..sockets).map(|i| Watched::Queue(QueueId::BulkSocket(i))));
        all.extend((0..rings).map(|i| Watched::Queue(QueueId::Ring(i))));
        all.extend(ports.map(|n| Watched::Queue(QueueId::Tap(PortId(n)))));
        all.extend(ports.map(|n| Watched::Queue(QueueId::Bulk(PortId(n)))));
        all.extend(transmit.map(Watched::Transmit));
        for watched in &all {
            assert_eq!(Watched::of(watched.token()), *watched);
        }
        let tokens: HashSet<_> = all.iter().map(|watched| watched.token()).collect();
        assert_eq!(tokens.len(), all.len());
        // mio keeps the last token for itself.
        assert!(!tokens.contains(&Token(usize::MAX)));
    }
}
