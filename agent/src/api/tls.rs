//! TLS for who reads the metrics: certificate and key are files, read again while the agent runs, because whoever
//! issues them renews them.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(60);

/// Certificate and key.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    read: Instant,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Of these files.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub(super) fn read(cert: PathBuf, key: PathBuf) -> anyhow::Result<Tls> {
        let acceptor = acceptor(&cert, &key)?;
        Ok(Tls {
            cert,
            key,
            read: Instant::now(),
            acceptor,
        })
    }

    /// As the files were a minute ago at most; as they were before where they are wrong now.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.read.elapsed() >= PERIOD {
            self.read = Instant::now();
            match acceptor(&self.cert, &self.key) {
                Ok(acceptor) => self.acceptor = acceptor,
                Err(e) => tracing::warn!("metrics: the certificate stays as it was: {e:#}"),
            }
        }
        self.acceptor.clone()
    }
}

fn acceptor(cert: &PathBuf, key: &PathBuf) -> anyhow::Result<TlsAcceptor> {
    let cert_file = || format!("metrics.cert_file {}", cert.display());
    let key_file = || format!("metrics.key_file {}", key.display());
    let chain = CertificateDer::pem_file_iter(cert).with_context(cert_file)?;
    let chain: Result<Vec<_>, _> = chain.collect();
    let key = PrivateKeyDer::from_pem_file(key).with_context(key_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.with_context(cert_file)?, key)
        .with_context(|| format!("{} and {}", cert_file(), key_file()))?;
    Ok(Arc::new(config).into())
}

/// With TLS or without.
pub(super) enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn either(self: Pin<&mut Self>) -> Pin<&mut (dyn Both + '_)> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

/// Read and written.
trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Both for S {}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.either().poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.either().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.either().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.either().poll_shutdown(cx)
    }
}
