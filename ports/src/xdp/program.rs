//! A filter in the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::emit;
use super::error::BpfError;
use super::filter::Filter;
use super::map::XskMap;
use crate::bpf;
use crate::bpf::LoadError;
use crate::bpf::insn::Insn;

/// Name of the program in the kernel, by which an agent knows one of its own.
pub const PROGRAM_NAME: &str = "ringway_xdp";

/// What a program says of a frame (`enum xdp_action`, linux/bpf.h).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Action {
    /// `XDP_ABORTED`
    Aborted,
    /// `XDP_DROP`
    Drop,
    /// `XDP_PASS`: to the kernel.
    Pass,
    /// `XDP_TX`
    Tx,
    /// `XDP_REDIRECT`: to the socket of the queue.
    Redirect,
    /// None of those.
    Other(u32),
}

impl From<u32> for Action {
    fn from(value: u32) -> Action {
        match value {
            0 => Action::Aborted,
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Tx,
            4 => Action::Redirect,
            other => Action::Other(other),
        }
    }
}

/// A loaded program. The kernel keeps it as long as it is attached; this only holds a descriptor.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    frags: bool,
}

impl Program {
    /// Loads `filter` over `map`. `frags`: the sockets take frames of several buffers (`XDP_USE_SG`), which
    /// lifts the limit of about a page that native XDP sets to the MTU; Linux 5.18.
    ///
    /// # Errors
    /// [`BpfError::Filter`] if it makes no sense, [`BpfError::Verifier`] with the log, or what the kernel
    /// says.
    pub fn load(filter: &Filter, map: &XskMap, frags: bool) -> Result<Program, BpfError> {
        let insns = emit::emit(&filter.checked()?, map.as_fd().as_raw_fd());
        let fd = load(PROGRAM_NAME, &insns, frags)?;
        Ok(Program { fd, frags })
    }

    /// What the program says of `packet`, a frame from its MAC addresses on, received by queue 0.
    ///
    /// # Errors
    /// The kernel refuses packets of less than 14 bytes or about a page (`BPF_PROG_TEST_RUN`).
    pub fn test_run(&self, packet: &[u8]) -> Result<Action, BpfError> {
        self.test_run_from(packet, None)
    }

    /// Likewise, for a packet from an interface (by index) and queue.
    pub(super) fn test_run_from(
        &self,
        packet: &[u8],
        from: Option<(u32, u32)>,
    ) -> Result<Action, BpfError> {
        bpf::prog_test_run(self.fd.as_fd(), packet, from)
            .map(Action::from)
            .map_err(|error| BpfError::call("BPF_PROG_TEST_RUN", error))
    }

    /// Whether it was loaded for frames of several buffers.
    pub fn frags(&self) -> bool {
        self.frags
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Loads the instructions under this name.
pub(super) fn load(name: &str, insns: &[Insn], frags: bool) -> Result<OwnedFd, BpfError> {
    bpf::load(|log| bpf::prog_load_xdp(name, insns, frags, log)).map_err(|error| match error {
        LoadError::Verifier { source, log } => BpfError::Verifier { source, log },
        LoadError::Call(source) => BpfError::call("BPF_PROG_LOAD", source),
    })
}
