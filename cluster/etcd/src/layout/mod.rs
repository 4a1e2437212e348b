//! Flannel's layout (its `pkg/subnet`, `pkg/lease`): keys, values, and which subnets there are to take.

mod free;
mod key;
mod pools;
mod value;

pub use free::{MOST, free};
pub use key::{KeyError, Subnets};
pub use pools::{Pool, PoolError, Pools};
pub use value::{Attributes, ValueError};

/// A text of somebody else for a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
