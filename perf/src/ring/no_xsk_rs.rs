//! In the place of the loop of xsk-rs where that is not compiled in: nothing that could be made.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;

use ringway_ports::xsk::XskConfig;

/// What there is none of.
pub(super) struct XskRs {
    never: Infallible,
}

impl XskRs {
    pub(super) const COMPILED: bool = false;

    pub(super) fn open(_: &str, _: &XskConfig, _: bool) -> anyhow::Result<XskRs> {
        refusal().map(|never| XskRs { never })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self.never {}
    }

    pub(super) fn write(&mut self, _: &[Vec<u8>]) -> anyhow::Result<()> {
        match self.never {}
    }

    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        match self.never {}
    }

    pub(super) fn waiting(&mut self) -> usize {
        match self.never {}
    }

    pub(super) fn receive(&mut self, _: usize) -> anyhow::Result<(usize, u64)> {
        match self.never {}
    }

    pub(super) fn transmit(&mut self, _: usize, _: usize) -> anyhow::Result<usize> {
        match self.never {}
    }

    pub(super) fn overruns(&self) -> u64 {
        match self.never {}
    }

    pub(super) fn account(&self) -> String {
        match self.never {}
    }
}

fn refusal() -> anyhow::Result<Infallible> {
    anyhow::bail!("xsk-rs is not compiled in: --features xsk-rs")
}
