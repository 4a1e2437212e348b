//! What agents ask each other: the other half of a trace.
//!
//! ```text
//!  ringway trace ─▶ agent of node1: to peer node2 ── TLS, both show who they are ──▶ agent of node2: to pod
//!                ◀─ both halves ─────────────────────────────────────────────────────┘
//! ```
//!
//! Only where the configuration has `[agents]`. Whoever asks has a certificate of the configured authority, by the
//! name of a node, and may ask about frames that this node sends, and nothing else: `POST /v1/trace` with
//! `"from": "peer:NAME"` and a frame. It changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::post;
use axum::serve::IncomingStream;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::serve::{limit, no_method};
use super::tcp::{self, Limited};
use super::tls::Files;
use super::trace;
use crate::trace::answer::{Across, Answer, Half};
use crate::trace::{From, Packet};
use ringway_cni::http;
use ringway_config::Agents;
use ringway_control::Requests;
use ringway_requests::{ApiError, BODY_MAX, Wanted, parse_trace};

/// Connections served at the same time.
const CONCURRENT: usize = 4;
/// Longest another agent may take: somebody waits for the trace.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer.
const ANSWER_MAX: u64 = 1 << 20;

/// Asks other agents.
pub struct Others {
    node: String,
    port: u16,
    files: Files,
}

impl Others {
    /// For this node, if it is configured.
    pub fn new(node: &str, agents: Option<&Agents>) -> Option<Arc<Others>> {
        let agents = agents?;
        Some(Arc::new(Others {
            node: node.to_owned(),
            port: agents.listen.port(),
            files: files(agents),
        }))
    }

    /// The other half of a trace, or why there is none.
    pub(super) async fn ask(&self, half: &Half) -> Across {
        let asked = timeout(PATIENCE, self.exchange(half)).await;
        let late = || anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs());
        let answered = asked.unwrap_or_else(|_| Err(late()));
        let at = SocketAddr::new(half.address, self.port);
        let (traces, error) = match answered {
            Ok(answer) => (answer.traces, None),
            Err(e) => (
                Vec::new(),
                Some(format!("asking {} at {at}: {e:#}", half.peer)),
            ),
        };
        Across {
            node: half.peer.clone(),
            traces,
            error,
        }
    }

    async fn exchange(&self, half: &Half) -> anyhow::Result<Answer> {
        let connector = self.files.connector()?;
        let name = ServerName::try_from(half.peer.clone())?;
        let stream = TcpStream::connect((half.address, self.port)).await?;
        let mut stream = connector.connect(name, stream).await?;
        let from = format!("peer:{}", self.node);
        let body = serde_json::json!({ "from": from, "frame": half.frame }).to_string();
        let head = format!(
            "POST /v1/trace HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            half.peer,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
        let mut answer = Vec::new();
        let read = (&mut stream)
            .take(ANSWER_MAX)
            .read_to_end(&mut answer)
            .await;
        let (status, body) = match (http::split(&answer), read) {
            (Some(whole), _) => whole,
            (None, Err(e)) => return Err(e.into()),
            (None, Ok(_)) => anyhow::bail!("the answer is not HTTP, or not whole"),
        };
        if status != 200 {
            let refused: ApiError = serde_json::from_slice(body)?;
            anyhow::bail!("refused: {}", refused.error);
        }
        Ok(serde_json::from_slice(body)?)
    }
}

fn files(agents: &Agents) -> Files {
    Files {
        section: "agents",
        cert: agents.cert_file.clone(),
        key: agents.key_file.clone(),
        ca: Some(agents.ca_file.clone()),
    }
}

/// Who asks.
#[derive(Clone)]
struct Asker(Option<CertificateDer<'static>>);

impl Connected<IncomingStream<'_, Limited>> for Asker {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Asker(stream.io().certificate())
    }
}

/// Serves for ever; at once over, if nobody wants that.
pub async fn serve(requests: Requests, agents: Option<Agents>, node_ip: Option<String>) {
    let Some(agents) = agents else { return };
    let at = agents.listen.address(node_ip.as_deref());
    let router = Router::new()
        .route("/v1/trace", post(other_half))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(limit))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(requests);
    tcp::serve_for_ever(
        || tcp::open(at, "agents", CONCURRENT, Some(files(&agents))),
        |listener| {
            tracing::info!(%at, "other agents may ask what becomes of packets of theirs");
            let service = router
                .clone()
                .into_make_service_with_connect_info::<Asker>();
            axum::serve(listener, service).into_future()
        },
        |why| tracing::error!(%at, "other agents cannot ask, trying every 5 s: {why}"),
    )
    .await;
}

async fn no_route() -> ApiError {
    ApiError::new(404, "there is no such resource", "POST /v1/trace")
}

async fn other_half(
    State(requests): State<Requests>,
    ConnectInfo(Asker(certificate)): ConnectInfo<Asker>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let refused = |why: String| {
        let remedy = "ask about a frame that the node of the certificate sends";
        Err(ApiError::new(403, why, remedy))
    };
    let Wanted::Packet(wanted) = parse_trace(&body)? else {
        return refused("other agents see no packets".into());
    };
    let (From::Peer(node), Packet::Frame { .. }) = (&wanted.from, &wanted.packet) else {
        return refused("other agents may ask about frames of theirs only".into());
    };
    if !certificate.is_some_and(|certificate| is_of(&certificate, node)) {
        return refused(format!("the certificate is not {node}'s"));
    }
    trace::packet(&requests, wanted, None).await
}

/// Whether a certificate, whose signature was verified, is that of a node.
fn is_of(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else {
        return false;
    };
    let name = ServerName::try_from(node);
    name.is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
}

#[cfg(test)]
mod tests;
