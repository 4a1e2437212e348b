//! Which names are accepted, from files and from clients.

/// `IFNAMSIZ` without the terminating zero.
const INTERFACE_MAX: usize = 15;

/// Checks an interface name as the kernel does (`dev_valid_name`), and refuses
/// `%`, which the kernel would replace by a number, and control characters,
/// which would garble a terminal.
pub fn interface_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > INTERFACE_MAX {
        Err("it is longer than 15 bytes")
    } else if name == "." || name == ".." {
        Err("it is reserved")
    } else if !name.bytes().all(|b| b.is_ascii_graphic()) {
        Err("it has a space, a control character or a byte outside ASCII")
    } else if name.contains(['/', ':', '%']) {
        Err("it has a '/', ':' or '%'")
    } else {
        Ok(())
    }
}

/// Checks the name of a node: letters, digits, `-`, `.`, `_`, 253 bytes (DNS).
pub fn node_name(name: &str) -> Result<(), &'static str> {
    plain(name, "-._")
}

/// Checks the name of a pod: as a node's, and `/` between its parts.
pub fn pod_name(name: &str) -> Result<(), &'static str> {
    plain(name, "-._/@:+")
}

/// The command that has Kubernetes make a pod anew.
pub fn deletion(namespace: &str, pod: &str) -> String {
    format!("kubectl -n {namespace} delete pod {pod}")
}

fn plain(name: &str, extra: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > 253 {
        Err("it is longer than 253 bytes")
    } else if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    {
        Err("it has a character that is not allowed")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["eth0", "a", "cali1234567890a", "eth0.100", "br-lan"] {
            assert_eq!(interface_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "eth%d",
            "é",
            "a\0",
            "0123456789abcdef",
            "a:1",
        ] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_names() {
        assert!(node_name("node-1.example").is_ok());
        assert!(node_name("a/b").is_err());
        assert!(pod_name("cni-1234/eth0").is_ok());
        for bad in ["", "a b", "a\n", &"x".repeat(254)] {
            assert!(node_name(bad).is_err() && pod_name(bad).is_err(), "{bad:?}");
        }
    }
}
