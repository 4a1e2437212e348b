//! A TCP port with a few places, with TLS or without. It is shared (`SO_REUSEPORT`) with an agent of the same user
//! that takes over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use super::connection::Connection;
use super::tls::{Files, Stream, Tls};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 16;
/// How often an address that cannot be had is tried.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves for ever: an address that is not there yet, or a port that somebody else has, is tried again. `say` gets
/// why, once for each reason.
pub(super) async fn serve_for_ever<F: Future<Output = io::Result<()>>>(
    open: impl Fn() -> anyhow::Result<Limited>,
    serve: impl Fn(Limited) -> F,
    say: impl Fn(&str),
) {
    let mut told = String::new();
    loop {
        let why = match open() {
            Ok(listener) => match serve(listener).await {
                Ok(()) => "it ended".to_owned(),
                Err(e) => e.to_string(),
            },
            Err(e) => format!("{e:#}"),
        };
        if why != told {
            say(&why);
            told = why;
        }
        sleep(AGAIN).await;
    }
}

/// Listens there for so many connections at the same time, with TLS where there are files for it. `what`: for the log.
///
/// # Errors
/// The files are wrong, the address is not there, or somebody else has the port.
pub(super) fn open(
    at: SocketAddr,
    what: &'static str,
    concurrent: usize,
    files: Option<Files>,
) -> anyhow::Result<Limited> {
    let tls = files.map(Tls::read).transpose()?;
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(at)?;
    let listener = socket.listen(BACKLOG)?;
    // A place is taken before a connection is, so that no more than these can be in it.
    let (ready, accepted) = mpsc::channel(concurrent);
    let accepting = tokio::spawn(accept(listener, (what, concurrent), tls, ready));
    Ok(Limited {
        at,
        accepted,
        accepting,
    })
}

/// Accepts connections; one that speaks TLS is handed on when both ends agree, and holds up no other.
async fn accept(
    listener: TcpListener,
    (what, concurrent): (&'static str, usize),
    mut tls: Option<Tls>,
    ready: mpsc::Sender<Accepted>,
) {
    let places = Arc::new(Semaphore::new(concurrent));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, most likely: some will be closed.
                tracing::warn!("{what}: accept: {e}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = Connection::new(stream, place);
        let Some(tls) = &mut tls else {
            let _ = ready.try_send((Stream::Plain(connection), from));
            continue;
        };
        let (acceptor, ready) = (tls.acceptor(), ready.clone());
        tokio::spawn(async move {
            match acceptor.accept(connection).await {
                Ok(stream) => drop(ready.try_send((Stream::Tls(Box::new(stream)), from))),
                Err(e) => tracing::debug!(%from, "{what}: TLS: {e}"),
            }
        });
    }
}

pub(super) type Accepted = (Stream<Connection<TcpStream>>, SocketAddr);

/// Connections that have a place, one at a time.
pub(super) struct Limited {
    at: SocketAddr,
    accepted: mpsc::Receiver<Accepted>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for Limited {
    type Io = Stream<Connection<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The other end lives as long as this one.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}
