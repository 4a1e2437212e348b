//! The socket: who may connect, how much, how long, how many.
//!
//! Mode 0600 keeps other users from connecting, and the kernel's word on who
//! connected (`SO_PEERCRED`) is checked on top: a socket file may be copied by
//! a mount or opened up by mistake. At most [`CONCURRENT`] connections are
//! served; the next waits in the listen queue. A connection lives at most
//! [`CONNECTION_LIMIT`](super::connection::CONNECTION_LIMIT), whatever it does.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRef, Query, State};
use axum::http::{Request as HttpRequest, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router};
use tokio::net::{UnixListener, UnixStream, unix};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use ringway_cni::api as cni;

use super::agents::Others;
use super::connection::{Connection, Endless};
use super::scrape::{self, Scrapes};
use super::{capture, elsewhere, log, tables, trace};
use crate::reasons;
use crate::sources::Whereabouts;
use ringway_control::config_file::Reloads;
use ringway_control::health::Health;
use ringway_control::{Reply, Request, Requests, View};
use ringway_requests::{
    ApiError, BODY_MAX, GC_MAX, Wanted, parse_attach, parse_capture, parse_cni_add,
    parse_cni_check, parse_cni_del, parse_cni_gc, parse_detach, parse_give_back, parse_log,
    parse_pause, parse_trace,
};

/// Connections served at the same time.
pub const CONCURRENT: usize = 32;
/// Longest a request may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How often it is made sure that the socket is still where clients look for it.
const LOOK: Duration = Duration::from_secs(1);

/// Binds the socket: a stale file is replaced, a live agent's is not. If somebody takes it away it is made
/// again.
pub fn bind(path: &Path) -> anyhow::Result<Limited> {
    let (listener, identity) = open(path)?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Limited {
        listener,
        path: path.to_owned(),
        identity,
        look,
        failing: false,
        places: Arc::new(Semaphore::new(CONCURRENT)),
    })
}

