//! `ringway capture`: packets as the switch sees them, into a file, a pipe, or a line each.
//!
//! ```text
//!   words ▶ libpcap ▶ POST /v1/capture ▶ pcapng blocks ▶ limits ▶ file, ring of files | stdout | lines
//! ```
//!
//! The filter is compiled here and checked by the agent, which runs it on the workers. Files are written here, by
//! whoever calls: the agent opens none.

mod lines;
mod sink;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_packet::bpf::Program;
use ringway_ports::libpcap;
use ringway_ports::pcap::ng::{self, Block};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, ClientError};
use super::signals::until_signal;
use super::{Failure, output};
use ringway_control::view::units;
use ringway_requests::ApiError;
use sink::{Ring, Sink};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);
/// Longest until the agent has begun.
const BEGIN: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub(super) struct Capture {
    /// Which packets, in the language of tcpdump [default: all]
    #[arg(value_name = "FILTER", trailing_var_arg = true)]
    filter: Vec<String>,
    /// At a pod's port, by the name that `ringway pods` shows; `ns/web-*` for all that
    /// begin so, later ones too
    #[arg(long = "pod", value_name = "NAME")]
    pods: Vec<String>,
    /// At the node's own port
    #[arg(long)]
    node: bool,
    /// What goes to a peer and comes from it, without outer headers
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// The outer packets to these peers, too
    #[arg(long)]
    outer: bool,
    /// All peers, and outer packets
    #[arg(long)]
    underlay: bool,
    /// What is dropped, wherever it came in
    #[arg(long)]
    drops: bool,
    /// Of all that only what is dropped
    #[arg(long)]
    only_dropped: bool,
    /// Write pcapng into a file, or with - to stdout [default: a line for each packet]
    #[arg(short, long, value_name = "PATH|-")]
    write: Option<PathBuf>,
    /// Bytes of each packet [default: all]
    #[arg(short, long, value_name = "BYTES")]
    snap_len: Option<u32>,
    /// End after so many packets
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many bytes of capture (10M, 1G)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bytes: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Begin another file when one has this size (10M, 1G): PATH-0, PATH-1, …
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "write")]
    file_size: Option<u64>,
    /// Keep so many files, the latest
    #[arg(long, value_name = "NUMBER", requires = "file_size", value_parser = clap::value_parser!(u32).range(1..))]
    files: Option<u32>,
    /// Memory of the agent for each worker (4M); more loses less
    #[arg(long, value_name = "SIZE", value_parser = size)]
    buffer: Option<u64>,
}

/// `10M` is 10,000,000 bytes.
fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    match number.and_then(|number| number.checked_mul(factor)) {
        Some(size) if size > 0 => Ok(size),
        _ => Err("write bytes, or a number with k, M or G behind it".into()),
    }
}

/// Why a capture ended early or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    #[error("{source}\n  to do: {}", filter_remedy(.source))]
    Filter {
        #[from]
        source: libpcap::FilterError,
    },
    #[error("the capture is not understood: {0}\n  to do: use the command of the agent's version")]
    Stream(#[from] ng::NgError),
    #[error("writing {}: {source}\n  to do: see where it leads to, a full disk perhaps", .path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("a capture is binary: write it into a file (-w FILE) or a pipe (-w - | tcpdump -r -)")]
    Terminal,
}

fn filter_remedy(error: &libpcap::FilterError) -> &'static str {
    match error {
        libpcap::FilterError::NoLibrary(_) => {
            "install libpcap (Debian: libpcap0.8), or capture without a filter and filter later"
        }
        libpcap::FilterError::Program { .. } => {
            "filter by what the packet says; directions are --pod, --peer and the like"
        }
        _ => "write it as for tcpdump: see pcap-filter(7)",
    }
}

/// A filter as the agent reads it.
pub(super) fn filter_numbers(program: &Program) -> Vec<serde_json::Value> {
    let all = program.instructions().iter();
    all.map(|i| json!([i.code, i.jt, i.jf, i.k])).collect()
}

pub(super) fn run(client: &Client, wanted: &Capture) -> Result<(), Failure> {
    let stdout = wanted.write.as_deref() == Some(Path::new("-"));
    if stdout && std::io::stdout().is_terminal() {
        return Err(CaptureError::Terminal.into());
    }
    let filter_text = wanted.filter.join(" ");
    let filter = match filter_text.as_str() {
        "" => None,
        text => Some(libpcap::compile(text).map_err(CaptureError::from)?),
    };
    let filter = filter.as_ref().map(filter_numbers);
    let mut body = json!({
        "pods": wanted.pods, "node": wanted.node, "peers": wanted.peers, "outer": wanted.outer,
        "underlay": wanted.underlay, "drops": wanted.drops, "only_dropped": wanted.only_dropped,
        "filter": filter, "filter_text": filter_text, "snap_len": wanted.snap_len,
    });
    if let Some(bytes) = wanted.buffer {
        body["buffer_bytes"] = bytes.into();
    }
    let sink = match &wanted.write {
        None => Sink::lines(),
        Some(_) if stdout => Sink::stdout(),
        Some(path) => {
            let ring = Ring {
                size: wanted.file_size,
                files: wanted.files,
            };
            Sink::files(path, ring)?
        }
    };
    let mut taken = Taken::new(sink, wanted);
    let outcome = until_signal(taken.follow(client, &body));
    let finished = taken.finish();
    outcome.and(finished)
}

