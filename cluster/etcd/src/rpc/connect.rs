//! The way to one server: TLS, and a connection whose end is noticed.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::client::Client;
use super::error::{RpcError, chain, read};
use crate::Settings;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a connection on which nothing happens is tested; servers take less than 5 s for an attack.
const PING: Duration = Duration::from_secs(10);
/// How long the answer to such a test may take.
const PONG: Duration = Duration::from_secs(5);

/// Connects to a server and shows it the password, if there is one. Certificates, keys and the password are read
/// each time, so that those that were replaced are taken.
///
/// # Errors
/// A file cannot be read, nobody answers, or the server refuses.
pub(crate) async fn connect(settings: &Settings, endpoint: &str) -> Result<Client, RpcError> {
    let failed = |e: &dyn std::error::Error| RpcError::Connect {
        endpoint: endpoint.to_owned(),
        why: chain(e),
    };
    let url = if endpoint.contains("://") {
        endpoint.to_owned()
    } else if settings.ca.is_some() || settings.identity.is_some() {
        format!("https://{endpoint}")
    } else {
        format!("http://{endpoint}")
    };
    let mut way = Endpoint::from_shared(url.clone())
        .map_err(|e| failed(&e))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true);
    if url.starts_with("https://") {
        way = way.tls_config(tls(settings)?).map_err(|e| failed(&e))?;
    }
    let channel: Channel = match tokio::time::timeout(CONNECT, way.connect()).await {
        Ok(channel) => channel.map_err(|e| failed(&e))?,
        Err(_) => {
            return Err(RpcError::Silent {
                endpoint: endpoint.to_owned(),
                seconds: CONNECT.as_secs(),
                what: "a connection",
            });
        }
    };
    let mut client = Client::new(channel, endpoint, settings.login.clone());
    client.authenticate().await?;
    Ok(client)
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, RpcError> {
    let mut tls = ClientTlsConfig::new();
    tls = match &settings.ca {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_native_roots(),
    };
    if let Some((certificate, key)) = &settings.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}