/// Device and inode of a file.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn open(path: &Path) -> anyhow::Result<(UnixListener, Option<Identity>)> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(|e| anyhow::anyhow!("creating {}: {e}", dir.display()))?;
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        anyhow::ensure!(
            metadata.file_type().is_socket(),
            "{} exists and is not a socket; remove it, or set node.socket",
            path.display()
        );
        anyhow::ensure!(
            std::os::unix::net::UnixStream::connect(path).is_err(),
            "another agent serves {}; stop it, or set node.socket",
            path.display()
        );
        std::fs::remove_file(path)
            .map_err(|e| anyhow::anyhow!("removing the stale socket {}: {e}", path.display()))?;
    }
    let listener =
        UnixListener::bind(path).map_err(|e| anyhow::anyhow!("binding {}: {e}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| anyhow::anyhow!("setting the mode of {}: {e}", path.display()))?;
    Ok((listener, identity(path)))
}

/// Whom the API asks.
#[derive(Clone)]
pub struct Asked {
    /// The control plane.
    pub requests: Requests,
    /// The configuration file.
    pub reloads: Reloads,
    /// Whether the agent is well.
    pub health: Arc<Health>,
    /// What makes the metrics.
    pub scrapes: Scrapes,
    /// Who knows where pods are that are not here.
    pub whereabouts: Option<Whereabouts>,
    /// Who asks other nodes' agents.
    pub others: Option<Arc<Others>>,
    /// Who gives the node back.
    pub give_back: mpsc::Sender<GiveBack>,
    /// Whether the agent ends: what would go on for as long as a client reads ends too.
    pub ending: watch::Receiver<bool>,
}

/// The node is to be given back.
pub struct GiveBack {
    /// Although it has pods.
    pub pods_too: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answered>,
}

/// What came of it.
pub type Answered = Result<ringway_control::view::GivenBack, ApiError>;

impl FromRef<Asked> for Requests {
    fn from_ref(asked: &Asked) -> Self {
        asked.requests.clone()
    }
}

impl FromRef<Asked> for Scrapes {
    fn from_ref(asked: &Asked) -> Self {
        asked.scrapes.clone()
    }
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: Limited,
    asked: Asked,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router(asked).into_make_service_with_connect_info::<Endless>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

/// Where a GC goes.
const GC: &str = "/v1/cni/gc";

/// Bytes a body may have, by its path.
fn body_max(path: &str) -> usize {
    if path == GC { GC_MAX } else { BODY_MAX }
}

fn router(asked: Asked) -> Router {
    Router::new()
        .route("/metrics", get(scrape::now))
        .route("/v1/status", get(status))
        .route("/v1/health/live", get(live))
        .route("/v1/health/ready", get(ready))
        .route("/v1/pods", get(pods))
        .route("/v1/drops", get(drops))
        .route("/v1/drops/last", get(last_drops))
        .route("/v1/tables/{table}", get(table))
        .route("/v1/attach", post(attach))
        .route("/v1/detach", post(detach))
        .route("/v1/log", get(log_status).post(change_log))
        .route("/v1/reconcile/pause", post(pause))
        .route("/v1/reconcile/resume", post(resume))
        .route("/v1/cni/add", post(cni_add))
        .route("/v1/cni/del", post(cni_del))
        .route("/v1/cni/check", post(cni_check))
        .route(GC, post(cni_gc).layer(DefaultBodyLimit::max(GC_MAX)))
        .route("/v1/cni/status", get(cni_status))
        .route("/v1/config/reload", post(reload))
        .route("/v1/give-back", post(give_back))
        .route("/v1/capture", post(begin_capture))
        .route("/v1/trace", post(trace_packets))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(limit))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(asked)
}

/// A listener that checks who connects and limits how many and how long.
pub struct Limited {
    listener: UnixListener,
    path: PathBuf,
    identity: Option<Identity>,
    look: Interval,
    /// It could not be made again.
    failing: bool,
    places: Arc<Semaphore>,
}

impl Limited {
    /// Binds the socket again if it is not at its path any more.
    fn make_again(&mut self) {
        if identity(&self.path) == self.identity {
            return;
        }
        let socket = self.path.display();
        match open(&self.path) {
            Ok((listener, identity)) => {
                tracing::warn!(%socket, "somebody removed the API socket; it was recreated");
                (self.listener, self.identity, self.failing) = (listener, identity, false);
            }
            Err(e) if !std::mem::replace(&mut self.failing, true) => {
                tracing::error!(
                    "the API socket is gone and cannot be recreated; trying once a second: {e}"
                );
            }
            Err(_) => {}
        }
    }
}

impl Listener for Limited {
    type Io = Connection<UnixStream>;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (Connection<UnixStream>, unix::SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = self.look.tick() => {
                    self.make_again();
                    continue;
                }
            };
            match accepted {
                Ok((stream, address)) if permitted(&stream) => {
                    return (Connection::new(stream, place), address);
                }
                Ok(_) => {}
                Err(e) => {
                    // Out of descriptors, most likely: some will be closed.
                    tracing::warn!("API socket: accept: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.listener.local_addr()
    }
}

/// Root and the agent's own user.
fn permitted(stream: &UnixStream) -> bool {
    let own = nix::unistd::Uid::effective().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = ?peer.pid(), "API socket: refused");
            false
        }
        Err(e) => {
            tracing::warn!("API socket: peer unknown, refused: {e}");
            false
        }
    }
}

impl Connected<IncomingStream<'_, Limited>> for Endless {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        stream.io().endless()
    }
}

