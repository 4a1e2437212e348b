//! Why a driver, or the kernel, does not take a program, and what to do about it.

use std::io;

use super::Mode;
use crate::sys;

/// Why a program was not attached in a mode.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Frames would not fit one buffer.
    #[error(
        "{mode} XDP does not work with an MTU of {mtu}: a frame must fit one page, which is an MTU of at most about {limit} here (on a veth, that of its peer); lower it, or load the program for several buffers (frags)"
    )]
    Mtu {
        /// The mode tried.
        mode: Mode,
        /// MTU of the interface.
        mtu: u32,
        /// About the most for programs without `frags`.
        limit: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are fewer queues than needed.
    #[error(
        "{mode} XDP needs more queues than the interface has: on a veth, as many receive queues as its peer has transmit queues; on a NIC, set fewer with ethtool -L so that some are left for XDP ({source})"
    )]
    Queues {
        /// The mode tried.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver has no XDP, or not as the interface is set up.
    #[error(
        "the driver does not support {mode} XDP, or not with an MTU of {mtu} and the offloads that are on (try ethtool -K lro off rx-gro-hw off) ({source})"
    )]
    Unsupported {
        /// The mode tried.
        mode: Mode,
        /// MTU of the interface.
        mtu: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver does not like how the interface is set up.
    #[error(
        "the driver refuses {mode} XDP as the interface is set up (MTU {mtu}): see its MTU, queues, LRO and ring sizes (dmesg may say which); before Linux 5.9 there are no links of XDP ({source})"
    )]
    Invalid {
        /// The mode tried.
        mode: Mode,
        /// MTU of the interface.
        mtu: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A veth without its other end.
    #[error("{mode} XDP is not possible while the peer of the veth is gone ({source})")]
    NoPeer {
        /// The mode tried.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody's program is seen, and still it is taken.
    #[error(
        "{mode} XDP is busy, although no program is seen at the interface: a bond or bridge above it may have one, or it is being released ({source})"
    )]
    Busy {
        /// The mode tried.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("{mode} XDP failed: {source}")]
    Other {
        /// The mode tried.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Refusal {
    pub(super) fn new(mode: Mode, mtu: u32, frags: bool, source: io::Error) -> Refusal {
        let limit = single_buffer_mtu();
        let too_long = mode == Mode::Native && !frags && mtu > limit;
        match source.raw_os_error() {
            // veth says ERANGE of its peer's MTU; most NIC drivers say EINVAL.
            Some(libc::ERANGE) => Refusal::Mtu {
                mode,
                mtu,
                limit,
                source,
            },
            Some(libc::EINVAL | libc::E2BIG) if too_long => Refusal::Mtu {
                mode,
                mtu,
                limit,
                source,
            },
            Some(libc::EINVAL) => Refusal::Invalid { mode, mtu, source },
            Some(libc::ENOSPC) => Refusal::Queues { mode, source },
            Some(libc::EOPNOTSUPP) => Refusal::Unsupported { mode, mtu, source },
            Some(libc::ENOTCONN) => Refusal::NoPeer { mode, source },
            Some(libc::EBUSY | libc::EEXIST) => Refusal::Busy { mode, source },
            _ => Refusal::Other { mode, source },
        }
    }
}

/// About the largest MTU of native XDP without several buffers: a page, less the room before the frame
/// (`XDP_PACKET_HEADROOM`), `struct skb_shared_info` behind it and the Ethernet header.
fn single_buffer_mtu() -> u32 {
    const XDP_PACKET_HEADROOM: u32 = 256;
    const SHARED_INFO: u32 = 320;
    const ETHERNET: u32 = 14;
    let page = sys::page_size() as u32;
    page - XDP_PACKET_HEADROOM - SHARED_INFO - ETHERNET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_names_its_remedy() {
        let text = |errno, mtu, frags| {
            let source = io::Error::from_raw_os_error(errno);
            Refusal::new(Mode::Native, mtu, frags, source).to_string()
        };
        let limit = single_buffer_mtu();
        for (errno, mtu, frags, says) in [
            (libc::ERANGE, 1500, false, "frags"),
            (libc::EINVAL, limit + 1, false, "frags"),
            (libc::EINVAL, limit + 1, true, "dmesg"),
            (libc::EINVAL, limit, false, "dmesg"),
            (libc::EOPNOTSUPP, limit, false, "does not support"),
            (libc::ENOSPC, 1500, false, "queues"),
            (libc::ENOTCONN, 1500, false, "peer"),
            (libc::EBUSY, 1500, false, "bond"),
            (libc::EEXIST, 1500, false, "bond"),
            (libc::ENOMEM, 1500, false, "native XDP failed"),
        ] {
            let text = text(errno, mtu, frags);
            assert!(text.contains(says), "{errno}: {text}");
        }
        let text = text(libc::ERANGE, 9000, false);
        assert!(
            text.contains("9000") && text.contains(&limit.to_string()),
            "{text}"
        );
    }
}
