//! Memory of a process: VmRSS of `/proc/PID/status` and Pss of `/proc/PID/smaps_rollup` (proc(5)).

use super::{Result, TrafficError};
use std::io;

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// All resident pages, also those shared with others.
    pub rss: u64,
    /// The same, a page shared by n processes counted as an nth of it.
    pub pss: u64,
}

/// What a process has now.
pub fn memory(pid: u32) -> Result<Memory> {
    let field = |file: &str, name| {
        let path = format!("/proc/{pid}/{file}");
        let text =
            std::fs::read_to_string(&path).map_err(TrafficError::io(format!("read {path}")))?;
        kilobytes(&text, name).ok_or_else(|| {
            let missing = format!("no `{name}: N kB`: has the process ended?");
            let error = io::Error::new(io::ErrorKind::InvalidData, missing);
            TrafficError::io(format!("read {path}"))(error)
        })
    };
    Ok(Memory {
        rss: field("status", "VmRSS")?,
        pss: field("smaps_rollup", "Pss")?,
    })
}

/// Bytes of the line `NAME:   N kB`; the kernel's kB are 1,024 bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        Some(
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .trim()
                .to_owned(),
        )
    };
    let value = text.lines().find_map(value)?;
    value
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_line_counts_and_no_other() {
        let text = "Name:\tringway\nVmHWM:\t    9999 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 5 kB\n";
        assert_eq!(kilobytes(text, "VmRSS"), Some(1234 * 1024));
        let rollup = "Rss:   8 kB\nPss:                 102 kB\nPss_Dirty:  7 kB\n";
        assert_eq!(kilobytes(rollup, "Pss"), Some(102 * 1024));
        assert_eq!(kilobytes("Name: zombie\n", "VmRSS"), None);
        assert_eq!(kilobytes("VmRSS: many kB\n", "VmRSS"), None);
        assert_eq!(kilobytes("VmRSS: 12\n", "VmRSS"), None);
    }

    #[test]
    fn our_own_is_read() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.rss >= own.pss && own.pss > 0, "{own:?}");
        let error = memory(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/status"), "{error}");
    }
}
