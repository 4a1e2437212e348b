//! What the agent needs, checked before anything is touched.

use std::fs::File;

use anyhow::bail;

/// Bits of capabilities(7), linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Fails with what is missing, and what to do.
pub(super) fn check() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status);
    for (bit, name, why) in [
        (
            CAP_NET_ADMIN,
            "CAP_NET_ADMIN",
            "to make interfaces and routes",
        ),
        (
            CAP_SYS_ADMIN,
            "CAP_SYS_ADMIN",
            "to enter the pods' namespaces",
        ),
    ] {
        if effective & (1 << bit) == 0 {
            bail!(
                "the agent lacks {name}, which it needs {why}\n  to do: run it as root; \
                 in a container, set privileged: true or add {name}"
            );
        }
    }
    if let Err(e) = File::options().read(true).write(true).open("/dev/net/tun") {
        bail!(
            "/dev/net/tun cannot be opened: {e}\n  to do: load the module (modprobe tun); \
             in a container, mount the device and permit it"
        );
    }
    Ok(())
}

/// `CapEff` of /proc/self/status.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read() {
        let text = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000203000\n";
        assert_eq!(effective(text), 1 << 21 | 1 << 12 | 1 << 13);
        assert_eq!(effective(""), 0);
    }
}
