//! `ringway ui`: one page that shows a node live.
//!
//! ```text
//! browser ─ GET /data, token ─▶ guard.rs ─▶ data.rs ─ one answer in half a second ─▶ the agent's API socket
//!         ─ GET /, /page.js … ─▶ the page: text in this program, without anything of a node
//! ```
//!
//! Whoever may ask the agent's socket runs this command; whoever has the printed address sees what the command sees.
//! It listens on loopback only, and every browser on the machine can reach that, for any website it shows. So a
//! request has to name a loopback host (DNS rebinding), come from no other origin, change nothing (GET), and, for
//! anything of the node, bear the token, which the address holds behind `#`: browsers keep that part to themselves.
#![forbid(unsafe_code)]

mod data;
mod guard;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use data::Data;

/// The page's parts: path, type, text.
const PARTS: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../page/page.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("../page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/page.js"),
    ),
];

/// What the page may load and run: its own parts. Browsers hold to it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the agent said instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// What.
    pub what: String,
}

/// Asks the agent for a resource, and waits for the answer.
pub type Ask = dyn Fn(&str) -> Result<Value, Refused> + Send + Sync;

/// 128 random bits.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The kernel has no random bytes to read.
    pub fn new() -> io::Result<Token> {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Token(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// Whether that is it, in a time that does not tell how much of it is right.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differences = own.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        own.len() == given.len() && differences == 0
    }
}

/// A page that is served.
pub struct Page {
    listener: TcpListener,
    token: Token,
}

impl Page {
    /// Listens on the loopback address; port 0: one that is free.
    ///
    /// # Errors
    /// The port is taken, or the kernel has no random bytes.
    pub async fn open(port: u16) -> io::Result<Page> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let token = Token::new()?;
        Ok(Page { listener, token })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its address for a browser, token included.
    ///
    /// # Errors
    /// The kernel does not say where it listens.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("http://{}/#{}", self.address()?, self.token.0))
    }

    /// Serves it for as long as this is polled.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn serve(self, ask: Arc<Ask>) -> io::Result<()> {
        axum::serve(self.listener, router(self.token, ask)).await
    }
}

#[derive(Clone)]
struct Served {
    token: Token,
    data: Arc<Data>,
}

fn router(token: Token, ask: Arc<Ask>) -> Router {
    let data = Arc::new(Data::new(ask));
    let mut router = Router::new().route("/data", get(answer));
    for (path, kind, text) in PARTS {
        let part = move || async move { ([(header::CONTENT_TYPE, kind)], text) };
        router = router.route(path, get(part));
    }
    router
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .layer(middleware::from_fn(guard::guard))
        .layer(middleware::map_response(with_headers))
        .with_state(Served { token, data })
}

/// What the node is like, for who has the token.
async fn answer(State(served): State<Served>, headers: HeaderMap) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if !given.is_some_and(|given| served.token.is(given)) {
        return refused(
            StatusCode::UNAUTHORIZED,
            "the token is missing or that of another run: open the address that `ringway ui` has printed",
        );
    }
    match served.data.get().await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(e) => refused(StatusCode::BAD_GATEWAY, &e.what),
    }
}

fn refused(status: StatusCode, what: &str) -> Response {
    (status, axum::Json(json!({ "error": what }))).into_response()
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