/// What was taken so far.
struct Taken<'a> {
    wanted: &'a Capture,
    sink: Sink,
    packets: u64,
    bytes: u64,
    /// Of each interface, as it was told last.
    lost: Vec<u64>,
    begun: bool,
}

/// Why it goes on or not.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl<'a> Taken<'a> {
    fn new(sink: Sink, wanted: &'a Capture) -> Self {
        Taken {
            wanted,
            sink,
            packets: 0,
            bytes: 0,
            lost: Vec::new(),
            begun: false,
        }
    }

    /// Until a limit, the reader's end or the agent's.
    async fn follow(&mut self, client: &Client, body: &serde_json::Value) -> Result<(), Failure> {
        let (mut stream, mut buffer) = begin(client, "/v1/capture", body).await?;
        self.begun = true;
        let far = Duration::from_secs(100 * 365 * 86_400);
        let limit = self.wanted.seconds.map_or(far, Duration::from_secs);
        let end = Instant::now() + limit;
        let mut progress = Instant::now() + PROGRESS;
        loop {
            if self.take(&mut buffer)? == Next::Enough {
                return Ok(());
            }
            tokio::select! {
                read = stream.read_buf(&mut buffer) => match read {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(source) => return Err(client.broken(source).into()),
                },
                () = sleep_until(progress) => {
                    progress = Instant::now() + PROGRESS;
                    self.progress();
                }
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Takes the blocks that are whole.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<Next, Failure> {
        let mut at = 0;
        let mut next = Next::More;
        while next == Next::More
            && let Some(len) = ng::block_len(&buffer[at..]).map_err(CaptureError::from)?
        {
            next = self.block(&buffer[at..at + len])?;
            at += len;
        }
        buffer.drain(..at);
        match self.sink.flush()? {
            true => Ok(next),
            // Whoever reads has seen enough.
            false => Ok(Next::Enough),
        }
    }

    fn block(&mut self, block: &[u8]) -> Result<Next, Failure> {
        if let Some((interface, _, lost)) = ng::losses(block) {
            let interface = interface as usize;
            if self.lost.len() <= interface {
                self.lost.resize(interface + 1, 0);
            }
            self.lost[interface] = lost;
        }
        self.sink.block(block)?;
        if !matches!(ng::understand(block), Block::Packet { .. }) {
            return Ok(Next::More);
        }
        self.packets += 1;
        self.bytes += block.len() as u64;
        let enough = self.wanted.count.is_some_and(|most| self.packets >= most)
            || self.wanted.bytes.is_some_and(|most| self.bytes >= most);
        Ok(if enough { Next::Enough } else { Next::More })
    }

    fn progress(&self) {
        if self.sink.is_file() && std::io::stderr().is_terminal() {
            output::complain(&self.state());
        }
    }

    fn state(&self) -> String {
        let lost: u64 = self.lost.iter().sum();
        let (packets, bytes) = (self.packets, units::bytes(self.bytes));
        let mut text = format!("{packets} packets, {bytes}");
        if lost > 0 {
            text.push_str(&format!(
                "; {lost} more were lost by the capture, not by the traffic: capture fewer bytes (-s 128), a filter, or a larger --buffer"
            ));
        }
        text
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.sink.finish()?;
        if self.begun {
            output::complain(&self.state());
        }
        Ok(())
    }
}

/// Asks for what goes on until the client has enough; gives the stream behind the head of the answer, and what was read of it.
pub(super) async fn begin(
    client: &Client,
    path: &str,
    body: &serde_json::Value,
) -> Result<(UnixStream, Vec<u8>), Failure> {
    let broken = |source| Failure::from(client.broken(source));
    let mut stream = UnixStream::connect(client.socket())
        .await
        .map_err(|source| Failure::from(client.absent(source)))?;
    let body = body.to_string();
    // An answer of HTTP/1.0 ends with the connection and is not cut into chunks.
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: ringway\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    let deadline = Instant::now() + BEGIN;
    let end = loop {
        if let Some(end) = answer.windows(4).position(|w: &[u8]| w == b"\r\n\r\n") {
            break end;
        }
        let read = tokio::time::timeout_at(deadline, stream.read_buf(&mut answer));
        match read.await {
            Ok(Ok(0)) => return Err(client.not_understood(&"it ends early").into()),
            Ok(Ok(_)) => {}
            Ok(Err(source)) => return Err(broken(source)),
            Err(_) => return Err(broken(std::io::ErrorKind::TimedOut.into())),
        }
    };
    let status: Option<u16> = std::str::from_utf8(&answer[..end])
        .ok()
        .and_then(|head| head.get(9..12)?.parse().ok());
    let mut rest = answer.split_off(end + 4);
    match status {
        Some(200) => Ok((stream, rest)),
        Some(status) => {
            let _ = stream.read_to_end(&mut rest).await;
            let mut refused: ApiError =
                serde_json::from_slice(&rest).map_err(|e| client.not_understood(&e))?;
            refused.status = status;
            Err(ClientError::Refused(refused).into())
        }
        None => Err(client.not_understood(&"not HTTP").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1", 1),
            ("128k", 128_000),
            ("10M", 10_000_000),
            ("2G", 2_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "M", "-1", "1.5M", "1T", "99999999999999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
