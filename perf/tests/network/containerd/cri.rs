//! A container runtime's interface as the kubelet uses it: CRI, gRPC over HTTP/2 on the runtime's socket.
//!
//! Just what a pod's life needs. Numbers are those of the interface's definition
//! (`k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`).

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringway_perf::lab::LabError;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// A client of one runtime.
pub(super) struct Cri {
    socket: PathBuf,
}

/// A pod to be made.
#[derive(Clone, Default)]
pub(super) struct Sandbox<'a> {
    pub(super) name: &'a str,
    pub(super) cgroup: &'a str,
    /// Protocol (TCP 0, UDP 1), pod's port, node's port.
    pub(super) ports: &'a [(i32, i32, i32)],
    pub(super) annotations: &'a [(&'a str, &'a str)],
}

#[derive(Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, optional, tag = "4")]
    dns_config: Option<DnsConfig>,
    #[prost(message, repeated, tag = "5")]
    port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Message)]
struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    servers: Vec<String>,
}

#[derive(Message)]
struct PortMapping {
    #[prost(int32, tag = "1")]
    protocol: i32,
    #[prost(int32, tag = "2")]
    container_port: i32,
    #[prost(int32, tag = "3")]
    host_port: i32,
}

#[derive(Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
}

/// Of a request or an answer.
#[derive(Message)]
struct PodSandboxId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Message)]
struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodSandboxStatus>,
}

#[derive(Message)]
struct PodSandboxStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodSandboxNetworkStatus>,
}

#[derive(Message)]
struct PodSandboxNetworkStatus {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional_ips: Vec<PodIp>,
}

#[derive(Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

/// An answer nothing is read of.
#[derive(Message)]
struct Nothing {}

impl Cri {
    /// A client of the runtime that listens there.
    pub(super) fn new(socket: PathBuf) -> Cri {
        Cri { socket }
    }

    /// Makes a pod; its id.
    pub(super) fn run(&self, pod: &Sandbox<'_>) -> Result<String, LabError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let port = |(protocol, container_port, host_port): &(i32, i32, i32)| PortMapping {
            protocol: *protocol,
            container_port: *container_port,
            host_port: *host_port,
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: pod.name.to_owned(),
                uid: format!("uid-{}", pod.name),
                namespace: "default".to_owned(),
            }),
            hostname: pod.name.to_owned(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".to_owned()],
            }),
            port_mappings: pod.ports.iter().map(port).collect(),
            annotations: pod.annotations.iter().map(owned).collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: pod.cgroup.to_owned(),
            }),
        };
        let request = RunPodSandbox {
            config: Some(config),
        };
        let made: PodSandboxId = self.call("RunPodSandbox", &request)?;
        Ok(made.pod_sandbox_id)
    }

    /// The pod's addresses, as the runtime tells the kubelet.
    pub(super) fn addresses(&self, id: &str) -> Result<Vec<String>, LabError> {
        let answer: PodSandboxStatusResponse = self.call("PodSandboxStatus", &of(id))?;
        let network = answer.status.and_then(|status| status.network);
        let network = network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        Ok(std::iter::once(network.ip).chain(more).collect())
    }

    /// Ends it, and its network.
    pub(super) fn stop(&self, id: &str) -> Result<(), LabError> {
        self.call("StopPodSandbox", &of(id)).map(|_: Nothing| ())
    }

    /// Forgets it.
    pub(super) fn remove(&self, id: &str) -> Result<(), LabError> {
        self.call("RemovePodSandbox", &of(id)).map(|_: Nothing| ())
    }

    fn call<T: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<T, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of this thread");
        let call = async {
            let limit = Duration::from_secs(20);
            tokio::time::timeout(limit, self.exchange(method, request)).await
        };
        let outcome = runtime.block_on(call);
        let outcome = outcome.map_err(|_| "no answer in 20 s".to_owned());
        let answer = outcome.and_then(|answer| answer);
        answer
            .and_then(|bytes| T::decode(bytes).map_err(|e| e.to_string()))
            .map_err(|error| LabError::Command {
                command: format!("CRI {method}"),
                status: "refused".to_owned(),
                output: error,
            })
    }

    /// One call: a message each way, in gRPC's frame of a flag and a length.
    async fn exchange(&self, method: &str, request: &impl Message) -> Result<Bytes, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let stream = tokio::net::UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|e| text(&e))?;
        let (client, connection) = h2::client::handshake(stream).await.map_err(|e| text(&e))?;
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.map_err(|e| text(&e))?;
        let head = http::Request::post(format!(
            "http://localhost/runtime.v1.RuntimeService/{method}"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|e| text(&e))?;
        let (answer, mut body) = client.send_request(head, false).map_err(|e| text(&e))?;
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(request.encoded_len() as u32);
        request.encode(&mut frame).map_err(|e| text(&e))?;
        body.send_data(frame.freeze(), true).map_err(|e| text(&e))?;
        let answer = answer.await.map_err(|e| text(&e))?;
        // One that only says no has no body, and its words in the head.
        refusal(answer.headers())?;
        let mut body = answer.into_body();
        let mut all = BytesMut::new();
        while let Some(some) = body.data().await {
            let some = some.map_err(|e| text(&e))?;
            let _ = body.flow_control().release_capacity(some.len());
            all.extend_from_slice(&some);
        }
        let trailers = body.trailers().await.map_err(|e| text(&e))?;
        refusal(&trailers.unwrap_or_default())?;
        connection.abort();
        if all.len() < 5 {
            return Err("an answer without a message".into());
        }
        Ok(all.freeze().slice(5..))
    }
}

fn of(id: &str) -> PodSandboxId {
    PodSandboxId {
        pod_sandbox_id: id.to_owned(),
    }
}

fn refusal(headers: &http::HeaderMap) -> Result<(), String> {
    let word = |key| headers.get(key).and_then(|value| value.to_str().ok());
    match word("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => Err(format!("{status}: {}", word("grpc-message").unwrap_or(""))),
    }
}
