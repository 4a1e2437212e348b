//! `POST /v1/trace`: one packet now, or the next ones that workers see.
//!
//! A packet that is described or given is traced on a thread of its own, one at a time: it copies the table of flows.
//! A live trace is answered with a line of JSON for each frame, for as long as some are wanted and the client reads.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use ringway_control::captures::LiveSession;
use ringway_control::{Request, Requests};
use ringway_worker::observe::steps::{Item, Seen};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::agents::Others;
use super::serve::ask;
use super::streamed::{self, Observation, Pieces};
use crate::trace;
use crate::trace::answer::{Across, Live};
use ringway_requests::ApiError;

/// Media type of a live trace: a line of JSON for each frame.
const LINES: &str = "application/x-ndjson";
/// Between two looks at what workers have seen.
const PERIOD: Duration = Duration::from_millis(20);
/// Between two lines that say that it goes on.
const WAITING: Duration = Duration::from_secs(2);

/// One at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// Traces a packet, and has `others` say what becomes of it on the node that it goes to.
pub async fn packet(
    requests: &Requests,
    request: trace::Request,
    others: Option<&Others>,
) -> Result<Response, ApiError> {
    let turn = TURN.lock().await;
    let basis = ask(requests, Request::TraceBasis).await?;
    let decider = basis.decider;
    let traced = tokio::task::spawn_blocking(move || trace::run(&basis, &request));
    let mut answer = traced.await.map_err(|e| {
        ApiError::internal(
            format!("the trace has failed: {e}"),
            "report it with the packet",
        )
    })??;
    // Another agent may ask us in the meantime.
    drop(turn);
    if let Some(others) = others {
        // A node that does not answer is waited for once.
        let mut silent: Option<Across> = None;
        for traced in &mut answer.traces {
            let Some(half) = &traced.half else { continue };
            let mut across = match &silent {
                Some(across) if across.node == half.peer => across.clone(),
                _ => others.ask(half).await,
            };
            for next in across.traces.iter_mut().flat_map(|there| &mut there.next) {
                *next = trace::from_here(decider, &half.peer, next);
            }
            if across.error.is_some() {
                silent = Some(across.clone());
            }
            traced.across = Some(across);
        }
    }
    Ok(Json(answer).into_response())
}

/// Answers with what workers see.
pub fn live(session: LiveSession, requests: Requests, ending: watch::Receiver<bool>) -> Response {
    let stream = Stream {
        last: session.readers.iter().map(|_| None).collect(),
        observation: Observation {
            id: session.id,
            requests,
            ending,
        },
        session,
        said: Instant::now(),
        over: false,
    };
    streamed::answer(LINES, stream)
}

/// A live trace on its way to the client.
struct Stream {
    session: LiveSession,
    observation: Observation,
    /// Of each worker the frame whose outer packet may follow.
    last: Vec<Option<Box<Seen>>>,
    /// When something was said last.
    said: Instant,
    over: bool,
}

impl Pieces for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over {
                return None;
            }
            self.over = self.observation.pause(PERIOD).await;
            let enough = self.session.left.load(Relaxed) == 0;
            let (mut found, mut some) = (Vec::new(), false);
            self.over |= self.session.readers.iter().all(|reader| reader.is_over());
            for (reader, last) in self.session.readers.iter_mut().zip(&mut self.last) {
                while let Some(item) = reader.take() {
                    some = true;
                    match item {
                        Item::Frame(seen) => {
                            found.extend(last.replace(Box::new(seen)).map(|seen| (seen, None)));
                        }
                        Item::Outer(port) => {
                            found.extend(last.take().map(|seen| (seen, Some(port))));
                        }
                    }
                }
            }
            if !some {
                // What would follow has.
                found.extend(
                    self.last
                        .iter_mut()
                        .filter_map(|last| Some((last.take()?, None))),
                );
                self.over |= enough;
            }
            let text = self.text(&found).await?;
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }
}

impl Stream {
    async fn text(&mut self, found: &[(Box<Seen>, Option<u16>)]) -> Option<String> {
        let mut lines = Vec::new();
        if !found.is_empty() {
            let basis = ask(&self.observation.requests, Request::TraceBasis)
                .await
                .ok()?;
            let traces = found
                .iter()
                .map(|(seen, port)| trace::seen(&basis, seen, *port));
            lines.extend(traces.map(|trace| Live::Trace(Box::new(trace))));
        } else if self.said.elapsed() >= WAITING {
            let left = self.session.left.load(Relaxed);
            lines.push(Live::Waiting { left });
        }
        if !lines.is_empty() {
            self.said = Instant::now();
        }
        let lines: Vec<String> = lines
            .iter()
            .filter_map(|line| Some(serde_json::to_string(line).ok()? + "\n"))
            .collect();
        Some(lines.concat())
    }
}
