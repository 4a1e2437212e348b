//! A connection that has one of a few places, and lives so long and no longer: none can hold its place for ever by
//! sending slowly. One whose answer is endless lives for as long as its client reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

/// Longest a connection may live.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(12);
/// Longest a client of an endless answer may take nothing although there is something.
const STUCK_LIMIT: Duration = Duration::from_secs(60);

/// A connection with its place and its deadline.
pub struct Connection<S> {
    stream: S,
    deadline: Pin<Box<Sleep>>,
    endless: Endless,
    /// The client takes nothing.
    stuck: bool,
    _place: OwnedSemaphorePermit,
}

/// Set for a connection that may live for as long as its client reads.
#[derive(Clone, Default)]
pub struct Endless(Arc<AtomicBool>);

impl Endless {
    /// From now on.
    pub(super) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

impl<S> Connection<S> {
    /// It ends [`CONNECTION_LIMIT`] from now, unless it is said to be endless.
    pub(super) fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            deadline: Box::pin(sleep(CONNECTION_LIMIT)),
            endless: Endless::default(),
            stuck: false,
            _place: place,
        }
    }

    /// What makes it endless.
    pub(super) fn endless(&self) -> Endless {
        self.endless.clone()
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.endless.0.load(Relaxed) && !self.stuck {
            return Ok(());
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if self.endless.0.load(Relaxed) && written.is_pending() != self.stuck {
            self.stuck = written.is_pending();
            self.deadline.as_mut().reset(Instant::now() + STUCK_LIMIT);
            // It has to be heard of when that is over.
            return match self.stuck {
                true => self
                    .check(cx)
                    .map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending),
                false => written,
            };
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
