//! TLS: certificate and key are files, read again while the agent runs, because whoever issues them renews them.
//! Metrics show who serves them; agents that ask each other show who they are at both ends.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(60);

/// Where certificates and key are.
#[derive(Clone)]
pub(super) struct Files {
    /// Section of the configuration.
    pub(super) section: &'static str,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Who signs for the other end, if that has to show who it is.
    pub(super) ca: Option<PathBuf>,
}

/// A server's.
pub(super) struct Tls {
    files: Files,
    read: Instant,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Of these files.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub(super) fn read(files: Files) -> anyhow::Result<Tls> {
        let acceptor = acceptor(&files)?;
        Ok(Tls {
            files,
            read: Instant::now(),
            acceptor,
        })
    }

    /// As the files were a minute ago at most; as they were before where they are wrong now.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.read.elapsed() >= PERIOD {
            self.read = Instant::now();
            match acceptor(&self.files) {
                Ok(acceptor) => self.acceptor = acceptor,
                Err(e) => {
                    let section = self.files.section;
                    tracing::warn!("{section}: the certificate stays as it was: {e:#}");
                }
            }
        }
        self.acceptor.clone()
    }
}

impl Files {
    fn named(&self, key: &str, path: &Path) -> String {
        format!("{}.{key} {}", self.section, path.display())
    }

    fn identity(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let cert_file = || self.named("cert_file", &self.cert);
        let chain = CertificateDer::pem_file_iter(&self.cert).with_context(cert_file)?;
        let chain: Result<Vec<_>, _> = chain.collect();
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.with_context(|| self.named("key_file", &self.key))?;
        Ok((chain.with_context(cert_file)?, key))
    }

    fn both(&self) -> String {
        let cert = self.named("cert_file", &self.cert);
        format!("{cert} and {}", self.named("key_file", &self.key))
    }

    /// Those who sign for the other end.
    fn roots(&self, ca: &Path) -> anyhow::Result<Arc<RootCertStore>> {
        let ca_file = || self.named("ca_file", ca);
        let mut roots = RootCertStore::empty();
        for one in CertificateDer::pem_file_iter(ca).with_context(ca_file)? {
            roots
                .add(one.with_context(ca_file)?)
                .with_context(ca_file)?;
        }
        anyhow::ensure!(
            !roots.is_empty(),
            "{}: there is no certificate in it",
            ca_file()
        );
        Ok(Arc::new(roots))
    }

    /// For asking another that shows who it is, as we do.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub(super) fn connector(&self) -> anyhow::Result<TlsConnector> {
        let (chain, key) = self.identity()?;
        let roots = match &self.ca {
            Some(ca) => self.roots(ca)?,
            None => Arc::new(RootCertStore::empty()),
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .with_context(|| self.both())?;
        Ok(Arc::new(config).into())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn acceptor(files: &Files) -> anyhow::Result<TlsAcceptor> {
    let (chain, key) = files.identity()?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match &files.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = files.roots(ca)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.with_context(|| files.named("ca_file", ca))?)
        }
    };
    let config = builder
        .with_single_cert(chain, key)
        .with_context(|| files.both())?;
    Ok(Arc::new(config).into())
}

/// With TLS or without.
pub(super) enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// What the other end has shown, if it has.
    pub(super) fn certificate(&self) -> Option<CertificateDer<'static>> {
        let Stream::Tls(stream) = self else {
            return None;
        };
        let shown = stream.get_ref().1.peer_certificates()?;
        Some(shown.first()?.clone().into_owned())
    }

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
