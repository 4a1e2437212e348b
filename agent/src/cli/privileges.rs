//! What the agent needs, checked before anything is touched.

use std::fs::File;
use std::io;

use anyhow::bail;

const TUN: &str = "/dev/net/tun";
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
    match File::options().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(e) => bail!("{TUN} cannot be opened: {e}\n  to do: {}", remedy(&e)),
    }
}

/// What helps where the device cannot be opened.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // Not EACCES, which the file's mode gives: the device rules of the container's cgroup.
        Some(libc::EPERM) => {
            "the container's device rules refuse it, as those of crun and of runc 1.2.0 to 1.2.3 do unless \
             told otherwise: use runc 1.2.4 or later, or deploy/privileged (docs/operations.md)"
        }
        Some(libc::ENOENT) => {
            "load the module (modprobe tun); in a container, mount the device from the host"
        }
        _ => "load the module (modprobe tun); in a container, mount the device and permit it",
    }
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
    fn who_refuses_the_device_is_told_apart() {
        let told = |errno| remedy(&io::Error::from_raw_os_error(errno));
        for words in ["crun", "runc 1.2.0 to 1.2.3", "deploy/privileged"] {
            assert!(told(libc::EPERM).contains(words), "{}", told(libc::EPERM));
        }
        assert!(told(libc::ENOENT).contains("mount the device"));
        assert!(told(libc::EACCES).contains("permit it"));
    }

    #[test]
    fn effective_capabilities_are_read() {
        let text = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000203000\n";
        assert_eq!(effective(text), 1 << 21 | 1 << 12 | 1 << 13);
        assert_eq!(effective(""), 0);
    }
}
