//! The API of an agent that does nothing for now: it waits for Flannel to leave the node, or the node is given
//! back. Every request is answered with the reason and with what to do, but for two: a supervisor that asks
//! whether it lives hears that it does, and whoever gave the node back may take it again.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot, watch};

use super::serve::bind;
use ringway_cni::api::CODE_LATER;
use ringway_requests::ApiError;

/// Why nothing is done, and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Whether somebody may have the node served again.
    pub may_end: bool,
    /// Why.
    pub why: String,
    /// What helps.
    pub remedy: String,
}

impl Idle {
    fn refusal(&self) -> ApiError {
        ApiError::new(503, self.why.as_str(), self.remedy.as_str()).with_code(CODE_LATER)
    }
}

#[derive(Clone)]
struct Asked {
    idle: watch::Receiver<Idle>,
    again: Arc<Notify>,
}

/// Serves until `end` resolves, which is the outcome, or until somebody wants the node again (`None`).
///
/// # Errors
/// The socket cannot be had.
pub async fn serve<T>(
    path: &Path,
    idle: watch::Receiver<Idle>,
    end: impl Future<Output = T>,
) -> anyhow::Result<Option<T>> {
    let again = Arc::new(Notify::new());
    let asked = Asked {
        idle,
        again: again.clone(),
    };
    let router = Router::new()
        .route("/v1/health/live", get(live))
        .route("/v1/take-over", post(take_over))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .with_state(asked);
    let listener = bind(path)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let served = tokio::spawn(served.into_future());
    let outcome = tokio::select! {
        outcome = end => Some(outcome),
        () = again.notified() => None,
    };
    let _ = stop.send(());
    let _ = served.await;
    let _ = std::fs::remove_file(path);
    Ok(outcome)
}

async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

async fn take_over(State(asked): State<Asked>) -> Result<Json<Value>, ApiError> {
    let idle = asked.idle.borrow().clone();
    if !idle.may_end {
        return Err(idle.refusal());
    }
    asked.again.notify_one();
    let next = "the agent starts to serve the node again; `ringway status` shows how far it is";
    Ok(Json(json!({ "next": next })))
}

async fn refuse(State(asked): State<Asked>) -> ApiError {
    asked.idle.borrow().refusal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_cni::http;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn ask(path: &Path, method: &str, what: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(path).unwrap();
        let limit = Duration::from_secs(20);
        let answer = http::send(&mut stream, (method, what), b"{}", limit, 1 << 20).unwrap();
        let (status, body) = http::split(&answer).unwrap();
        (status, serde_json::from_slice(body).unwrap())
    }

    #[test]
    fn everything_is_answered_with_the_reason_until_somebody_wants_the_node_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let idle = |why: &str| Idle {
            may_end: why == "given back",
            why: why.into(),
            remedy: "remove the label".into(),
        };
        let (say, said) = watch::channel(idle("given back"));
        let (socket, asking) = (path.clone(), path.clone());
        let client = std::thread::spawn(move || {
            while !socket.exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            let (status, body) = ask(&asking, "GET", "/v1/status");
            assert_eq!((status, &body["error"]), (503, &json!("given back")));
            assert_eq!(body["remedy"], "remove the label");
            say.send_replace(idle("waiting"));
            let (status, body) = ask(&asking, "POST", "/v1/cni/add");
            assert_eq!((status, &body["error"]), (503, &json!("waiting")));
            assert_eq!(body["code"], CODE_LATER);
            assert_eq!(ask(&asking, "GET", "/v1/health/live").0, 200);
            assert_eq!(ask(&asking, "POST", "/v1/take-over").0, 503);
            say.send_replace(idle("given back"));
            assert_eq!(ask(&asking, "POST", "/v1/take-over").0, 200);
        });
        let never = std::future::pending::<()>();
        let outcome = runtime.block_on(serve(&path, said, never)).unwrap();
        assert_eq!(outcome, None);
        client.join().unwrap();
        assert!(!path.exists());
    }
}
