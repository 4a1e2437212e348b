//! What a pod's annotations ask for, as containerd hands them over
//! (`io.kubernetes.cri.pod-annotations`): addresses, MAC and bandwidth without a call to the API server.

use std::collections::BTreeMap;

use crate::api::Bandwidth;
use crate::args::list;
use crate::error::{Error, FIELD, Result};

/// Addresses, comma separated.
pub const IPS: &str = "ringway.io/ips";
/// MAC address.
pub const MAC: &str = "ringway.io/mac";
/// To the pod, bit/s, a Kubernetes quantity.
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// From the pod.
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Addresses.
    pub ips: Vec<String>,
    /// MAC address.
    pub mac: Option<String>,
    /// Limits; bursts are left to the agent.
    pub bandwidth: Option<Bandwidth>,
}

/// Reads them.
///
/// # Errors
/// A bandwidth that is no quantity from 1k to 1P.
pub fn read(annotations: &BTreeMap<String, String>) -> Result<Asked> {
    let rate = |key: &str| match annotations.get(key) {
        Some(text) => bits(text).ok_or_else(|| {
            Error::new(
                FIELD,
                format!("annotation {key}: {text:?} is not a bandwidth"),
                "write a quantity from 1k to 1P in bit/s, such as 10M or 1Gi",
            )
        }),
        None => Ok(0),
    };
    let (ingress_rate, egress_rate) = (rate(INGRESS)?, rate(EGRESS)?);
    let limits = Bandwidth {
        ingress_rate,
        egress_rate,
        ..Bandwidth::default()
    };
    Ok(Asked {
        ips: annotations.get(IPS).map_or(Vec::new(), |text| list(text)),
        mac: annotations.get(MAC).map(|text| text.trim().to_owned()),
        bandwidth: (limits != Bandwidth::default()).then_some(limits),
    })
}

/// A Kubernetes quantity as a whole number from 1k to 1P, the limits Kubernetes has for these.
fn bits(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: u128 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000u128.pow(2),
        "G" => 1000u128.pow(3),
        "T" => 1000u128.pow(4),
        "P" => 1000u128.pow(5),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => {
            // 1e6, 1E6
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10u128.checked_pow(exponent)?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(factor)? / 10u128.pow(fraction.len() as u32);
    let value = u64::try_from(value).ok()?;
    (1_000..=1_000_000_000_000_000)
        .contains(&value)
        .then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("10M", 10_000_000),
            ("1Gi", 1 << 30),
            ("1500k", 1_500_000),
            ("1000", 1_000),
            ("1.5M", 1_500_000),
            ("1e6", 1_000_000),
            ("1P", 1_000_000_000_000_000),
        ] {
            assert_eq!(bits(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "10",
            "M",
            "-1M",
            "2P",
            "1.2.3M",
            "10m",
            "1e99",
            "99999999999999999999999T",
            ".",
        ] {
            assert_eq!(bits(text), None, "{text}");
        }
    }

    #[test]
    fn each_annotation_is_read() {
        let pairs = [
            (IPS, "10.77.1.9, fd77:1::9"),
            (MAC, " 0a:58:00:00:00:01 "),
            (EGRESS, "10M"),
            ("other", "x"),
        ];
        let map = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let asked = read(&map).unwrap();
        assert_eq!(asked.ips, ["10.77.1.9", "fd77:1::9"]);
        assert_eq!(asked.mac.as_deref(), Some("0a:58:00:00:00:01"));
        assert_eq!(asked.bandwidth.unwrap().egress_rate, 10_000_000);
        assert_eq!(read(&BTreeMap::new()).unwrap(), Asked::default());
        let bad = [(INGRESS.to_owned(), "fast".to_owned())].into();
        let refused = read(&bad).unwrap_err();
        assert!(
            refused.msg.contains(INGRESS) && refused.msg.contains("fast"),
            "{refused:?}"
        );
    }
}
