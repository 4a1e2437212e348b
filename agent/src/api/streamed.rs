//! Answers that go on: for as long as something comes, the client reads, and the agent runs.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ringway_control::{Request, Requests};
use ringway_worker::ObserverId;
use tokio::sync::watch;
use tokio::time::sleep;

/// What is answered with, piece by piece.
pub(super) trait Pieces: Send + 'static {
    /// What has come since, once something has; none: it is over.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The answer.
pub(super) fn answer(media_type: &'static str, pieces: impl Pieces) -> Response {
    let body = futures::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Some((Ok::<Bytes, Infallible>(piece), pieces))
    });
    (
        [(header::CONTENT_TYPE, media_type)],
        Body::from_stream(body),
    )
        .into_response()
}

/// A capture or a live trace, which ends with this.
pub(super) struct Observation {
    pub(super) id: ObserverId,
    pub(super) requests: Requests,
    /// The agent is ending.
    pub(super) ending: watch::Receiver<bool>,
}

impl Observation {
    /// Waits; true if the agent is ending.
    pub(super) async fn pause(&mut self, period: Duration) -> bool {
        tokio::select! {
            () = sleep(period) => false,
            // Also an error: whoever says so has gone.
            _ = self.ending.wait_for(|ending| *ending) => true,
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::EndCapture(self.id));
    }
}
