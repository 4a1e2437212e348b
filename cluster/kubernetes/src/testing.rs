//! A small API server: lists with pages, watches with bookmarks, streaming lists, `410 Gone`, patches of a status, and
//! tokens. It can be away, refuse, and lie. Plain HTTP on loopback.
//!
//! It is for what the real one cannot be asked to do, and for machines that have none. Where there is a real one
//! (`KUBEBUILDER_ASSETS`), `tests/source/real.rs` runs against it.
//!
//! It panics where its caller is wrong: it is part of tests and of nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State as Shared};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How often it says that it has nothing to say.
const BOOKMARK: Duration = Duration::from_millis(300);

type Key = (String, String, String);
type Parameters = BTreeMap<String, String>;

/// The server, until it is dropped.
pub struct Fake {
    /// Where it is.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    version: watch::Sender<u64>,
    serving: Option<tokio::runtime::Runtime>,
}

/// What it has, and how it behaves.
pub struct State {
    version: u64,
    /// By plural, namespace, name.
    objects: BTreeMap<Key, Value>,
    events: Vec<(u64, &'static str, Key, Value)>,
    /// Watches from before this version are gone.
    pub compacted: u64,
    /// The token that is accepted.
    pub token: String,
    /// Whether it knows streaming lists.
    pub streaming: bool,
    /// Whether each request is answered 500.
    pub failing: bool,
    /// Whether no request is answered, and watches say nothing any more.
    pub hanging: bool,
    /// How often it has cut its watches, in the middle of what they say.
    cuts: u64,
    /// The status that patches are refused with.
    pub refuse_patches: Option<u16>,
    /// Answers to patches take so long; what they say is of before.
    pub pause_patches: Duration,
    /// Kinds that it does not have.
    pub missing: Vec<&'static str>,
    /// Kinds that nobody may read.
    pub forbidden: Vec<&'static str>,
    /// Each request: method and path with its query.
    pub requests: Vec<String>,
    /// Each patch of a Node's status.
    pub patches: Vec<Value>,
    /// Each Event that was written.
    pub events_written: Vec<Value>,
}

impl Fake {
    /// At any port of this machine.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// At an address of the calling thread's network namespace.
    pub fn start_at(address: SocketAddr) -> Self {
        let state = State {
            version: 1,
            objects: BTreeMap::new(),
            events: Vec::new(),
            compacted: 0,
            token: "secret".into(),
            streaming: true,
            failing: false,
            hanging: false,
            cuts: 0,
            refuse_patches: None,
            pause_patches: Duration::ZERO,
            missing: Vec::new(),
            forbidden: Vec::new(),
            requests: Vec::new(),
            patches: Vec::new(),
            events_written: Vec::new(),
        };
        let mut fake = Self {
            address,
            state: Arc::new(Mutex::new(state)),
            version: watch::Sender::new(1),
            serving: None,
        };
        fake.come_back();
        fake
    }

    /// Takes connections again, at the address of before: in the calling thread's namespace.
    pub fn come_back(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(self.address).unwrap();
            socket.listen(128).unwrap()
        });
        self.address = listener.local_addr().unwrap();
        let shared = (self.state.clone(), self.version.subscribe());
        let app = Router::new().fallback(answer).with_state(shared);
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.serving = Some(runtime);
    }

    /// Every connection ends, and no other is taken.
    pub fn go_away(&mut self) {
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// What it has and how it behaves, to read and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes an object, or changes it.
    pub fn put(&self, plural: &str, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let key = |name: &str| ("namespaces".to_owned(), String::new(), name.to_owned());
        // Nothing is in a namespace that is not there.
        if !namespace.is_empty() && !self.state().objects.contains_key(&key(namespace)) {
            let uid = format!("uid-{namespace}");
            let made = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace, "uid": uid}});
            self.enter("namespaces", made);
        }
        self.enter(plural, object);
    }

    fn enter(&self, plural: &str, mut object: Value) {
        let meta = &object["metadata"];
        let text = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), text("namespace"), text("name"));
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let kind = if state.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.objects.insert(key.clone(), object.clone());
        state.events.push((version, kind, key, object));
        drop(state);
        self.version.send_replace(version);
    }

    /// An object is gone.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let mut object = state.objects.remove(&key).expect("it is there");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.events.push((version, "DELETED", key, object));
        drop(state);
        self.version.send_replace(version);
    }

    /// What of before is forgotten: whoever watches from there has to list anew.
    pub fn compact(&self) {
        let mut state = self.state();
        state.version += 1;
        state.compacted = state.version;
        let version = state.version;
        drop(state);
        self.version.send_replace(version);
    }

    /// Every watch is cut off.
    pub fn cut(&self) {
        self.state().cuts += 1;
        self.version.send_modify(|_| ());
    }

    /// How often something was asked for.
    pub fn asked(&self, what: &str) -> usize {
        let state = self.state();
        state.requests.iter().filter(|r| r.contains(what)).count()
    }

    /// Tells those who watch Nodes of anything.
    pub fn say(&self, kind: &'static str, object: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let key = ("nodes".to_owned(), String::new(), String::new());
        state.events.push((version, kind, key, object));
        drop(state);
        self.version.send_replace(version);
    }

    /// A Node as it is now; there must be one of the name.
    pub fn node(&self, name: &str) -> Value {
        self.state().objects[&("nodes".to_owned(), String::new(), name.to_owned())].clone()
    }

    /// A kubeconfig for it with a token in a file.
    pub fn kubeconfig(&self, dir: &std::path::Path) -> std::path::PathBuf {
        let token = dir.join("token");
        std::fs::write(&token, &self.state().token).unwrap();
        let file = dir.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"tokenFile": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&file, text.to_string()).unwrap();
        file
    }
}

