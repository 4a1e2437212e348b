//! Requests to one server.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::error::{RpcError, read, wants_password};
use super::messages::{
    AuthenticateRequest, AuthenticateResponse, Done, LeaseGrantRequest, LeaseRequest,
    LeaseResponse, TxnRequest, TxnResponse, WatchAsk, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of the largest answer: 10,000 subnets are 3 MB.
const LARGEST: usize = 64 << 20;

/// A connection to one server.
pub(crate) struct Client {
    grpc: tonic::client::Grpc<Channel>,
    endpoint: String,
    login: Option<(String, PathBuf)>,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    pub(super) fn new(channel: Channel, endpoint: &str, login: Option<(String, PathBuf)>) -> Self {
        Self {
            grpc: tonic::client::Grpc::new(channel).max_decoding_message_size(LARGEST),
            endpoint: endpoint.to_owned(),
            login,
            token: None,
        }
    }

    /// Which server it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Gets a token for the password, if there is one. A server without users takes everybody.
    pub(crate) async fn authenticate(&mut self) -> Result<(), RpcError> {
        let Some((name, file)) = &self.login else {
            return Ok(());
        };
        let password = String::from_utf8_lossy(&read(file)?)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        let request = AuthenticateRequest {
            name: name.clone(),
            password,
        };
        self.token = None;
        let what = "the password";
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer: Result<AuthenticateResponse, Status> = self.once(path, what, request).await?;
        match answer {
            Ok(answer) => {
                self.token = answer.token.parse().ok();
                Ok(())
            }
            Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
            Err(status) => Err(self.refused(what, status)),
        }
    }

    /// Does several things at once, if what is compared is so.
    pub(crate) async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, RpcError> {
        let what = "a read or write of its keys";
        self.call("/etcdserverpb.KV/Txn", what, request).await
    }

    /// A lease of this many seconds; its id and how many seconds it really has.
    pub(crate) async fn grant(&mut self, ttl: Duration) -> Result<(i64, Duration), RpcError> {
        let request = LeaseGrantRequest {
            ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
        };
        let what = "a lease";
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let answer: LeaseResponse = self.call(path, what, request).await?;
        let ttl = u64::try_from(answer.ttl).unwrap_or(0);
        Ok((answer.id, Duration::from_secs(ttl)))
    }

    /// Renews a lease; how long it has now, or `None` if it is gone.
    pub(crate) async fn keep_alive(&mut self, id: i64) -> Result<Option<Duration>, RpcError> {
        let what = "the renewal of the lease";
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        // A stream of one on both sides.
        let answer: LeaseResponse = self.call(path, what, LeaseRequest { id }).await?;
        let ttl = u64::try_from(answer.ttl).unwrap_or(0);
        Ok((ttl > 0).then(|| Duration::from_secs(ttl)))
    }

    /// Ends a lease and its keys.
    pub(crate) async fn revoke(&mut self, id: i64) -> Result<(), RpcError> {
        let what = "the end of the lease";
        let path = "/etcdserverpb.Lease/LeaseRevoke";
        let _: Done = self.call(path, what, LeaseRequest { id }).await?;
        Ok(())
    }

    /// Watches keys and ranges of keys (see [`key_range`]) from a revision on.
    pub(crate) async fn watch(
        &mut self,
        ranges: &[(Vec<u8>, Vec<u8>)],
        start_revision: i64,
    ) -> Result<Watch, RpcError> {
        let (requests, all) = mpsc::channel(ranges.len() + 1);
        for (key, range_end) in ranges {
            let (key, range_end) = (key.clone(), range_end.clone());
            let create = WatchCreateRequest {
                key,
                range_end,
                start_revision,
            };
            let ask = Some(WatchAsk::Create(create));
            // There is room for each.
            let _ = requests.send(WatchRequest { ask }).await;
        }
        let what = "a watch";
        let mut request = Request::new(ReceiverStream::new(all));
        self.mark(request.metadata_mut());
        self.ready(what).await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let answer = within(
            &self.endpoint,
            what,
            self.grpc.streaming(request, path, codec),
        );
        let stream = answer.await?.map_err(|s| self.refused(what, s))?;
        Ok(Watch {
            stream: stream.into_inner(),
            requests,
            endpoint: self.endpoint.clone(),
        })
    }

    async fn call<M, R>(
        &mut self,
        path: &'static str,
        what: &'static str,
        message: M,
    ) -> Result<R, RpcError>
    where
        M: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut answer = self.once(path, what, message.clone()).await?;
        if self.login.is_some() && answer.as_ref().is_err_and(wants_password) {
            self.authenticate().await?;
            answer = self.once(path, what, message).await?;
        }
        answer.map_err(|status| self.refused(what, status))
    }

    async fn once<M, R>(
        &mut self,
        path: &'static str,
        what: &'static str,
        message: M,
    ) -> Result<Result<R, Status>, RpcError>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut request = Request::new(message);
        self.mark(request.metadata_mut());
        self.ready(what).await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<M, R>::default();
        let answer = within(&self.endpoint, what, self.grpc.unary(request, path, codec)).await?;
        Ok(answer.map(tonic::Response::into_inner))
    }

    async fn ready(&mut self, what: &'static str) -> Result<(), RpcError> {
        let ready = within(&self.endpoint, what, self.grpc.ready()).await?;
        ready.map_err(|e| RpcError::Connect {
            endpoint: self.endpoint.clone(),
            why: super::error::chain(&e),
        })
    }

    /// Who asks; and that a member that has lost the others shall say so instead of waiting for them.
    fn mark(&self, metadata: &mut tonic::metadata::MetadataMap) {
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
    }

    fn refused(&self, what: &'static str, status: Status) -> RpcError {
        RpcError::Refused {
            endpoint: self.endpoint.clone(),
            what,
            status: Box::new(status),
        }
    }
}

/// What happens to watched keys.
pub(crate) struct Watch {
    stream: Streaming<WatchResponse>,
    /// The watch lives as long as its requests may go on.
    requests: mpsc::Sender<WatchRequest>,
    endpoint: String,
}

impl Watch {
    /// The next news. Cancelling the wait loses nothing.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, RpcError> {
        let ended = |why: String| RpcError::WatchEnded {
            endpoint: self.endpoint.clone(),
            why,
        };
        match self.stream.message().await {
            Ok(Some(news)) if news.compact_revision != 0 => Err(RpcError::Compacted {
                revision: news.compact_revision,
            }),
            Ok(Some(news)) if news.canceled => Err(ended(news.cancel_reason)),
            Ok(Some(news)) => Ok(news),
            Ok(None) => Err(ended("the server closed it".into())),
            Err(status) => Err(ended(super::error::chain(&status))),
        }
    }

    /// Asks the server to say how far it is.
    pub(crate) fn ask(&self) {
        let ask = Some(WatchAsk::Progress(WatchProgressRequest {}));
        // Full: it has not answered the last question yet.
        let _ = self.requests.try_send(WatchRequest { ask });
    }
}

async fn within<T>(
    endpoint: &str,
    what: &'static str,
    answer: impl Future<Output = T>,
) -> Result<T, RpcError> {
    let silent = |_| RpcError::Silent {
        endpoint: endpoint.to_owned(),
        seconds: ANSWER.as_secs(),
        what,
    };
    tokio::time::timeout(ANSWER, answer).await.map_err(silent)
}

/// All keys that begin with this text, as etcd writes it: the first key, and the first behind the last.
pub(crate) fn key_range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.as_bytes().to_vec();
    // Text has no byte 0xff.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (prefix.as_bytes().to_vec(), end)
}
