//! The kernel's packet generator (`perf/pktgen/pktgen.sh`), on a NIC of a node.
//!
//! It writes straight to the driver, so that what arrives at the other NIC owes nothing to a socket,
//! a route or a queue of this side. Its payload is its own header, which read as VXLAN has the I flag
//! set (the magic begins with 0xbe) and a VNI that counts up every 256 packets: a node drops all of it.

use crate::lab::{INTERFACE, LabError, Netns, run};
use std::net::IpAddr;

/// Where the initramfs has the script.
const SCRIPT: &str = "/bin/pktgen.sh";

/// A volley.
pub(super) struct Volley {
    /// Outer source: a peer's address, or the drop would be for that.
    pub(super) from: IpAddr,
    /// Outer destination.
    pub(super) to: IpAddr,
    /// MAC of the NIC it goes to.
    pub(super) mac: String,
    /// UDP destination port.
    pub(super) port: u16,
    /// Packets.
    pub(super) count: u64,
    /// Packets per second.
    pub(super) rate: u64,
}

/// What became of a volley.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fired {
    /// Packets the driver took.
    pub(super) sent: u64,
    /// Packets it did not.
    pub(super) errors: u64,
    /// Packets per second.
    pub(super) pps: u64,
}

impl Volley {
    /// Sends it from `ns`'s NIC. Blocks until then.
    pub(super) fn fire(&self, ns: &Netns) -> Result<Fired, LabError> {
        let words = [
            ("--dev", INTERFACE.to_owned()),
            ("--to", self.to.to_string()),
            ("--from", self.from.to_string()),
            ("--mac", self.mac.clone()),
            ("--port", self.port.to_string()),
            ("--size", "110".into()),
            ("--rate", self.rate.to_string()),
            ("--count", self.count.to_string()),
        ];
        let mut args = vec!["sh".to_owned(), SCRIPT.to_owned()];
        args.extend(
            words
                .into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value]),
        );
        let report = ns.run(|| run("busybox", &args))??;
        fired(&report).ok_or_else(|| {
            LabError::io("pktgen's report")(std::io::Error::other(report.trim().to_owned()))
        })
    }
}

/// Reads the script's `sent N errors N pps N result OK`.
fn fired(report: &str) -> Option<Fired> {
    let words: Vec<&str> = report.split_whitespace().collect();
    let ["sent", sent, "errors", errors, "pps", pps, "result", "OK"] = words[..] else {
        return None;
    };
    Some(Fired {
        sent: sent.parse().ok()?,
        errors: errors.parse().ok()?,
        pps: pps.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let good = Fired {
            sent: 2999,
            errors: 1,
            pps: 9999,
        };
        assert_eq!(fired("sent 2999 errors 1 pps 9999 result OK\n"), Some(good));
        assert_eq!(fired("sent 0 errors 0 pps 0 result No\n"), None);
        assert_eq!(fired("sent x errors 0 pps 0 result OK\n"), None);
        assert_eq!(fired(""), None);
    }
}