/// Time, and a length that is too much by the client's own word: reading it
/// would only end at the time limit.
pub(super) async fn limit(request: HttpRequest<Body>, next: Next) -> Response {
    let claimed = request.headers().get(header::CONTENT_LENGTH);
    let claimed = claimed
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u64>().ok());
    let most = body_max(request.uri().path());
    if claimed.is_some_and(|n| n > most as u64) {
        return too_large(most).into_response();
    }
    match timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            504,
            format!("no answer within {} s", REQUEST_LIMIT.as_secs()),
            "see the agent's log",
        )
        .into_response(),
    }
}

/// Asks the control thread and waits for its answer.
pub async fn ask<T: Send + 'static>(
    requests: &Requests,
    make: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, ApiError> {
    let (sender, receiver) = oneshot::channel();
    let request = make(Box::new(move |answer| {
        // The client may have gone; the work is done all the same.
        let _ = sender.send(answer);
    }));
    let stopping = || ApiError::new(503, "the agent is stopping", "try again when it is back");
    requests.send(request).map_err(|_| stopping())?;
    receiver.await.map_err(|_| stopping())
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn view(requests: &Requests) -> Result<View, ApiError> {
    ask(requests, Request::View).await
}

async fn status(State(requests): State<Requests>) -> Answer<ringway_control::view::Status> {
    let mut status = view(&requests).await?.status;
    status.log_lines_lost = ringway_log::lost();
    Ok(Json(status))
}

/// 503: a worker has no heartbeat. No other thread is asked.
async fn live(State(asked): State<Asked>) -> Answer<serde_json::Value> {
    well(asked.health.live())
}

/// 503: packets of pods are not forwarded.
async fn ready(State(asked): State<Asked>) -> Answer<serde_json::Value> {
    well(asked.health.ready())
}

fn well(answer: Result<(), String>) -> Answer<serde_json::Value> {
    match answer {
        Ok(()) => Ok(Json(serde_json::json!({}))),
        Err(why) => Err(ApiError::new(
            503,
            why,
            "see `ringway status` and the agent's log",
        )),
    }
}

async fn pods(State(requests): State<Requests>) -> Answer<Vec<ringway_control::view::Pod>> {
    Ok(Json(view(&requests).await?.pods))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichDrops {
    #[serde(default)]
    all: bool,
}

async fn drops(
    State(requests): State<Requests>,
    which: Result<Query<WhichDrops>, QueryRejection>,
) -> Answer<ringway_control::view::Drops> {
    let Query(WhichDrops { all }) = which.map_err(|e| not_asked_so(&e))?;
    let view = view(&requests).await?;
    // It waits for the kernel, in the namespaces of pods.
    let drops = tokio::task::spawn_blocking(move || super::drops::drops(&view, all)).await;
    drops.map(Json).map_err(|e| {
        ApiError::new(
            500,
            format!("reading the counters: {e}"),
            "see the agent's log",
        )
    })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichLast {
    reason: Option<String>,
}

async fn last_drops(
    State(requests): State<Requests>,
    which: Result<Query<WhichLast>, QueryRejection>,
) -> Answer<Vec<ringway_control::view::LastDrop>> {
    let Query(WhichLast { reason }) = which.map_err(|e| not_asked_so(&e))?;
    let reason = reason.as_deref().map(|name| {
        reasons::drop_reason(name).map_err(|near| {
            let near = near.join(", ");
            let error = format!("there is no drop reason {name:?}");
            ApiError::new(404, error, format!("the nearest names: {near}"))
        })
    });
    let reason = reason.transpose()?;
    Ok(Json(super::drops::last(&view(&requests).await?, reason)))
}

fn not_asked_so(e: &QueryRejection) -> ApiError {
    ApiError::bad_request(
        e.body_text(),
        "GET /v1/drops?all=true, GET /v1/drops/last?reason=NAME",
    )
}

async fn table(
    State(requests): State<Requests>,
    axum::extract::Path(table): axum::extract::Path<String>,
) -> Result<Response, ApiError> {
    let view = view(&requests).await?;
    Ok(match table.as_str() {
        "mac" => Json(tables::macs(&view.snapshot)).into_response(),
        "routes" => Json(tables::routes(&view.snapshot)).into_response(),
        "peers" => Json(tables::peers(&view.snapshot, &view.counters, &view.peers)).into_response(),
        "neighbours" => Json(tables::neighbours(&view.snapshot)).into_response(),
        "paths" => Json(tables::paths(&view.snapshot)).into_response(),
        _ => {
            return Err(ApiError::new(
                404,
                format!("there is no table {table:?}"),
                "tables: mac, routes, peers, neighbours, paths",
            ));
        }
    })
}

/// Reads the configuration file now. 409: it is wrong, and what was in force stays so.
async fn reload(State(asked): State<Asked>) -> Answer<ringway_control::view::Reloaded> {
    let (sender, receiver) = oneshot::channel();
    asked.reloads.ask(Box::new(move |reloaded| {
        let _ = sender.send(reloaded);
    }));
    let stopping = |_| ApiError::new(503, "the agent is stopping", "try again when it is back");
    let reloaded = receiver.await.map_err(stopping)?;
    let words = |all: Vec<ringway_config::Difference>| all.into_iter().map(|d| d.what).collect();
    match reloaded.outcome {
        Ok(changed) => Ok(Json(ringway_control::view::Reloaded {
            changed: words(changed),
            needs_restart: words(reloaded.waiting),
        })),
        Err(e) => {
            let place = e.place();
            Err(ApiError::new(
                409,
                format!("{place}: {}", e.problem),
                e.problem.remedy(),
            ))
        }
    }
}

/// Gives the node back. 409: it has pods.
async fn give_back(
    State(asked): State<Asked>,
    body: ReadBody,
) -> Answer<ringway_control::view::GivenBack> {
    let pods_too = parse_give_back(&whole(body)?)?;
    let (reply, answer) = oneshot::channel();
    let stopping = || ApiError::new(503, "the agent is stopping", "try again when it is back");
    let wanted = GiveBack { pods_too, reply };
    let sent = asked.give_back.send(wanted).await;
    sent.map_err(|_| stopping())?;
    Ok(Json(answer.await.map_err(|_| stopping())??))
}

async fn attach(
    State(requests): State<Requests>,
    body: ReadBody,
) -> Answer<ringway_control::view::Pod> {
    let attach = parse_attach(&whole(body)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::Attach(attach, reply)).await??,
    ))
}

async fn detach(
    State(requests): State<Requests>,
    body: ReadBody,
) -> Answer<ringway_control::view::Detached> {
    let detach = parse_detach(&whole(body)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::Detach(detach, reply)).await??,
    ))
}

