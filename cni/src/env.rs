//! What a runtime puts into the environment.

use crate::error::{ENV, Error, Result};

/// The variables, empty if they are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// `CNI_PATH`
    pub path: String,
}

/// Longest interface name, `IFNAMSIZ` without the terminating zero.
const IFNAME_MAX: usize = 15;

impl Env {
    /// Those of this process.
    pub fn from_process() -> Self {
        let get = |name: &str| {
            std::env::var_os(name).map_or(String::new(), |v| v.to_string_lossy().into_owned())
        };
        Self {
            command: get("CNI_COMMAND"),
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            args: get("CNI_ARGS"),
            path: get("CNI_PATH"),
        }
    }

    /// Checks what the verb needs.
    ///
    /// # Errors
    /// All variables that are missing, or the one that makes no sense.
    pub fn check(&self) -> Result<()> {
        let needed: &[(&str, &str)] = match self.command.as_str() {
            "ADD" | "CHECK" => &[
                ("CNI_CONTAINERID", &self.container_id),
                ("CNI_NETNS", &self.netns),
                ("CNI_IFNAME", &self.ifname),
                ("CNI_PATH", &self.path),
            ],
            "DEL" => &[
                ("CNI_CONTAINERID", &self.container_id),
                ("CNI_IFNAME", &self.ifname),
                ("CNI_PATH", &self.path),
            ],
            "GC" | "STATUS" => &[("CNI_PATH", &self.path)],
            "VERSION" => &[],
            "" => {
                return Err(Error::new(
                    ENV,
                    "required env variables [CNI_COMMAND] missing",
                    "this is a CNI plugin: a container runtime calls it; `ringway-cni --help` says more",
                ));
            }
            other => {
                return Err(Error::new(
                    ENV,
                    format!("unknown CNI_COMMAND: {other}"),
                    "ADD, DEL, CHECK, GC, STATUS or VERSION",
                ));
            }
        };
        let missing: Vec<&str> = needed
            .iter()
            .filter(|(_, value)| value.is_empty())
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ENV,
                format!("required env variables [{}] missing", missing.join(",")),
                format!("{} needs them", self.command),
            ));
        }
        if matches!(self.command.as_str(), "ADD" | "DEL" | "CHECK") {
            self.check_names()?;
        }
        Ok(())
    }

    /// The specification's pattern for container ids, and the kernel's rules for interface names.
    fn check_names(&self) -> Result<()> {
        let id = &self.container_id;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !id.bytes().all(fits) || !id.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(Error::new(
                ENV,
                format!("invalid characters in CNI_CONTAINERID {id:?}"),
                "letters, digits and _ . - only, beginning with a letter or digit",
            ));
        }
        let name = &self.ifname;
        let wrong = if name.len() > IFNAME_MAX {
            Some("it is longer than 15 bytes")
        } else if name == "." || name == ".." {
            Some("it is reserved")
        } else if name.contains(['/', ':', '%']) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            Some("it has a space, '/', ':', '%', a control character or a byte outside ASCII")
        } else {
            None
        };
        match wrong {
            None => Ok(()),
            Some(why) => Err(Error::new(
                ENV,
                format!("CNI_IFNAME {name:?} is not an interface name: {why}"),
                "use a name such as eth0",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(command: &str) -> Env {
        Env {
            command: command.into(),
            container_id: "a1_.-Z".into(),
            netns: "/run/netns/a".into(),
            ifname: "eth0".into(),
            path: "/opt/cni/bin".into(),
            ..Env::default()
        }
    }

    #[test]
    fn each_verb_needs_its_own() {
        let without = |command: &str, clear: fn(&mut Env)| {
            let mut env = good(command);
            clear(&mut env);
            env.check().err().map(|e| (e.code, e.msg))
        };
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            assert_eq!(good(command).check(), Ok(()), "{command}");
            let path = without(command, |env| env.path.clear());
            assert_eq!(path.is_some(), command != "VERSION", "{command}");
            let id = without(command, |env| env.container_id.clear());
            let pods = matches!(command, "ADD" | "DEL" | "CHECK");
            assert_eq!(id.is_some(), pods, "{command}");
            let netns = without(command, |env| env.netns.clear());
            assert_eq!(
                netns.is_some(),
                matches!(command, "ADD" | "CHECK"),
                "{command}"
            );
        }
        let two = without("ADD", |env| {
            env.netns.clear();
            env.ifname.clear();
        });
        let (code, msg) = two.unwrap();
        assert_eq!(code, ENV);
        assert!(msg.contains("[CNI_NETNS,CNI_IFNAME]"), "{msg}");
        assert_eq!(good("").check().unwrap_err().code, ENV);
        assert_eq!(good("add").check().unwrap_err().code, ENV);
    }

    #[test]
    fn names_are_checked() {
        for id in ["-a", ".a", "a/b", "a b", "é", "_x"] {
            let env = Env {
                container_id: id.into(),
                ..good("DEL")
            };
            assert_eq!(env.check().unwrap_err().code, ENV, "{id}");
        }
        for ifname in ["..", "a/b", "eth:0", "0123456789abcdef", "a b", "e%d"] {
            let env = Env {
                ifname: ifname.into(),
                ..good("ADD")
            };
            assert_eq!(env.check().unwrap_err().code, ENV, "{ifname}");
        }
    }
}
