//! One kind of object, followed.
//!
//! ```text
//!            ┌──────────────── 410 Gone ◀───────────────┐
//!            ▼                                          │
//! streaming list ── refused ──▶ list in pages ──▶ watch from its version ── ends ──▶ watch from the last version
//!       └───────── end mark ────────────────────────▲   └─ bookmark: Confirmed
//! ```
//!
//! kube's own watcher says nothing when a watch runs again after a failure, and nothing of bookmarks. But that the
//! server is there and has no news is news to whoever shows the age of the state. So the loop is ours, on kube's list
//! and watch.
//!
//! A watch that ends is no failure: servers end them every few minutes, and all at once when they restart. It is one
//! if it does not begin anew.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use ringway_cluster::source::Pause;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::Connection;
use crate::settings::chain;
use crate::slim::{Invalid, Kind, Object};

/// How often a kind that the server does not have is looked for.
const MISSING: Duration = Duration::from_secs(60);
/// How long a server may take to begin an answer, to send a page, or between two objects of a streaming list.
const ANSWER: Duration = Duration::from_secs(30);
/// The same where it may be a server that takes a streaming list for a watch: no end mark comes then.
const END_MARK: Duration = Duration::from_secs(10);
/// How long a watch may run; the server ends it then.
const WATCH: Duration = Duration::from_secs(290);
/// How long it may be silent. There is a bookmark once a minute, at least; a server that was restored from a backup
/// takes a version that it has not reached yet, and says nothing at all.
const SILENT: Duration = Duration::from_secs(150);
/// Objects of a page.
const PAGE: u32 = 500;
/// A watch that ended after less was not one.
const SHORT: Duration = Duration::from_secs(1);

/// Pauses after a failure: the first one, and the longest.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// News of one kind.
#[derive(Debug)]
pub(crate) enum News<T> {
    /// These are all.
    All(Vec<T>, Vec<Invalid>),
    /// One is new, or different.
    Set(T),
    /// One cannot be read.
    Unreadable(Invalid),
    /// One is gone; its namespace and name.
    Gone(Option<String>, String),
    /// There are no others: the server is there, and what it said before holds.
    Confirmed,
    /// The server is away, or refuses. What it said before holds.
    Failed(String),
    /// The server does not have this kind.
    Missing,
}

/// Which objects, and who hears of them.
pub(crate) struct Follow<T, N> {
    api: fn(Client) -> Api<Object<T>>,
    fields: Option<String>,
    optional: bool,
    to: Sender<N>,
    wrap: fn(News<T>) -> N,
}

impl<T, N> Follow<T, N> {
    /// All objects of `api`; `to` hears of them, by `wrap`.
    pub(crate) fn new(
        api: fn(Client) -> Api<Object<T>>,
        to: &Sender<N>,
        wrap: fn(News<T>) -> N,
    ) -> Self {
        Self {
            api,
            fields: None,
            optional: false,
            to: to.clone(),
            wrap,
        }
    }

