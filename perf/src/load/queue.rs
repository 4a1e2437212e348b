//! What generator and sink share of an AF_XDP ring: its opening, and how it is described.

use std::time::Duration;

use ringway_ports::xsk::{Xsk, XskConfig, ZeroCopy};
use ringway_ports::{FRAME_SIZE, Pool};

use super::LoadError;

/// Entries of each ring, and frames in all.
const ENTRIES: u32 = 2048;
const FRAMES: usize = 4096;
/// How long queue 0 may take to be let go of by whoever had it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens rings on queue 0, with `fill` frames to receive into, and the memory they use.
///
/// # Errors
/// The kernel refuses them.
pub(super) fn open(interface: &str, ifindex: u32, fill: u32) -> Result<(Xsk, Pool), LoadError> {
    let mut pool = Pool::umem(1, FRAMES, FRAME_SIZE);
    let config = XskConfig {
        ifindex,
        queue: 0,
        ring: 0,
        entries: ENTRIES,
        fill,
        zero_copy: ZeroCopy::Prefer,
        busy_poll_us: None,
        patience: PATIENCE,
    };
    let xsk = Xsk::open(&mut pool, &config, None).map_err(|source| LoadError::Ring {
        interface: interface.to_owned(),
        source,
    })?;
    Ok((xsk, pool))
}

/// `AF_PACKET` without rings, or `AF_XDP, copy`, and why.
pub(super) fn describe(xsk: Option<&Xsk>, fell_back: Option<&str>) -> String {
    let way = match xsk {
        None => "AF_PACKET",
        Some(xsk) if xsk.got().zero_copy => "AF_XDP, zero-copy",
        Some(_) => "AF_XDP, copy",
    };
    match fell_back {
        Some(why) => format!("{way} ({why})"),
        None => way.to_owned(),
    }
}
