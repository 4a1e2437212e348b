//! The sections about pods: the addresses they get, and their way to the outside.

use ringway_tables::Cidr;

use super::validate::{Located, cidr};
use super::{Decider, Egress, Ipam, Node, Problem, raw};
use crate::ipam::{AddressPool, Range};

/// Whether they lie in the node's networks can be said where the file says these.
pub(super) fn ipam(raw: &raw::Ipam, node: &Node, decider: Decider) -> Located<Ipam> {
    let list = |key: &str, texts: &[String]| -> Located<Vec<Range>> {
        let one = |(i, text): (usize, &String)| {
            let key = format!("ipam.{key}[{i}]");
            let range = Range::parse(text).map_err(|why| {
                let value = text.clone();
                (key.clone(), Problem::BadRange { value, why })
            })?;
            let inside = |c: &Cidr| c.contains(range.first) && c.contains(range.last);
            if decider == Decider::File && !node.pod_cidrs.iter().any(inside) {
                let networks: Vec<String> = node.pod_cidrs.iter().map(Cidr::to_string).collect();
                let (value, networks) = (text.clone(), networks.join(", "));
                return Err((key, Problem::RangeOutside { value, networks }));
            }
            Ok(range)
        };
        texts.iter().enumerate().map(one).collect()
    };
    let (ranges, exclude) = (list("ranges", &raw.ranges)?, list("exclude", &raw.exclude)?);
    for pool in AddressPool::of_families(&node.pod_cidrs, &ranges, &exclude) {
        if pool.size() == 0 {
            let network = pool.networks();
            return Err(("ipam.exclude".into(), Problem::NothingLeft { network }));
        }
    }
    Ok(Ipam { ranges, exclude })
}

pub(super) fn egress(raw: &raw::Egress) -> Located<Egress> {
    let mut exclude = Vec::new();
    for (i, text) in raw.masquerade_exclude.iter().enumerate() {
        exclude.push(cidr(&format!("egress.masquerade_exclude[{i}]"), text)?);
    }
    Ok(Egress {
        masquerade: raw.masquerade,
        masquerade_exclude: exclude,
        accept_forward: raw.accept_forward,
    })
}
