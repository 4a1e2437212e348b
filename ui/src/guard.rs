//! Who may ask: a browser that was led here by its user, and by no other site.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::refused;

/// Lets a request pass that changes nothing, names a loopback host, and comes from no other origin.
pub(crate) async fn guard(request: Request<Body>, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "this page only shows: GET");
    }
    if let Err(why) = check(request.headers()) {
        return refused(StatusCode::FORBIDDEN, why);
    }
    next.run(request).await
}

fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    // One of each: two would be read by us and by somebody before us in different ways.
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| "a header is no text"),
            (Some(_), Some(_)) => Err("a header is there twice"),
        }
    };
    let host = one(header::HOST)?.ok_or("the host is missing")?;
    if !is_loopback(host) {
        return Err("the host is none of this machine's loopback: use 127.0.0.1 or localhost");
    }
    // As a tunnel has another port at its other end, it is what both say that counts.
    match one(header::ORIGIN)? {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            return Err("another site asks for this");
        }
        _ => {}
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        // A link of another site leads to the page, which has nothing in it.
        Some(_)
            if headers
                .get("sec-fetch-mode")
                .is_some_and(|mode| mode == "navigate") =>
        {
            Ok(())
        }
        Some(_) => Err("another site asks for this"),
    }
}

/// `127.0.0.1`, `[::1]` or `localhost`, with a port or without.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (
                name,
                port.strip_prefix(':').or((port.is_empty()).then_some("80")),
            ),
            None => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("80")),
        },
    };
    let port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let name = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    name && port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(given: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        check(&headers)
    }

    #[test]
    fn only_loopback_hosts_and_the_own_origin_pass() {
        for host in [
            "127.0.0.1:9473",
            "localhost:8080",
            "[::1]:9473",
            "127.0.0.1",
            "LOCALHOST",
            "[::1]",
        ] {
            assert_eq!(checked(&[("host", host)]), Ok(()), "{host}");
            let origin = format!("http://{host}");
            let given = [
                ("host", host),
                ("origin", &origin),
                ("sec-fetch-site", "same-origin"),
            ];
            assert_eq!(checked(&given), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9473",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9473",
            "192.168.77.1:9473",
            "[::1",
            "[::1]9473",
            "127.0.0.1:x",
            "127.0.0.1:9473:1",
            "",
        ] {
            assert!(checked(&[("host", host)]).is_err(), "{host}");
        }
        assert!(checked(&[]).is_err(), "no host");
        assert!(checked(&[("host", "localhost"), ("host", "localhost")]).is_err());
        let own = ("host", "localhost:9473");
        for origin in [
            "http://evil.example",
            "http://localhost:9474",
            "https://localhost:9473",
            "http://127.0.0.1:9473",
            "null",
        ] {
            assert!(checked(&[own, ("origin", origin)]).is_err(), "{origin}");
        }
        assert!(checked(&[own, ("sec-fetch-site", "cross-site")]).is_err());
        assert!(checked(&[own, ("sec-fetch-site", "same-site")]).is_err());
        let link = [
            own,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(checked(&link), Ok(()));
    }
}
