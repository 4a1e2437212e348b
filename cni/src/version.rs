//! Versions of the specification.

use crate::error::{Error, Result, VERSION};

/// A version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses without `version`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, MTU of interfaces.
    V1_1_0,
}

/// All, the oldest first.
pub const ALL: [(Version, &str); 4] = [
    (Version::V0_3_1, "0.3.1"),
    (Version::V0_4_0, "0.4.0"),
    (Version::V1_0_0, "1.0.0"),
    (Version::V1_1_0, "1.1.0"),
];

impl Version {
    /// Reads `cniVersion`. Empty stands for one that is too old.
    ///
    /// # Errors
    /// Not one of [`ALL`].
    pub fn parse(text: &str) -> Result<Self> {
        let found = ALL.iter().find(|(_, name)| *name == text);
        found.map(|(version, _)| *version).ok_or_else(|| {
            let text = if text.is_empty() {
                "0.1.0 (none given)"
            } else {
                text
            };
            Error::new(
                VERSION,
                format!("incompatible CNI versions: config is {text}"),
                format!("plugin supports {}", names().join(", ")),
            )
        })
    }

    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        ALL.iter()
            .find(|(v, _)| *v == self)
            .map_or("", |(_, name)| name)
    }

    /// Refuses a verb that came later.
    ///
    /// # Errors
    /// This version is older than `first`.
    pub fn has(self, verb: &str, first: Version) -> Result<()> {
        if self >= first {
            return Ok(());
        }
        Err(Error::new(
            VERSION,
            format!(
                "config version does not allow {verb}: it is {}",
                self.name()
            ),
            format!("{verb} came with {}; raise cniVersion", first.name()),
        ))
    }
}

/// Their names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ones_are_read_and_others_refused() {
        for (version, name) in ALL {
            assert_eq!(Version::parse(name), Ok(version));
            assert_eq!(version.name(), name);
        }
        for other in ["", "0.1.0", "0.2.0", "0.3.0", "1.2.0", "1.0", "x"] {
            assert_eq!(Version::parse(other).unwrap_err().code, VERSION, "{other}");
        }
        assert!(Version::V0_3_1.has("CHECK", Version::V0_4_0).is_err());
        assert!(Version::V1_1_0.has("GC", Version::V1_1_0).is_ok());
    }
}