    /// Those alone that a fieldSelector takes.
    pub(crate) fn fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// A server that forbids it is as good as one that does not have it.
    pub(crate) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

type Events<T> = BoxStream<'static, kube::Result<WatchEvent<Object<T>>>>;

/// Why one round ended.
enum Ended {
    /// Nobody hears any more.
    Unheard,
    /// The server does not have this kind.
    Missing,
    /// What was known is too old; list anew.
    TooOld,
    /// The watch ended, as watches do.
    Watched,
    /// It failed.
    Failed(Failure),
}

/// Why it failed.
struct Failure {
    why: String,
    /// The status, if the server has answered.
    code: Option<u16>,
    /// When to come again, if the server has said so.
    after: Option<Duration>,
}

fn failed(why: String) -> Ended {
    Ended::Failed(Failure {
        why,
        code: None,
        after: None,
    })
}

/// The server's status for an error, if it was its answer.
fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

impl From<kube::Error> for Ended {
    fn from(error: kube::Error) -> Self {
        match code(&error) {
            Some(404) => Ended::Missing,
            Some(410) => Ended::TooOld,
            code => {
                let after = match &error {
                    kube::Error::Api(status) => {
                        status.details.as_ref().map(|d| d.retry_after_seconds)
                    }
                    _ => None,
                };
                let after = after
                    .filter(|s| *s > 0)
                    .map(|s| Duration::from_secs(s.into()));
                let why = chain(&error);
                Ended::Failed(Failure { why, code, after })
            }
        }
    }
}

fn silent(what: &str, after: Duration) -> Ended {
    failed(format!("{what}: no answer for {} s", after.as_secs()))
}

impl<T: Kind, N: Send + 'static> Follow<T, N>
where
    Object<T>: kube::Resource<DynamicType = ()>,
{
    /// Follows for ever; ends when nobody hears.
    pub(crate) async fn run(self, connection: Arc<Connection>) {
        let mut state = Round {
            version: None,
            streaming: true,
        };
        let mut pause = Pause::between(SHORTEST, LONGEST);
        loop {
            let begun = Instant::now();
            let ended = match connection.client().await {
                Ok((client, made)) => {
                    let ended = self
                        .round(&client, &mut state)
                        .await
                        .unwrap_or_else(|ended| ended);
                    if matches!(&ended, Ended::Failed(..)) {
                        connection.doubt(made).await;
                    }
                    ended
                }
                Err(e) => failed(e.to_string()),
            };
            // One that is followed now and refused in a moment is not well yet.
            if begun.elapsed() > LONGEST {
                pause.reset();
            }
            let ended = match ended {
                Ended::Failed(failure) if self.optional && failure.code == Some(403) => {
                    Ended::Missing
                }
                ended => ended,
            };
            let wait = match ended {
                Ended::Unheard => return,
                Ended::Missing => {
                    state.version = None;
                    if !self.tell(News::Missing).await {
                        return;
                    }
                    MISSING
                }
                Ended::TooOld => {
                    state.version = None;
                    pause.longer()
                }
                // Many end at the same moment when a server restarts.
                Ended::Watched if begun.elapsed() > SHORT => Pause::jitter(SHORT / 4),
                Ended::Watched => pause.longer(),
                Ended::Failed(Failure { why, after, .. }) => {
                    if !self.tell(News::Failed(why)).await {
                        return;
                    }
                    after.map_or_else(|| pause.longer(), |s| s.min(LONGEST) + Pause::jitter(s / 2))
                }
            };
            sleep(wait).await;
        }
    }

    async fn tell(&self, news: News<T>) -> bool {
        self.to.send((self.wrap)(news)).await.is_ok()
    }

    /// Lists, if nothing is known, and watches until it ends.
    async fn round(&self, client: &Client, state: &mut Round) -> Result<Ended, Ended> {
        let api = (self.api)(client.clone());
        let listed = match &state.version {
            Some(_) => None,
            None if state.streaming => self.list_streaming(&api, state).await?,
            None => {
                self.list_pages(&api, state).await?;
                None
            }
        };
        let events = match listed {
            Some(events) => events,
            None => self.watch(&api, state).await?,
        };
        if !self.tell(News::Confirmed).await {
            return Err(Ended::Unheard);
        }
        Ok(self.events(events, state).await)
    }

    async fn watch(&self, api: &Api<Object<T>>, state: &Round) -> Result<Events<T>, Ended> {
        let Some(version) = &state.version else {
            return Err(Ended::TooOld);
        };
        match timeout(ANSWER, api.watch(&self.params(), version)).await {
            Ok(events) => Ok(events?.boxed()),
            Err(_) => Err(silent("watch", ANSWER)),
        }
    }

    fn params(&self) -> WatchParams {
        // Not all at the same moment, again.
        let seconds = (WATCH - Pause::jitter(WATCH / 4)).as_secs();
        WatchParams {
            field_selector: self.fields.clone(),
            timeout: u32::try_from(seconds).ok(),
            bookmarks: true,
            ..WatchParams::default()
        }
    }

    /// The list as a watch that begins with what there is. `None` where the server does not know that.
    async fn list_streaming(
        &self,
        api: &Api<Object<T>>,
        state: &mut Round,
    ) -> Result<Option<Events<T>>, Ended> {
        let params = WatchParams {
            send_initial_events: true,
            ..self.params()
        };
        let mut events = match timeout(ANSWER, api.watch(&params, "0")).await {
            Ok(Ok(events)) => events.boxed(),
            Ok(Err(e)) if matches!(code(&e), Some(400 | 422)) => {
                return self.unknown(api, state).await;
            }
            Ok(Err(e)) => return Err(e.into()),
            Err(_) => return Err(silent("list", ANSWER)),
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        loop {
            match timeout(END_MARK, events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    match object.value {
                        Ok(value) => good.push(value),
                        Err(invalid) => bad.push(invalid),
                    }
                }
                Ok(Some(Ok(WatchEvent::Bookmark(mark)))) => {
                    let version = mark.metadata.resource_version;
                    if !mark
                        .metadata
                        .annotations
                        .contains_key("k8s.io/initial-events-end")
                    {
                        continue;
                    }
                    state.version = Some(version);
                    return match self.tell(News::All(good, bad)).await {
                        true => Ok(Some(events)),
                        false => Err(Ended::Unheard),
                    };
                }
                Ok(Some(Ok(WatchEvent::Deleted(_)))) => {}
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    return Err(kube::Error::Api(status).into());
                }
                Ok(Some(Err(e))) => return Err(e.into()),
                Ok(None) => return Err(failed("the list ended before its end mark".into())),
                Err(_) => return self.unknown(api, state).await,
            }
        }
    }