async fn log_status() -> Answer<ringway_control::view::LogStatus> {
    log::status().map(Json)
}

async fn change_log(body: ReadBody) -> Answer<ringway_control::view::LogStatus> {
    log::change(&parse_log(&whole(body)?)?)
}

async fn pause(
    State(requests): State<Requests>,
    body: ReadBody,
) -> Answer<ringway_control::view::Paused> {
    let duration = parse_pause(&whole(body)?)?;
    let paused = ask(&requests, |reply| {
        Request::PauseReconciling(duration, reply)
    })
    .await?;
    let paused = paused.map_err(|e| ApiError::bad_request(e.to_string(), "pause for less"))?;
    Ok(Json(ringway_control::view::Paused {
        paused_s: paused.as_secs(),
        was_paused: false,
    }))
}

async fn resume(State(requests): State<Requests>) -> Answer<ringway_control::view::Paused> {
    let was_paused = ask(&requests, Request::ResumeReconciling).await?;
    Ok(Json(ringway_control::view::Paused {
        paused_s: 0,
        was_paused,
    }))
}

async fn begin_capture(
    State(asked): State<Asked>,
    ConnectInfo(endless): ConnectInfo<Endless>,
    body: ReadBody,
) -> Result<Response, ApiError> {
    let (wanted, described) = parse_capture(&whole(body)?)?;
    let wanted = Box::new(wanted);
    let session = ask(&asked.requests, |reply| {
        Request::BeginCapture(wanted, reply)
    })
    .await?;
    let session = match session {
        Ok(session) => session,
        Err(e) => {
            return Err(elsewhere::told(e.into(), asked.whereabouts.as_ref(), "capture").await);
        }
    };
    endless.set();
    Ok(capture::answer(
        session,
        described,
        asked.requests,
        asked.ending,
    ))
}

