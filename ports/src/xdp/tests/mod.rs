//! Tests of the program: over packets without an interface ([`packets`], [`model`]), and at interfaces in
//! namespaces of their own ([`traffic`], [`occupied`], [`refused`]).

mod model;
mod occupied;
mod packets;
mod refused;
mod traffic;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::{Filter, Program, XskMap, occupant};
use crate::common::{Netns, eventually};
use crate::sys;

/// A filter with the addresses of the first namespace of a `veth_pair`.
fn filter(ports: &[u16]) -> Filter {
    Filter {
        addresses: vec![ip("10.9.0.1"), ip("fd09::1")],
        ports: ports.to_vec(),
        cidrs: vec![],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An AF_XDP socket that is bound to nothing: frames redirected to it are lost. `None` if the kernel has
/// no such sockets, and then that is printed.
fn xdp_socket() -> Option<OwnedFd> {
    match sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0) {
        Ok(socket) => Some(socket),
        Err(error) if sys::errno(&error) == libc::EAFNOSUPPORT => {
            println!("SKIPPED: no AF_XDP in this kernel");
            None
        }
        Err(error) => panic!("{error}; this test needs root; run: make test"),
    }
}

/// The interface has no program any more. Whoever lists the links of the system, as the tests beside this
/// one do, holds each for a moment, so the last descriptor may be closed a little later than ours.
fn vacated(ns: &Netns, interface: &str) {
    let gone = || ns.enter(|| occupant(interface).unwrap().is_none());
    eventually("the program goes", || gone().then_some(()));
}

/// A map of two queues with a socket for the first.
struct Sockets {
    map: XskMap,
    socket: OwnedFd,
}

impl Sockets {
    fn new() -> Option<Sockets> {
        let socket = xdp_socket()?;
        let map = XskMap::new(2).expect("root may make maps");
        map.set(0, socket.as_fd()).unwrap();
        Some(Sockets { map, socket })
    }

    fn load(&self, filter: &Filter) -> Program {
        Program::load(filter, &self.map, false).unwrap_or_else(|error| panic!("{error}"))
    }
}
