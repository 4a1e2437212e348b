//! The map of sockets: which AF_XDP socket has the frames of which queue.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::BpfError;
use crate::bpf;

const MAP_NAME: &str = "ringway_xsks";

/// The AF_XDP sockets of an interface, one slot per receive queue. Programs loaded with it keep it alive.
#[derive(Debug)]
pub struct XskMap {
    fd: OwnedFd,
    queues: u32,
}

impl XskMap {
    /// A map with empty slots 0 to `queues` - 1.
    ///
    /// # Errors
    /// [`BpfError::NoQueues`], or what the kernel says.
    pub fn new(queues: u32) -> Result<XskMap, BpfError> {
        if queues == 0 {
            return Err(BpfError::NoQueues);
        }
        let fd = bpf::map_create_xsk(MAP_NAME, queues)
            .map_err(|error| BpfError::call("BPF_MAP_CREATE", error))?;
        Ok(XskMap { fd, queues })
    }

    /// Gives the frames of `queue` to `socket`, in the place of the one before. A socket that is not bound
    /// to that queue gets nothing, and the frames are lost.
    ///
    /// # Errors
    /// [`BpfError::Queue`] out of range, [`BpfError::NotXdpSocket`], or what the kernel says.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.check(queue)?;
        bpf::map_update(self.fd.as_fd(), queue, socket).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOTSOCK | libc::EBADF) => {
                    BpfError::NotXdpSocket { queue, source }
                }
                _ => BpfError::call("BPF_MAP_UPDATE_ELEM", source),
            }
        })
    }

    /// Lets the frames of `queue` pass to the kernel. An empty slot is no error.
    ///
    /// # Errors
    /// [`BpfError::Queue`] out of range, or what the kernel says.
    pub fn clear(&self, queue: u32) -> Result<(), BpfError> {
        self.check(queue)?;
        match bpf::map_delete(self.fd.as_fd(), queue) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                Err(BpfError::call("BPF_MAP_DELETE_ELEM", error))
            }
            _ => Ok(()),
        }
    }

    /// Slots of the map.
    pub fn queues(&self) -> u32 {
        self.queues
    }

    fn check(&self, queue: u32) -> Result<(), BpfError> {
        if queue >= self.queues {
            return Err(BpfError::Queue {
                queue,
                queues: self.queues,
            });
        }
        Ok(())
    }
}

impl AsFd for XskMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