    /// The server does not know streaming lists: from now on it is asked for pages.
    async fn unknown(
        &self,
        api: &Api<Object<T>>,
        state: &mut Round,
    ) -> Result<Option<Events<T>>, Ended> {
        state.streaming = false;
        self.list_pages(api, state).await?;
        Ok(None)
    }

    async fn list_pages(&self, api: &Api<Object<T>>, state: &mut Round) -> Result<(), Ended> {
        let mut params = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        loop {
            let page = match timeout(ANSWER, api.list(&params)).await {
                Ok(page) => page?,
                Err(_) => return Err(silent("list", ANSWER)),
            };
            for object in page.items {
                match object.value {
                    Ok(value) => good.push(value),
                    Err(invalid) => bad.push(invalid),
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.filter(|v| !v.is_empty());
                state.version =
                    Some(version.ok_or_else(|| {
                        failed("the list has no metadata.resourceVersion".into())
                    })?);
                return match self.tell(News::All(good, bad)).await {
                    true => Ok(()),
                    false => Err(Ended::Unheard),
                };
            }
        }
    }

    async fn events(&self, mut events: Events<T>, state: &mut Round) -> Ended {
        loop {
            let event = match timeout(SILENT, events.next()).await {
                Ok(Some(Ok(event))) => event,
                // A line that is no event, and nobody knows what it was. From the last version on it would be said
                // again, for ever.
                Ok(Some(Err(e @ (kube::Error::SerdeError(_) | kube::Error::Api(_))))) => {
                    state.version = None;
                    return e.into();
                }
                // Cut. Whether that matters is seen when the watch begins anew.
                Ok(Some(Err(e))) => {
                    tracing::debug!("a watch of {} ends: {}", T::PLURAL, chain(&e));
                    return Ended::Watched;
                }
                Ok(None) => return Ended::Watched,
                // Ask for all: nothing else tells a server that has no news from one that is lost.
                Err(_) => return Ended::TooOld,
            };
            let news = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    state.reached(&object);
                    match object.value {
                        Ok(value) => News::Set(value),
                        Err(invalid) => News::Unreadable(invalid),
                    }
                }
                WatchEvent::Deleted(object) => {
                    state.reached(&object);
                    let namespace = kube::ResourceExt::namespace(&object);
                    News::Gone(namespace, object.name().to_owned())
                }
                WatchEvent::Bookmark(mark) => {
                    state.version = Some(mark.metadata.resource_version);
                    News::Confirmed
                }
                WatchEvent::Error(status) => {
                    state.version = None;
                    return kube::Error::Api(status).into();
                }
            };
            if !self.tell(news).await {
                return Ended::Unheard;
            }
        }
    }
}

/// How far a kind is known.
struct Round {
    /// The version that everything up to is known of.
    version: Option<String>,
    /// Whether a streaming list is tried.
    streaming: bool,
}

impl Round {
    /// An object without a version is a liar's; the next one has one.
    fn reached<T>(&mut self, object: &Object<T>)
    where
        Object<T>: kube::Resource,
    {
        if let Some(version) = kube::ResourceExt::resource_version(object) {
            self.version = Some(version);
        }
    }
}