async fn trace_packets(
    State(asked): State<Asked>,
    ConnectInfo(endless): ConnectInfo<Endless>,
    body: ReadBody,
) -> Result<Response, ApiError> {
    let whereabouts = asked.whereabouts.clone();
    match traced(asked, &endless, parse_trace(&whole(body)?)?).await {
        Ok(response) => Ok(response),
        Err(e) => Err(elsewhere::told(e, whereabouts.as_ref(), "trace").await),
    }
}

async fn traced(asked: Asked, endless: &Endless, wanted: Wanted) -> Result<Response, ApiError> {
    let wanted = match wanted {
        Wanted::Packet(wanted) => {
            return trace::packet(&asked.requests, wanted, asked.others.as_deref()).await;
        }
        Wanted::Live(wanted) => Box::new(wanted),
    };
    let session = ask(&asked.requests, |reply| Request::BeginLive(wanted, reply)).await??;
    endless.set();
    Ok(trace::live(session, asked.requests, asked.ending))
}

async fn cni_add(State(requests): State<Requests>, body: ReadBody) -> Answer<cni::Added> {
    let add = parse_cni_add(&whole(body)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::CniAdd(add, reply)).await??,
    ))
}

async fn cni_del(State(requests): State<Requests>, body: ReadBody) -> Answer<cni::Done> {
    let attachment = parse_cni_del(&whole(body)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::CniDel(attachment, reply)).await?,
    ))
}

async fn cni_check(State(requests): State<Requests>, body: ReadBody) -> Answer<cni::Done> {
    let check = parse_cni_check(&whole(body)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::CniCheck(check, reply)).await??,
    ))
}

async fn cni_gc(State(requests): State<Requests>, body: ReadBody) -> Answer<cni::Collected> {
    let gc = parse_cni_gc(&whole_within(body, GC_MAX)?)?;
    Ok(Json(
        ask(&requests, |reply| Request::CniGc(gc, reply)).await?,
    ))
}

async fn cni_status(State(requests): State<Requests>) -> Answer<cni::Done> {
    Ok(Json(ask(&requests, Request::CniStatus).await??))
}

/// A body as axum read it.
type ReadBody = Result<Bytes, BytesRejection>;

/// The body, unless it was too long or ended early.
fn whole(body: ReadBody) -> Result<Bytes, ApiError> {
    whole_within(body, BODY_MAX)
}

fn whole_within(body: ReadBody, most: usize) -> Result<Bytes, ApiError> {
    body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(most),
        _ => ApiError::bad_request(e.body_text(), "send the whole body"),
    })
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(
        413,
        format!("the body has more than {most} bytes"),
        "send less",
    )
}

async fn no_route() -> ApiError {
    ApiError::new(
        404,
        "there is no such resource",
        "GET /metrics, /v1/status, /v1/health/live, /v1/health/ready, /v1/log, /v1/pods, /v1/drops, /v1/drops/last, /v1/tables/<table>; POST /v1/attach, /v1/detach, /v1/log, \
         /v1/reconcile/pause, /v1/reconcile/resume, /v1/give-back, /v1/capture, /v1/trace; \
         for the CNI plugin /v1/cni/…",
    )
}

pub(super) async fn no_method() -> ApiError {
    ApiError::new(
        405,
        "this resource does not know that method",
        "GET to read; POST to attach and detach",
    )
}

#[cfg(test)]
mod tests;
