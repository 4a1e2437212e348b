//! One kind of object, followed.
//!
//! kube's watcher does what there is to a watch: list, watch, bookmarks, `410 Gone` and the list anew. Here it is
//! decided how the list is asked for, when a failure is tried again and when it is over, what a kind means that the
//! server does not have, and that one object that cannot be read is no more than that.

use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher::{self, DefaultBackoff, Event, InitialListStrategy, watcher};
use tokio::sync::mpsc::Sender;

use crate::settings::chain;
use crate::slim::{Invalid, Kind, Object};

/// How often a kind that the server does not have is looked for.
const MISSING: Duration = Duration::from_secs(60);
/// How long a streaming list may take before the list is asked for in pages: a server that does not know it begins
/// an ordinary watch.
const STREAMING: Duration = Duration::from_secs(60);

/// How long a watch that has failed must have gone on without another failure before the server is asked whether it
/// is there: a watch that stands and a quiet cluster look alike. More than a connection may take to come about.
const QUIET: Duration = Duration::from_secs(6);
/// How long the answer to that may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What is asked for of a kind.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// Selectors.
    pub(crate) config: watcher::Config,
    /// Whether not being allowed to read it is as good as its not being there.
    pub(crate) optional: bool,
}

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
    /// The server is away, or refuses. What it said before holds.
    Failed(String),
    /// It is followed again, and nothing has happened meanwhile.
    Back,
    /// The server does not have this kind, or not for us.
    Missing,
}

/// Follows a kind for ever, and sends what is new; ends when nobody listens.
pub(crate) async fn follow<T: Kind, N>(
    api: Api<Object<T>>,
    wanted: Wanted,
    sender: Sender<N>,
    wrap: impl Fn(News<T>) -> N,
) where
    Object<T>: kube::Resource<DynamicType = ()>,
{
    let mut strategy = InitialListStrategy::StreamingList;
    loop {
        let mut wanted = wanted.clone();
        wanted.config.initial_list_strategy = strategy.clone();
        match once(api.clone(), wanted, &sender, &wrap).await {
            Ended::NobodyListens => return,
            Ended::NoStreaming => strategy = InitialListStrategy::ListWatch,
            Ended::Missing => tokio::time::sleep(MISSING).await,
        }
    }
}

/// Why a watch has to begin anew.
enum Ended {
    NobodyListens,
    NoStreaming,
    Missing,
}

async fn once<T: Kind, N>(
    api: Api<Object<T>>,
    Wanted { config, optional }: Wanted,
    sender: &Sender<N>,
    wrap: impl Fn(News<T>) -> N,
) -> Ended
where
    Object<T>: kube::Resource<DynamicType = ()>,
{
    let streaming = config.initial_list_strategy == InitialListStrategy::StreamingList;
    let mut backoff = DefaultBackoff::default();
    let mut failing = false;
    let mut events = std::pin::pin!(watcher(api.clone(), config));
    let mut list: Option<(Vec<T>, Vec<Invalid>)> = None;
    loop {
        let next = match &list {
            Some(_) if streaming => match tokio::time::timeout(STREAMING, events.next()).await {
                Ok(next) => next,
                Err(_) => return Ended::NoStreaming,
            },
            _ if failing => match tokio::time::timeout(QUIET, events.next()).await {
                Ok(next) => next,
                Err(_) if answers(&api).await => {
                    failing = false;
                    if sender.send(wrap(News::Back)).await.is_err() {
                        return Ended::NobodyListens;
                    }
                    continue;
                }
                Err(_) => continue,
            },
            _ => events.next().await,
        };
        let news = match next {
            // It never ends.
            None => return Ended::NoStreaming,
            Some(Ok(Event::Init)) => {
                list = Some(Default::default());
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                let (good, bad) = list.get_or_insert_default();
                match object.value {
                    Ok(value) => good.push(value),
                    Err(invalid) => bad.push(invalid),
                }
                continue;
            }
            Some(Ok(Event::InitDone)) => {
                let (good, bad) = list.take().unwrap_or_default();
                News::All(good, bad)
            }
            Some(Ok(Event::Apply(object))) => match object.value {
                Ok(value) => News::Set(value),
                Err(invalid) => News::Unreadable(invalid),
            },
            Some(Ok(Event::Delete(object))) => {
                let namespace = kube::ResourceExt::namespace(&object);
                News::Gone(namespace, object.name().to_owned())
            }
            Some(Err(e)) => match status(&e) {
                Some(code) if code == 404 || (code == 403 && optional) => {
                    return match sender.send(wrap(News::Missing)).await {
                        Ok(()) => Ended::Missing,
                        Err(_) => Ended::NobodyListens,
                    };
                }
                // Too old is not away: it lists anew by itself.
                Some(410) => continue,
                Some(400 | 422) if streaming && list.is_none() => return Ended::NoStreaming,
                _ => News::Failed(chain(&e)),
            },
        };
        failing = matches!(news, News::Failed(_));
        if sender.send(wrap(news)).await.is_err() {
            return Ended::NobodyListens;
        }
        match failing {
            true => tokio::time::sleep(backoff.next().unwrap_or(MISSING)).await,
            false => backoff = DefaultBackoff::default(),
        }
    }
}

/// Whether the server answers for this kind, from what it remembers.
async fn answers<T: Kind>(api: &Api<Object<T>>) -> bool
where
    Object<T>: kube::Resource<DynamicType = ()>,
{
    let one = ListParams::default().limit(1).match_any();
    matches!(
        tokio::time::timeout(ANSWER, api.list(&one)).await,
        Ok(Ok(_))
    )
}

/// The HTTP status that the server has answered with, if it was its answer.
fn status(error: &watcher::Error) -> Option<u16> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        _ => return None,
    };
    Some(status.code)
}
