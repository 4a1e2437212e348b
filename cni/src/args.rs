//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`.

use crate::api::PodIdentity;
use crate::error::{Error, INVALID, Result};

/// What is understood of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `IP`: addresses, comma separated.
    pub ips: Vec<String>,
    /// `MAC`.
    pub mac: Option<String>,
    /// `K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`.
    pub pod: PodIdentity,
}

impl Args {
    /// Reads the variable.
    ///
    /// # Errors
    /// A pair without `=`, or a key that is not known while `IgnoreUnknown` is not set.
    pub fn parse(text: &str) -> Result<Self> {
        let mut args = Self::default();
        let (mut unknown, mut ignore) = (Vec::new(), false);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::value(
                    "CNI_ARGS",
                    pair,
                    "KEY=VALUE pairs between semicolons",
                ));
            };
            match key {
                "IgnoreUnknown" => {
                    ignore = matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "t");
                }
                "IP" => args.ips = list(value),
                "MAC" => args.mac = Some(value.to_owned()),
                "K8S_POD_NAMESPACE" => args.pod.namespace = value.to_owned(),
                "K8S_POD_NAME" => args.pod.name = value.to_owned(),
                "K8S_POD_UID" => args.pod.uid = value.to_owned(),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                other => unknown.push(other),
            }
        }
        if !unknown.is_empty() && !ignore {
            return Err(Error::new(
                INVALID,
                format!("CNI_ARGS: unknown args {unknown:?}"),
                "remove them, or add IgnoreUnknown=1",
            ));
        }
        Ok(args)
    }
}

/// Comma separated, empty parts left out.
pub fn list(text: &str) -> Vec<String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_send() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1;FUTURE=x";
        let args = Args::parse(text).unwrap();
        assert_eq!(
            (args.pod.namespace.as_str(), args.pod.name.as_str()),
            ("default", "web-0")
        );
        let args = Args::parse("IP=10.77.1.9,fd77:1::9;MAC=0a:58:00:00:00:01").unwrap();
        assert_eq!(args.ips, ["10.77.1.9", "fd77:1::9"]);
        assert_eq!(args.mac.as_deref(), Some("0a:58:00:00:00:01"));
        assert_eq!(Args::parse("").unwrap(), Args::default());
    }

    #[test]
    fn unknown_keys_need_permission() {
        let refused = Args::parse("FOO=1;BAR=2").unwrap_err();
        assert!(
            refused.msg.contains("FOO") && refused.msg.contains("BAR"),
            "{refused:?}"
        );
        assert!(Args::parse("FOO=1;IgnoreUnknown=1").is_ok());
        assert!(Args::parse("FOO=1;IgnoreUnknown=0").is_err());
        assert!(Args::parse("nonsense").is_err());
    }
}
