//! Values a runtime asks for, checked where it is still known which key has them.

use std::net::IpAddr;

use crate::api::{Bandwidth, PortMapping};
use crate::error::{Error, FIELD, Result};

/// Addresses, with or without a prefix length.
///
/// # Errors
/// One is none.
pub fn ips(place: &str, texts: &[String]) -> Result<Vec<String>> {
    for text in texts {
        let (address, len) = text.split_once('/').unwrap_or((text, "0"));
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => Some(32),
            Ok(IpAddr::V6(_)) => Some(128),
            Err(_) => None,
        };
        if !most.is_some_and(|most| len.parse::<u8>().is_ok_and(|len| len <= most)) {
            return Err(Error::new(
                FIELD,
                format!("{place}: {text:?} is not an IP address"),
                "write an address such as 10.77.1.7 or 10.77.1.7/24",
            ));
        }
    }
    Ok(texts.to_vec())
}

/// A MAC address as the agent reads it; Go's ways to write one are 0a:58:…, 0a-58-… and 0a58.…
///
/// # Errors
/// It is none of six bytes.
pub fn mac(place: &str, text: &str) -> Result<String> {
    let digits: Option<String> = ([(':', 2), ('-', 2), ('.', 4)].iter())
        .find(|(separator, _)| text.contains(*separator))
        .and_then(|(separator, len)| {
            let parts: Vec<&str> = text.trim().split(*separator).collect();
            let fits = |part: &&str| {
                part.len() == *len && part.bytes().all(|digit| digit.is_ascii_hexdigit())
            };
            (parts.iter().all(fits) && parts.len() * len == 12).then(|| parts.concat())
        });
    let digits = digits.ok_or_else(|| {
        Error::new(
            FIELD,
            format!("{place}: {text:?} is not a MAC address"),
            "write six hexadecimal bytes such as 0a:58:0a:4d:01:02, or leave it out",
        )
    })?;
    let bytes: Vec<&str> = (0..6).map(|i| &digits[2 * i..2 * i + 2]).collect();
    Ok(bytes.join(":").to_ascii_lowercase())
}

/// Each direction of the capability, or where that says nothing, of the annotations.
pub fn bandwidth(capability: Option<Bandwidth>, noted: Option<Bandwidth>) -> Option<Bandwidth> {
    let (first, second) = (capability.unwrap_or_default(), noted.unwrap_or_default());
    let one = |first: (u64, u64), second| if first == (0, 0) { second } else { first };
    let (ingress_rate, ingress_burst) = one(
        (first.ingress_rate, first.ingress_burst),
        (second.ingress_rate, second.ingress_burst),
    );
    let (egress_rate, egress_burst) = one(
        (first.egress_rate, first.egress_burst),
        (second.egress_rate, second.egress_burst),
    );
    let both = Bandwidth {
        ingress_rate,
        ingress_burst,
        egress_rate,
        egress_burst,
    };
    (both != Bandwidth::default()).then_some(both)
}

/// Those that ask for a port of the node. No protocol is TCP.
pub fn ports(mappings: &[PortMapping]) -> Vec<PortMapping> {
    let asked = mappings.iter().filter(|mapping| mapping.host_port > 0);
    let whole = |mapping: &PortMapping| {
        let mut mapping = mapping.clone();
        if mapping.protocol.is_empty() {
            mapping.protocol = "tcp".into();
        }
        mapping
    };
    asked.map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_as_go_reads_them() {
        for text in ["0A:58:00:00:00:0f", "0a-58-00-00-00-0F", "0a58.0000.000f"] {
            assert_eq!(mac("x", text).unwrap(), "0a:58:00:00:00:0f", "{text}");
        }
        for text in [
            "",
            "x",
            "0a:58:00:00:00",
            "0a:58:00:00:00:0g",
            "0a:58-00:00:00:0f",
            "0a580000000f",
            "0a:58:00:00:00:00:00:0f",
            "0a5:8:00:00:00:0f",
        ] {
            let error = mac("runtimeConfig.mac", text).unwrap_err();
            assert!(
                error
                    .msg
                    .starts_with(&format!("runtimeConfig.mac: {text:?}")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn addresses_are_checked_where_their_key_is_known() {
        let of = |text: &str| ips("args.cni.ips", &[text.to_owned()]);
        for text in ["10.77.1.7", "10.77.1.7/24", "fd77:1::7/64", "::1/128"] {
            assert_eq!(of(text).unwrap(), [text]);
        }
        for text in [
            "",
            "10.77.1",
            "10.77.1.7/33",
            "fd77::1/129",
            "10.77.1.7/",
            "10.77.1.7/-1",
        ] {
            assert_eq!(of(text).unwrap_err().code, FIELD, "{text}");
        }
    }
}
