//! The kernel's version, looked at when the agent starts: what this one lacks, and what that means.
//!
//! Distributions bring features to older versions (RHEL's 4.18 has most of these), so a number alone refuses
//! nothing; what really cannot be had is named where it is tried.

use std::fmt;

/// The oldest version with all that pods need.
const MINIMUM: Version = Version(5, 2);

/// A feature: the first version that has it, and what is different without it.
const FEATURES: [(Version, &str, &str); 7] = [
    (
        Version(4, 18),
        "segmentation of UDP (UDP_SEGMENT)",
        "packets to peers are sent one by one",
    ),
    (
        Version(5, 0),
        "joining of received UDP (UDP_GRO)",
        "packets from peers are received one by one",
    ),
    (
        MINIMUM,
        "NAT in nftables tables of both families (inet)",
        "pods are not masqueraded and have no host ports",
    ),
    (
        Version(5, 9),
        "XDP links",
        "underlay.io = \"xdp\" falls back to sockets",
    ),
    (
        Version(5, 12),
        "atomic additions of BPF programs, which lanes of TAPs take",
        "what a pod asks waits behind its own bulk",
    ),
    (
        Version(6, 2),
        "UDP superpackets of TAPs (TUN_F_USO4)",
        "pods segment their UDP themselves",
    ),
    (
        Version(6, 3),
        "drivers that say what XDP they can do",
        "underlay.io = \"auto\" takes sockets",
    ),
];

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// `6.1.0-18-amd64`, `5.15`, `6.18.44-fc`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Self(number()?, number()?))
    }
}

/// Logs what the running kernel lacks by its version.
pub(super) fn check() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let Some(version) = Version::parse(release) else {
        return;
    };
    let lacking = lacking(version);
    if lacking.is_empty() {
        return;
    }
    let lacking = lacking.join("; ");
    if version < MINIMUM {
        tracing::error!(
            "Linux {release} is older than {MINIMUM}, the least that Ringway is made for; unless your \
             distribution has added them it lacks: {lacking}. Use a newer kernel"
        );
    } else {
        tracing::info!("Linux {release} lacks by its version: {lacking}");
    }
}

fn lacking(version: Version) -> Vec<String> {
    let all = FEATURES.iter().filter(|(since, ..)| version < *since);
    all.map(|(since, what, without)| format!("{what} of Linux {since} ({without})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (release, version) in [
            ("6.1.0-18-amd64", Some(Version(6, 1))),
            ("4.18.0-553.el8.x86_64", Some(Version(4, 18))),
            ("6.18.44-fc-v669", Some(Version(6, 18))),
            ("6.8-rc1", Some(Version(6, 8))),
            ("10.0", Some(Version(10, 0))),
            ("", None),
            ("linux", None),
            ("6", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(Version::parse(release), version, "{release}");
        }
        assert!(Version(4, 20) < Version(5, 2) && Version(5, 10) > MINIMUM);
    }

    #[test]
    fn what_is_missing_is_named_with_its_consequence() {
        assert_eq!(lacking(Version(6, 12)), Vec::<String>::new());
        let old = lacking(Version(5, 1)).join("\n");
        for words in ["Linux 5.2 (pods are not masqueraded", "XDP links", "6.3"] {
            assert!(old.contains(words), "{old}");
        }
        assert!(!old.contains("4.18"), "{old}");
        assert_eq!(lacking(Version(5, 15)).len(), 2);
    }
}
