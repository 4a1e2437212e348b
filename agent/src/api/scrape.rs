//! `GET /metrics`: on the API socket, and on TCP where `metrics.listen` says so.
//!
//! Whoever reaches that address may read them, so it serves nothing else, at most [`CONCURRENT`] connections, each
//! as short as one of the API socket, and one scrape a second is made however many ask. The port is shared
//! (`SO_REUSEPORT`) with an agent of the same user that takes over. An address that is not there yet, or a port
//! that somebody else has, is tried again: packets are forwarded without.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;

use super::serve::{ask, limit, no_method};
use super::tcp;
use super::tls::Files;
use crate::metrics::{self, Memory, Scrape};
use ringway_config::Metrics;
use ringway_control::health::Health;
use ringway_control::{Request, Requests};
use ringway_requests::ApiError;

/// Connections served at the same time.
pub const CONCURRENT: usize = 8;
/// How old an answer on TCP may be.
const OLDEST: Duration = Duration::from_secs(1);

/// What makes scrapes.
#[derive(Clone)]
pub struct Scrapes {
    requests: Requests,
    health: Arc<Health>,
    started: SystemTime,
    peers: usize,
    memory: Arc<Mutex<Memory>>,
    /// The last one that was made for TCP.
    last: Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>,
}

impl Scrapes {
    /// Of an agent that serves the node from now on.
    pub fn new(requests: Requests, health: Arc<Health>, peers: usize) -> Self {
        Self {
            requests,
            health,
            started: SystemTime::now(),
            peers,
            memory: Arc::default(),
            last: Arc::default(),
        }
    }

    /// As it is now.
    async fn fresh(&self) -> Result<Bytes, ApiError> {
        let mut view = ask(&self.requests, Request::View).await?;
        view.status.log_lines_lost = ringway_log::lost();
        let scrape = Scrape {
            view,
            ready: self.health.ready().is_ok(),
            started: self.started,
            peers: self.peers,
            memory: self.memory.clone(),
        };
        Ok(scrape.text().into())
    }

    /// As it was a second ago at most; those that ask meanwhile wait for one.
    async fn recent(&self) -> Result<Bytes, ApiError> {
        let mut last = self.last.lock().await;
        if let Some((made, text)) = &*last
            && made.elapsed() < OLDEST
        {
            return Ok(text.clone());
        }
        let text = self.fresh().await?;
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

fn answer(text: Result<Bytes, ApiError>) -> Response {
    match text {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// On the API socket.
pub(super) async fn now(State(scrapes): State<Scrapes>) -> Response {
    answer(scrapes.fresh().await)
}

async fn recently(State(scrapes): State<Scrapes>) -> Response {
    answer(scrapes.recent().await)
}

async fn no_route() -> ApiError {
    ApiError::new(404, "there is no such resource", "GET /metrics")
}

/// Serves on TCP for ever; at once over, if nobody wants that.
pub async fn serve(scrapes: Scrapes, config: Metrics, node_ip: Option<String>) {
    let Some(listen) = config.listen else {
        return;
    };
    let at = listen.address(node_ip.as_deref());
    let router = Router::new()
        .route("/metrics", get(recently))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(limit))
        .with_state(scrapes);
    let files = config.identity.map(|(cert, key)| Files {
        section: "metrics",
        cert,
        key,
        ca: None,
    });
    let tls = files.is_some();
    tcp::serve_for_ever(
        || tcp::open(at, "metrics", CONCURRENT, files.clone()),
        |listener| {
            tracing::info!(%at, tls, "metrics are served");
            axum::serve(listener, router.clone()).into_future()
        },
        |why| tracing::error!(%at, "metrics are not served, trying every 5 s: {why}"),
    )
    .await;
}

#[cfg(test)]
mod tests;