impl State {
    /// All objects of a kind.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let all = self.objects.iter().filter(|((of, ..), _)| of == plural);
        all.map(|(_, object)| object.clone()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.go_away();
    }
}

type Ends = (Arc<Mutex<State>>, watch::Receiver<u64>);

async fn answer(
    Shared((state, version)): Shared<Ends>,
    Query(query): Query<Parameters>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    {
        let mut state = state.lock().unwrap();
        state
            .requests
            .push(format!("{} {}", parts.method, parts.uri));
        let token = parts
            .headers
            .get("authorization")
            .and_then(|v| v.to_str().ok());
        if token != Some(&format!("Bearer {}", state.token)) {
            return refuse(401, "Unauthorized");
        }
        if state.failing {
            return refuse(500, "InternalError");
        }
    }
    if state.lock().unwrap().hanging {
        return std::future::pending().await;
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["api", "v1", plural]) => list_or_watch(state, version, plural, "", query),
        (&Method::GET, ["api", "v1", "namespaces", namespace, plural]) => {
            list_or_watch(state, version, plural, namespace, query)
        }
        (&Method::GET, ["api", "v1", "namespaces", namespace, plural, name]) => {
            let key = (
                (*plural).to_owned(),
                (*namespace).to_owned(),
                (*name).to_owned(),
            );
            match state.lock().unwrap().objects.get(&key) {
                Some(object) => axum::Json(object.clone()).into_response(),
                None => refuse(404, "NotFound"),
            }
        }
        (&Method::PATCH, ["api", "v1", "nodes", name, "status"]) => {
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let answer = patch(&state, name, serde_json::from_slice(&body).unwrap());
            let pause = state.lock().unwrap().pause_patches;
            tokio::time::sleep(pause).await;
            answer
        }
        (&Method::POST, ["apis", "events.k8s.io", "v1", "namespaces", _, "events"]) => {
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let event: Value = serde_json::from_slice(&body).unwrap();
            state.lock().unwrap().events_written.push(event.clone());
            axum::Json(event).into_response()
        }
        _ => refuse(404, "NotFound"),
    }
}

fn refuse(code: u16, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("the fake says {reason}"), "reason": reason, "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
}

fn patch(state: &Mutex<State>, name: &str, patch: Value) -> Response {
    let mut state = state.lock().unwrap();
    state.patches.push(patch.clone());
    if let Some(code) = state.refuse_patches {
        return refuse(code, "Forbidden");
    }
    let key = ("nodes".to_owned(), String::new(), name.to_owned());
    let Some(mut node) = state.objects.get(&key).cloned() else {
        return refuse(404, "NotFound");
    };
    let annotations = patch
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        let all = &mut node["metadata"]["annotations"];
        match value {
            Value::Null => drop(all.as_object_mut().and_then(|all| all.remove(key))),
            value => all[key] = value.clone(),
        }
    }
    // Conditions are merged by their type.
    for condition in patch
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let all = node["status"]["conditions"].take();
        let mut all = all.as_array().cloned().unwrap_or_default();
        all.retain(|c| c["type"] != condition["type"]);
        all.push(condition.clone());
        node["status"]["conditions"] = json!(all);
    }
    state.version += 1;
    let version = state.version;
    node["metadata"]["resourceVersion"] = json!(version.to_string());
    state.objects.insert(key.clone(), node.clone());
    state.events.push((version, "MODIFIED", key, node.clone()));
    axum::Json(node).into_response()
}

fn selected(object: &Value, query: &Parameters) -> bool {
    let selector = query
        .get("fieldSelector")
        .map(String::as_str)
        .unwrap_or_default();
    selector
        .split(',')
        .filter(|one| !one.is_empty())
        .all(|one| {
            let (field, wanted) = one.split_once('=').unwrap();
            object.pointer(&format!("/{}", field.replace('.', "/"))) == Some(&json!(wanted))
        })
}

