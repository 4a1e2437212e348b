//! How a program is to be attached.

use std::fmt;

/// Where the program runs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Mode {
    /// In the driver, before the kernel has made a packet of the frame.
    Native,
    /// After that, for every driver.
    Generic,
}

impl Mode {
    /// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE` (linux/if_link.h).
    pub(super) fn flags(self) -> u32 {
        match self {
            Mode::Native => 1 << 2,
            Mode::Generic => 1 << 1,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
        })
    }
}

/// Which modes will do.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum AttachMode {
    /// Only native.
    Native,
    /// Only generic.
    Generic,
    /// Native, or generic if the driver refuses.
    #[default]
    Either,
}

/// How to attach.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct AttachOptions {
    /// Which modes will do.
    pub mode: AttachMode,
    /// Evict a program of ours that is there, also one whose agent lives: that one then gets nothing any
    /// more. Only for an agent that knows it is the only one of its node. Needs `CAP_SYS_ADMIN`.
    pub take_over: bool,
}
