//! The subnets that flanneld had on this node: `FLANNEL_SUBNET` of its `subnet.env`.

use std::path::Path;

use ringway_tables::Cidr;

use crate::layout::Subnets;

/// Reads them, if there is such a file and it names any.
pub(crate) fn previous(path: &Path) -> Option<Subnets> {
    parse(&std::fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<Subnets> {
    let subnet = |key: &str, v6: bool| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        // The gateway's address stands there.
        let (address, len) = value.split_once('/')?;
        let cidr = Cidr::containing(address.parse().ok()?, len.parse().ok()?).ok()?;
        (cidr.is_ipv6() == v6).then_some(cidr)
    };
    Some(Subnets {
        v4: subnet("FLANNEL_SUBNET", false)?,
        v6: subnet("FLANNEL_IPV6_SUBNET", true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_flanneld_leaves_it() {
        let text = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_IPV6_NETWORK=fc00::/48\n\
                    FLANNEL_IPV6_SUBNET=fc00:0:0:22::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n";
        assert_eq!(
            parse(text).unwrap().to_string(),
            "10.5.34.0-24&fc00:0:0:22::-64"
        );
        let v4 = parse("FLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_MTU=1450\n");
        assert_eq!(v4.unwrap().to_string(), "10.5.34.0-24");
        for text in [
            "",
            "FLANNEL_MTU=1450",
            "FLANNEL_SUBNET=",
            "FLANNEL_SUBNET=fc00::1/64",
            "FLANNEL_SUBNET=10.5.34.1/99",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
