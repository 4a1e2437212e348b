//! The connection to the API server.
//!
//! kube's own client is HTTP/1.1: a TCP and a TLS connection for each watch, and an error in the log for each answer
//! that is none. This one is of kube's parts, and speaks HTTP/2 where the server does: one connection for all watches,
//! on which a ping finds in 45 s what has died without a word, be it the server, the way to it, or a process that hangs
//! (as client-go does). Plain HTTP and servers without HTTP/2 have TCP's keep-alive.
//!
//! No compression is asked for: what an agent reads are a few hundred events a second at most, and the server would pay
//! for each of them once per agent.

use std::time::{Duration, Instant};

use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use kube::{Client, Config};
use tokio::sync::Mutex;
use tower::{BoxError, ServiceBuilder};

use crate::settings::{ConnectError, Settings, chain, configuration};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// After so long without a byte the server is asked whether it is there…
const QUIET: Duration = Duration::from_secs(30);
/// …and has so long to say so.
const PING: Duration = Duration::from_secs(15);
/// A client is not made anew more often.
const RENEW: Duration = Duration::from_secs(5);

/// Which client it was that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made(Instant);

/// A client, made anew when it is in doubt.
pub(crate) struct Connection {
    settings: Settings,
    current: Mutex<Option<(Client, Made)>>,
}

impl Connection {
    /// Nothing is read or sent yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            current: Mutex::new(None),
        }
    }

    /// The client. Token and authorities in files are read again while it runs.
    pub(crate) async fn client(&self) -> Result<(Client, Made), ConnectError> {
        let mut current = self.current.lock().await;
        if let Some(current) = &*current {
            return Ok(current.clone());
        }
        let made = (connect(&self.settings).await?, Made(Instant::now()));
        Ok(current.insert(made).clone())
    }

    /// It failed: whatever it was made of is read anew. A token that it holds may be a minute old, and one that is
    /// refused is not read again by itself before that.
    pub(crate) async fn doubt(&self, made: Made) {
        let mut current = self.current.lock().await;
        if made.0.elapsed() >= RENEW && current.as_ref().is_some_and(|(_, of)| *of == made) {
            *current = None;
        }
    }
}

/// Makes a client. Nothing is sent yet.
pub(crate) async fn connect(settings: &Settings) -> Result<Client, ConnectError> {
    // Whoever was first stays; there is only one in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = configuration(settings).await?;
    of(&config).map_err(|e| ConnectError::Client { why: chain(&e) })
}

fn of(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(PING / 3));
    tcp.set_keepalive_retries(Some(3));
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    let name = config.tls_server_name.clone();
    let name = name.and_then(|name| name.try_into().ok());
    let tls = match name {
        Some(name) => {
            tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => tls,
    };
    let connector = tls.enable_all_versions().wrap_connector(tcp);
    let http: Http<_, kube::client::Body> = Http::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(QUIET)
        .http2_keep_alive_timeout(PING)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