fn list_or_watch(
    state: Arc<Mutex<State>>,
    version: watch::Receiver<u64>,
    plural: &str,
    namespace: &str,
    query: Parameters,
) -> Response {
    let watching = query.get("watch").is_some_and(|w| w == "true");
    let initial = query.get("sendInitialEvents").is_some_and(|w| w == "true");
    let from: u64 = query
        .get("resourceVersion")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let now = {
        let state = state.lock().unwrap();
        if state.missing.contains(&plural) {
            return refuse(404, "NotFound");
        }
        if state.forbidden.contains(&plural) {
            return refuse(403, "Forbidden");
        }
        if initial && !state.streaming {
            return refuse(422, "Invalid");
        }
        state.version
    };
    let in_it = {
        let (plural, namespace, query) = (plural.to_owned(), namespace.to_owned(), query.clone());
        move |key: &Key, object: &Value| {
            key.0 == plural
                && (namespace.is_empty() || key.1 == namespace)
                && selected(object, &query)
        }
    };
    if !watching {
        let state = state.lock().unwrap();
        let all = state
            .objects
            .iter()
            .filter(|(key, object)| in_it(key, object));
        let all: Vec<&Value> = all.map(|(_, object)| object).collect();
        let begin: usize = query
            .get("continue")
            .and_then(|c| c.parse().ok())
            .unwrap_or(0);
        let limit: usize = query
            .get("limit")
            .and_then(|c| c.parse().ok())
            .unwrap_or(usize::MAX);
        let end = all.len().min(begin.saturating_add(limit));
        let next = if end < all.len() {
            end.to_string()
        } else {
            String::new()
        };
        return axum::Json(json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": now.to_string(), "continue": next},
            "items": all[begin..end],
        }))
        .into_response();
    }
    let mut lines: Vec<String> = Vec::new();
    let line = |kind: &str, object: &Value| {
        // As Go writes it: the type first.
        format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
    };
    let mut sent = from;
    let bookmarks = query
        .get("allowWatchBookmarks")
        .is_some_and(|b| b == "true");
    let cuts = state.lock().unwrap().cuts;
    if initial {
        let state = state.lock().unwrap();
        let all = state
            .objects
            .iter()
            .filter(|(key, object)| in_it(key, object));
        lines.extend(all.map(|(_, object)| line("ADDED", object)));
        lines.push(line("BOOKMARK", &json!({
            "kind": "X", "apiVersion": "v1",
            "metadata": {"resourceVersion": now.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}},
        })));
        sent = now;
    }
    let stream = futures::stream::unfold(
        (lines, sent, version),
        move |(mut lines, mut sent, mut version)| {
            let (state, in_it) = (state.clone(), in_it.clone());
            async move {
                loop {
                    if !lines.is_empty() {
                        let text: String = lines.drain(..).collect();
                        let item = Ok::<_, std::io::Error>(Bytes::from(text));
                        return Some((item, (lines, sent, version)));
                    }
                    {
                        let state = state.lock().unwrap();
                        if state.cuts != cuts {
                            let error = std::io::Error::other("cut");
                            return Some((Err(error), (lines, sent, version)));
                        }
                        if sent < state.compacted {
                            lines.push(line("ERROR", &json!({
                            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "message": "too old resource version", "reason": "Expired", "code": 410,
                        })));
                            sent = u64::MAX;
                            continue;
                        }
                        let silent = state.hanging;
                        let news = state
                            .events
                            .iter()
                            .rev()
                            .take_while(|(v, ..)| !silent && *v > sent);
                        let mut news: Vec<String> = news
                            .filter(|(_, _, key, object)| in_it(key, object))
                            .map(|(_, kind, _, object)| line(kind, object))
                            .collect();
                        news.reverse();
                        if sent != u64::MAX && !silent {
                            sent = sent.max(state.version);
                        }
                        lines = news;
                    }
                    if lines.is_empty() {
                        // After its last word a watch ends.
                        if sent == u64::MAX {
                            return None;
                        }
                        let news = tokio::time::timeout(BOOKMARK, version.changed()).await;
                        let silent = state.lock().unwrap().hanging;
                        if news.is_err() && bookmarks && !silent {
                            // A Node without anything, as a real one sends it.
                            lines.push(line("BOOKMARK", &json!({
                                "kind": "Node", "apiVersion": "v1", "spec": {}, "status": {"addresses": null},
                                "metadata": {"resourceVersion": sent.to_string()},
                            })));
                        }
                    }
                }
            }
        },
    );
    Body::from_stream(stream).into_response()
}
