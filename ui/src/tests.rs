//! The server without a browser: who gets what.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

use super::*;

struct Server {
    router: Router,
    token: String,
    asked: Arc<AtomicUsize>,
}

fn server(fails: bool) -> Server {
    let token = Token::new().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let ask = move |path: &str| {
        count.fetch_add(1, Relaxed);
        match fails {
            true => Err(Refused {
                what: "the agent does not answer".into(),
            }),
            false => Ok(json!({ "path": path })),
        }
    };
    let (text, router) = (token.0.clone(), router(token, Arc::new(ask)));
    Server {
        router,
        token: text,
        asked,
    }
}

impl Server {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }
}

const HOST: (&str, &str) = ("host", "127.0.0.1:9473");

#[tokio::test]
async fn the_page_is_for_everybody_and_the_node_for_who_has_the_token() {
    let server = server(false);
    for (path, kind, text) in PARTS {
        let (status, headers, body) = server.ask("GET", path, &[HOST]).await;
        assert_eq!((status, body.as_str()), (200, text), "{path}");
        assert_eq!(headers["content-type"], kind);
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        assert_eq!(headers["cache-control"], "no-store");
        assert!(!text.contains(&server.token));
    }
    let wrong = format!("Bearer {}", "0".repeat(32));
    let short = format!("Bearer {}", &server.token[..31]);
    for authorization in ["", "Bearer ", &server.token, &wrong, &short] {
        let (status, _, body) = server
            .ask("GET", "/data", &[HOST, ("authorization", authorization)])
            .await;
        assert_eq!(status, 401, "{authorization}");
        assert!(body.contains("ringway ui"), "{body}");
    }
    assert_eq!(
        server.asked.load(Relaxed),
        0,
        "nobody was asked for who has no token"
    );
    let right = format!("Bearer {}", server.token);
    let (status, _, body) = server
        .ask("GET", "/data", &[HOST, ("authorization", &right)])
        .await;
    assert_eq!(status, 200);
    let all: Value = serde_json::from_str(&body).unwrap();
    assert!(all["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(all["drops"]["path"], "/v1/drops");
    let once = server.asked.load(Relaxed);
    let (status, _, again) = server
        .ask("GET", "/data", &[HOST, ("authorization", &right)])
        .await;
    assert_eq!((status, again), (200, body));
    assert_eq!(
        server.asked.load(Relaxed),
        once,
        "a second window costs nothing"
    );
}

#[tokio::test]
async fn other_sites_hosts_and_methods_are_refused_even_with_the_token() {
    let server = server(false);
    let right = format!("Bearer {}", server.token);
    let authorization = ("authorization", right.as_str());
    for headers in [
        &[("host", "evil.example"), authorization][..],
        &[authorization],
        &[HOST, authorization, ("origin", "http://evil.example")],
        &[HOST, authorization, ("sec-fetch-site", "cross-site")],
    ] {
        let (status, headers, _) = server.ask("GET", "/data", headers).await;
        assert_eq!(status, 403);
        assert_eq!(headers.get("access-control-allow-origin"), None);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"] {
        let (status, _, _) = server.ask(method, "/data", &[HOST, authorization]).await;
        assert_eq!(status, 405, "{method}");
    }
    for path in ["/v1/status", "/data/", "/../etc/passwd", "//"] {
        let (status, _, _) = server.ask("GET", path, &[HOST, authorization]).await;
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(server.asked.load(Relaxed), 0);
}

#[tokio::test]
async fn an_agent_that_is_away_is_said_and_asked_again() {
    let server = server(true);
    let right = format!("Bearer {}", server.token);
    for n in 1..3 {
        let (status, _, body) = server
            .ask("GET", "/data", &[HOST, ("authorization", &right)])
            .await;
        assert_eq!(status, 502);
        assert_eq!(body, r#"{"error":"the agent does not answer"}"#);
        assert_eq!(server.asked.load(Relaxed), n);
    }
}

#[tokio::test]
async fn it_listens_on_loopback_and_no_two_addresses_are_the_same() {
    let (one, two) = (Page::open(0).await.unwrap(), Page::open(0).await.unwrap());
    assert!(one.address().unwrap().ip().is_loopback());
    let (a, b) = (one.url().unwrap(), two.url().unwrap());
    assert!(a.starts_with("http://127.0.0.1:"), "{a}");
    let token = |url: &str| url.split_once("/#").unwrap().1.to_owned();
    assert_eq!(token(&a).len(), 32);
    assert_ne!(token(&a), token(&b));
    let taken = Page::open(one.address().unwrap().port()).await;
    assert!(taken.is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse));
}
