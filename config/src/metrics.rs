//! `[metrics]`: who can read them beside the users of the API socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::validate::{Located, absolute};
use super::{AUTO, Problem, raw};

/// The variable that holds the node's address in a pod, by the downward API (`status.hostIP`).
pub const NODE_IP: &str = "NODE_IP";

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where they are served by HTTP; none: on the API socket only.
    pub listen: Option<Listen>,
    /// Peers that have series of their own; when there are more, the worst have.
    pub peers: usize,
    /// Certificate and key of HTTPS.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// None: that in [`NODE_IP`], else the loopback address.
    ip: Option<IpAddr>,
    port: u16,
}

impl Listen {
    fn parse(text: &str) -> Option<Listen> {
        let (ip, port) = match text.strip_prefix(AUTO).and_then(|t| t.strip_prefix(':')) {
            Some(port) => (None, port.parse().ok()?),
            None => {
                let at: SocketAddr = text.parse().ok()?;
                (Some(at.ip()), at.port())
            }
        };
        (port != 0).then_some(Listen { ip, port })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where that is, for a process that has this in [`NODE_IP`].
    pub fn address(&self, node_ip: Option<&str>) -> SocketAddr {
        let node_ip = || node_ip.and_then(|text| text.parse().ok());
        let ip = self.ip.or_else(node_ip);
        SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.port)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, "{AUTO}:{}", self.port),
        }
    }
}

/// Address and port of a key; empty: none.
pub(super) fn listen(key: &str, text: &str) -> Located<Option<Listen>> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = text.to_owned();
    let wrong = || (key.to_owned(), Problem::BadListen { value });
    Listen::parse(text).map(Some).ok_or_else(wrong)
}

/// File of a key; empty: none.
pub(super) fn file(key: &str, text: Option<String>) -> Located<Option<PathBuf>> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| absolute(key, &text)).transpose()
}

pub(super) fn metrics(raw: raw::Metrics) -> Located<Metrics> {
    let listen = listen("metrics.listen", &raw.listen)?;
    let cert = file("metrics.cert_file", raw.cert_file)?;
    let key = file("metrics.key_file", raw.key_file)?;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (cert, _) => {
            let (there, missing) = match cert {
                Some(_) => ("metrics.cert_file", "metrics.key_file"),
                None => ("metrics.key_file", "metrics.cert_file"),
            };
            let missing = missing.to_owned();
            return Err((there.into(), Problem::Alone { missing }));
        }
    };
    Ok(Metrics {
        listen,
        peers: raw.peers.read("metrics.peers")?,
        identity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_listens_is_said_or_the_nodes_address_or_loopback() {
        let at = |text: &str, node_ip| {
            let listen = Listen::parse(text).unwrap();
            assert_eq!(listen.to_string(), text);
            listen.address(node_ip).to_string()
        };
        assert_eq!(at("auto:9472", None), "127.0.0.1:9472");
        assert_eq!(at("auto:9472", Some("10.0.0.5")), "10.0.0.5:9472");
        assert_eq!(at("auto:9472", Some("fd00::5")), "[fd00::5]:9472");
        assert_eq!(at("auto:9472", Some("node5")), "127.0.0.1:9472");
        assert_eq!(at("[::1]:9472", Some("10.0.0.5")), "[::1]:9472");
        assert_eq!(at("0.0.0.0:80", Some("10.0.0.5")), "0.0.0.0:80");
        for bad in [
            "auto",
            "auto:",
            "auto:x",
            "auto:65536",
            "::1:9472",
            ":80",
            "1.2.3.4:0",
        ] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }
}
