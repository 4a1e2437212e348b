//! Lanes of the underlay: what is quiet does not wait behind bulk in a receive socket either.
//!
//! Between Ringway nodes a datagram's source port says its lane: from [`FIRST_PORT`] on, which is beyond the range
//! of kernels' own, even ports are of quiet flows, odd ones of bulk. A flow has a pair, the odd port behind the even
//! one, so that both choose the same worker of any receiver, however many it has.
//!
//! ```text
//!   port   15 … 1          0
//!          pair          │ lane        socket of the group = pair % workers · 2 + lane
//! ```
//!
//! A receiver has a socket for each worker and lane, all on one port (`SO_REUSEPORT`), and a classic BPF program
//! chooses among them. It sees a packet from its UDP payload on, and what is before that by `SKF_NET_OFF`. Of the
//! ports below nothing is known (a kernel's VXLAN, an older Ringway): they choose a worker, and the lane for
//! bulk, so that they are in nobody's way.
//!
//! Two ports are two flows to whoever spreads by them: a NIC's receive queues (RSS), paths of equal cost. So the moment
//! in which a flow becomes bulk can put a frame before one that was sent just before it by the other port, by
//! what the two ways differ in. It happens once: back it goes only after a silence. With one receive queue, and
//! within a node, it does not.
//!
//! The program counts on the order in which the group was bound: when a member closes, the kernel puts the last in its
//! place. What is chosen that is not there, the kernel replaces by a hash. So a datagram always gets to a
//! socket of the group, but until the group is made anew it may be another's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JGE, BPF_JMP, BPF_K,
};
use libc::{
    BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MOD, BPF_MSH, BPF_OR, BPF_RET, BPF_RSH,
};
use libc::{BPF_ST, BPF_TAX, BPF_TXA, BPF_X, SKF_NET_OFF, sock_filter};

use super::open::bind;
use crate::sys;

/// Which of the receive sockets; which source port.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Lane {
    /// Flows that send no more than is read at once.
    Quiet,
    /// The others.
    Bulk,
}

impl Lane {
    /// Both.
    pub const ALL: [Lane; 2] = [Lane::Quiet, Lane::Bulk];

    /// The bit of a flow's hash that says which source port it has.
    const BIT: u32 = 1 << 31;

    /// The hash by which a flow with this one is sent in the lane.
    #[inline]
    pub fn of_hash(self, hash: u32) -> u32 {
        match self {
            Lane::Quiet => hash & !Lane::BIT,
            Lane::Bulk => hash | Lane::BIT,
        }
    }
}

/// First source port that says a lane. Linux gives ports up to 60,999 to those who do not choose
/// (`net.ipv4.ip_local_port_range`), to VXLAN devices as well.
pub const FIRST_PORT: u16 = 61_000;
/// Pairs of ports from there on.
const PAIRS: u32 = (1 + u16::MAX as u32 - FIRST_PORT as u32) / 2;

/// Opens two sockets and binds them to a pair of free source ports; an error of `open` goes before one of bind(2).
pub(super) fn bind_pair<E>(
    open: impl Fn() -> Result<OwnedFd, E>,
    mut local: SocketAddr,
    random: u32,
) -> Result<io::Result<[OwnedFd; 2]>, E> {
    let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
    // A socket that is bound stays so: it is not used for another port.
    for attempt in 0..PAIRS {
        let pair = [open()?, open()?];
        let port = FIRST_PORT + 2 * ((random % PAIRS + attempt) % PAIRS) as u16;
        let bound = pair
            .iter()
            .zip([port, port + 1])
            .try_for_each(|(fd, port)| {
                local.set_port(port);
                bind(fd, local)
            });
        match bound {
            Ok(()) => return Ok(Ok(pair)),
            Err(error) if sys::errno(&error) == libc::EADDRINUSE => last = error,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Err(last))
}

/// Length of an IPv6 header.
const IPV6: u32 = 40;

/// The program that chooses among the sockets of `workers` workers: the number in the group.
pub(super) fn chooser(v6: bool, workers: u32) -> Vec<sock_filter> {
    let net = SKF_NET_OFF as u32;
    let op = |code: u32, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let port = if v6 {
        vec![op(BPF_LD | BPF_H | BPF_ABS, net.wrapping_add(IPV6))]
    } else {
        vec![
            op(BPF_LDX | BPF_B | BPF_MSH, net),
            op(BPF_LD | BPF_H | BPF_IND, net),
        ]
    };
    let lanes = [
        op(BPF_MISC | BPF_TAX, 0),
        op(BPF_ALU | BPF_RSH | BPF_K, 1),
        op(BPF_ALU | BPF_MOD | BPF_K, workers),
        op(BPF_ALU | BPF_LSH | BPF_K, 1),
        op(BPF_ST, 0),
        op(BPF_MISC | BPF_TXA, 0),
        op(BPF_ALU | BPF_AND | BPF_K, 1),
        op(BPF_MISC | BPF_TAX, 0),
        op(BPF_LD | BPF_MEM, 0),
        op(BPF_ALU | BPF_ADD | BPF_X, 0),
        op(BPF_RET | BPF_A, 0),
    ];
    let others = [
        op(BPF_ALU | BPF_MOD | BPF_K, workers),
        op(BPF_ALU | BPF_LSH | BPF_K, 1),
        op(BPF_ALU | BPF_OR | BPF_K, Lane::Bulk as u32),
        op(BPF_RET | BPF_A, 0),
    ];
    let which = sock_filter {
        jf: lanes.len() as u8,
        ..op(BPF_JMP | BPF_JGE | BPF_K, FIRST_PORT.into())
    };
    [&port[..], &[which], &lanes, &others].concat()
}
