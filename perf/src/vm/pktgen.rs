//! The kernel's packet generator (`Documentation/networking/pktgen.rst`), on a NIC of a node.
//!
//! It writes straight to the driver, so that what arrives at the other NIC owes nothing to a socket,
//! a route or a queue of this side. Its payload is its own header, which read as VXLAN has the I flag
//! set (the magic begins with 0xbe) and a VNI that counts up every 256 packets: a node drops all of it.

use crate::lab::{Family, INTERFACE, LabError, Netns};
use std::net::IpAddr;
use std::path::Path;

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
    /// Nanoseconds between two of them.
    pub(super) delay_ns: u32,
}

impl Volley {
    /// Sends it from `ns`'s NIC and returns how many packets the driver took. Blocks until then.
    pub(super) fn fire(&self, ns: &Netns) -> Result<u64, LabError> {
        ns.run(|| {
            // The thread's, not the process's namespace.
            let folder = Path::new("/proc/thread-self/net/pktgen");
            let tell = |file: &str, command: &str| {
                std::fs::write(folder.join(file), format!("{command}\n"))
                    .map_err(LabError::io(format!("pktgen {file}: {command}")))
            };
            tell("kpktgend_0", "rem_device_all")?;
            tell("kpktgend_0", &format!("add_device {INTERFACE}"))?;
            for command in self.commands() {
                tell(INTERFACE, &command)?;
            }
            tell("pgctrl", "start")?;
            let report = std::fs::read_to_string(folder.join(INTERFACE))
                .map_err(LabError::io("read pktgen's report"))?;
            tell("kpktgend_0", "rem_device_all")?;
            sent(&report).ok_or_else(|| {
                LabError::io("pktgen's report")(std::io::Error::other(report.trim().to_owned()))
            })
        })?
    }

    fn commands(&self) -> Vec<String> {
        let family = match self.to {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        let addresses = match family {
            Family::V4 => [
                format!("src_min {}", self.from),
                format!("src_max {}", self.from),
                format!("dst {}", self.to),
            ],
            Family::V6 => [
                format!("src6 {}", self.from),
                format!("dst6 {}", self.to),
                // IPv6 has no UDP without a checksum (RFC 8200 section 8.1).
                "flag UDPCSUM".into(),
            ],
        };
        let mut commands = vec![
            format!("count {}", self.count),
            format!("delay {}", self.delay_ns),
            "pkt_size 110".into(),
            format!("dst_mac {}", self.mac),
            format!("udp_dst_min {}", self.port),
            format!("udp_dst_max {}", self.port),
        ];
        commands.extend(addresses);
        commands
    }
}

/// Packets sent, from the report of a device: `Result: OK: ...` and `pkts-sofar: N  errors: N`.
fn sent(report: &str) -> Option<u64> {
    report.contains("Result: OK").then_some(())?;
    let after = report.split("pkts-sofar:").nth(1)?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let report = "Params: count 3000  min_pkt_size: 110\nCurrent:\n     pkts-sofar: 2999  errors: 1\n     started: 1us\nResult: OK: 300021(c2+d3) usec, 3000 (110byte,0frags)\n  9999pps 8Mb/sec\n";
        assert_eq!(sent(report), Some(2999));
        assert_eq!(
            sent("     pkts-sofar: 0  errors: 0\nResult: No such parameter \"x\"\n"),
            None
        );
    }
}
