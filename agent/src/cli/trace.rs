//! `ringway trace`: what would become of a packet, or becomes of the next ones.
//!
//! ```text
//!   words | frame of a file | hexadecimal ▶ POST /v1/trace ▶ steps, verdict, where to look
//!   --live: words ▶ libpcap ▶ POST /v1/trace ▶ a line for each frame, until enough were seen
//! ```

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ringway_packet::bpf::Program;
use ringway_ports::libpcap;
use ringway_ports::pcap::{PcapError, Reader};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::capture::{CaptureError, begin, filter_numbers};
use super::client::Client;
use super::signals::until_signal;
use super::width::width;
use super::{Failure, output};
use crate::trace::answer::{Across, Answer, Live, Trace as Traced};
use crate::trace::hex;
use ringway_control::view::columns::Fields;

/// Columns of a step's name.
const LABEL: usize = 12;
/// Longest line of a live trace.
const LINE_MAX: usize = 1 << 20;

#[derive(clap::Args)]
pub(super) struct Trace {
    /// Where the packet comes in: a pod's name, node, peer:NAME, or underlay for a frame
    /// with outer headers
    #[arg(long, value_name = "NS/POD|node|peer:NAME")]
    from: Option<String>,
    /// The same as --from peer:NAME
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    from_peer: Option<String>,
    /// Describe the packet: where it is to go
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["frame", "pcap", "live"])]
    to: Option<String>,
    /// The first packet of a TCP connection to this port
    #[arg(long, value_name = "PORT", requires = "to", conflicts_with_all = ["udp", "icmp"])]
    tcp: Option<u16>,
    /// A UDP datagram to this port
    #[arg(long, value_name = "PORT", requires = "to", conflicts_with = "icmp")]
    udp: Option<u16>,
    /// An echo request; also without any
    #[arg(long, requires = "to")]
    icmp: bool,
    /// Source port [default: 40000]
    #[arg(long, value_name = "PORT", requires = "to")]
    src_port: Option<u16>,
    /// Bytes of the IP packet [default: headers only]
    #[arg(long, value_name = "BYTES", requires = "to")]
    size: Option<u16>,
    /// TTL or hop limit [default: 64]
    #[arg(long, value_name = "NUMBER", requires = "to")]
    ttl: Option<u8>,
    /// Another source MAC than the sender's own
    #[arg(long, value_name = "MAC", requires = "to")]
    mac: Option<String>,
    /// Another source address
    #[arg(long, value_name = "ADDRESS", requires = "to")]
    source: Option<String>,
    /// IPv4 without the Don't Fragment flag
    #[arg(long, requires = "to")]
    fragmentable: bool,
    /// A frame of a capture: pcap or pcapng
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    pcap: Option<PathBuf>,
    /// With --pcap its number from 1 [default: 1], else its bytes in hexadecimal; of a peer
    /// the inner frame
    #[arg(long, value_name = "NUMBER|HEX", conflicts_with = "live")]
    frame: Option<String>,
    /// Of a peer: what the UDP datagram carries, from the tunnel's header on
    #[arg(long)]
    outer: bool,
    /// The frame is a superframe: payload bytes of each of its packets
    #[arg(long, value_name = "BYTES")]
    segment: Option<u16>,
    /// Show what becomes of the next packets
    #[arg(long, conflicts_with_all = ["from", "from_peer"])]
    live: bool,
    /// Of a pod, by the name that `ringway pods` shows, or ns/web-*
    #[arg(long = "pod", value_name = "NAME", requires = "live")]
    pods: Vec<String>,
    /// Of the node's own stack
    #[arg(long, requires = "live")]
    node: bool,
    /// To and from a peer
    #[arg(long = "peer", value_name = "NAME", requires = "live")]
    peers: Vec<String>,
    /// Only what is dropped
    #[arg(long, requires = "live")]
    only_dropped: bool,
    /// Which, in the language of tcpdump
    #[arg(long, value_name = "WORDS", requires = "live")]
    filter: Option<String>,
    /// How many [default: 1]
    #[arg(long, value_name = "NUMBER", requires = "live")]
    count: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to trace.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    #[error("reading {}: {source}\n  to do: give a file that `ringway capture -w` or tcpdump has written", .path.display())]
    File { path: PathBuf, source: PcapError },
    #[error("opening {}: {source}\n  to do: see that it is there and may be read", .path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has {have} packets, number {wanted} is asked for\n  to do: give a number from 1 to that", .path.display())]
    Short {
        path: PathBuf,
        wanted: u64,
        have: u64,
    },
    #[error("packet {number} of {} was cut: {have} of its {len} bytes are there\n  to do: capture whole packets (without -s)", .path.display())]
    Cut {
        path: PathBuf,
        number: u64,
        have: usize,
        len: u32,
    },
    #[error("{0:?} is not the number of a packet\n  to do: give a number from 1 on")]
    Number(String),
    #[error(
        "a line of the answer has more than {LINE_MAX} bytes\n  to do: use the command of the agent's version"
    )]
    Line,
}

pub(super) fn run(client: &Client, wanted: &Trace) -> Result<(), Failure> {
    if wanted.live {
        return live(client, wanted);
    }
    let from = match (&wanted.from, &wanted.from_peer) {
        (Some(from), _) => Some(from.clone()),
        (None, Some(peer)) => Some(format!("peer:{peer}")),
        (None, None) => None,
    };
    let frame = match &wanted.pcap {
        Some(path) => Some(from_file(path, wanted.frame.as_deref())?),
        None => wanted.frame.clone(),
    };
    let all = json!({
        "from": from, "to": wanted.to, "tcp": wanted.tcp, "udp": wanted.udp,
        "src_port": wanted.src_port, "size": wanted.size, "ttl": wanted.ttl, "mac": wanted.mac,
        "source": wanted.source, "fragmentable": wanted.fragmentable, "frame": frame,
        "outer": wanted.outer, "segment": wanted.segment,
    });
    client.post("/v1/trace", &all, wanted.json, show)
}

/// A packet of a file in hexadecimal.
fn from_file(path: &Path, number: Option<&str>) -> Result<String, TraceError> {
    let text = number.unwrap_or("1");
    let number: u64 = text.parse().map_err(|_| TraceError::Number(text.into()))?;
    let failed = |source| TraceError::File {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(|source| TraceError::Open {
        path: path.into(),
        source,
    })?;
    let mut reader = Reader::new(BufReader::new(file)).map_err(failed)?;
    let mut have = 0;
    while let Some(packet) = reader.next_packet().map_err(failed)? {
        have += 1;
        if have != number {
            continue;
        }
        if packet.bytes.len() < packet.original_len as usize {
            return Err(TraceError::Cut {
                path: path.into(),
                number,
                have: packet.bytes.len(),
                len: packet.original_len,
            });
        }
        return Ok(hex(packet.bytes));
    }
    Err(TraceError::Short {
        path: path.into(),
        wanted: number,
        have,
    })
}

/// Until enough were seen, a signal, or the agent's end.
fn live(client: &Client, wanted: &Trace) -> Result<(), Failure> {
    let filter = wanted.filter.as_deref().filter(|text| !text.is_empty());
    let filter = filter.map(libpcap::compile).transpose();
    let filter: Option<Program> = filter.map_err(CaptureError::from)?;
    let body = json!({ "live": {
        "pods": wanted.pods, "node": wanted.node, "peers": wanted.peers,
        "only_dropped": wanted.only_dropped, "count": wanted.count,
        "filter": filter.as_ref().map(filter_numbers),
    }});
    until_signal(follow(client, &body, wanted.json))
}

async fn follow(client: &Client, body: &Value, json: bool) -> Result<(), Failure> {
    let (mut stream, mut buffer) = begin(client, "/v1/trace", body).await?;
    let mut first = true;
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let item: Live =
                serde_json::from_slice(&line).map_err(|e| client.not_understood(&e))?;
            // Whoever stopped reading is noticed by what is written: nothing, while nothing is seen.
            let Live::Trace(traced) = item else { continue };
            if json {
                output::print(&format!("{}\n", json!(traced)))?;
                continue;
            }
            let gap = if std::mem::take(&mut first) { "" } else { "\n" };
            output::print(&format!("{gap}{}", one(&traced)))?;
        }
        if buffer.len() > LINE_MAX {
            return Err(TraceError::Line.into());
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(source) => return Err(client.broken(source).into()),
        }
    }
}

fn show(answer: &Answer) -> String {
    let all: Vec<String> = answer.traces.iter().map(one).collect();
    let mut text = all.join("\n");
    if answer.more > 0 {
        text.push_str(&format!("\nand {} more frames\n", answer.more));
    }
    text
}

/// A frame's way.
fn one(traced: &Traced) -> String {
    let mut out = Fields::new(width(), LABEL);
    out.push("packet", &traced.input);
    for step in &traced.steps {
        out.push(&format!("  {}", step.step), &step.says);
    }
    let verdict = &traced.verdict;
    let mut text = verdict.verdict.clone();
    if let Some(to) = &verdict.to {
        text.push_str(&format!(" to {to}"));
    }
    if let Some(reason) = &verdict.reason {
        text.push_str(&format!(": {reason}"));
    }
    out.push("verdict:", &text);
    if let Some(cause) = &verdict.cause {
        out.push("  cause", cause);
    }
    if let Some(remedy) = &verdict.remedy {
        out.push("  to do", remedy);
    }
    for line in &traced.after {
        out.push(&format!("  {}", line.step), &line.says);
    }
    for next in &traced.next {
        out.push("next:", &format!("{}:", next.what));
        // In one piece, so that it can be copied.
        out.line(&format!("  {}", next.command));
    }
    let mut text = out.finish();
    if let Some(across) = &traced.across {
        text.push_str(&other_half(across));
    }
    text
}

/// What the other node's agent says, or why it says nothing.
fn other_half(across: &Across) -> String {
    let mut out = Fields::new(width(), LABEL);
    match &across.error {
        Some(error) => {
            out.push("not asked:", error);
            return out.finish();
        }
        None => out.push("asked:", &format!("{} says:", across.node)),
    }
    let all: Vec<String> = across.traces.iter().map(one).collect();
    out.finish() + &all.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::answer::{Line, Next, Verdict};

    fn line(step: &str, says: &str) -> Line {
        Line {
            step: step.into(),
            says: says.into(),
        }
    }

    #[test]
    fn a_line_for_each_step_and_a_command_to_copy() {
        let traced = Traced {
            input: "TCP 10.77.1.2:40000 > 10.77.9.9:443, IPv4, 40 bytes, TTL 64, DF, from pod default/web".into(),
            steps: vec![
                line("from", "pod default/web"),
                line("route", "10.77.9.9 is in 10.77.9.0/24: this node's, and no pod has the address"),
            ],
            verdict: Verdict {
                verdict: "dropped".into(),
                reason: Some("no_such_pod".into()),
                cause: Some("No pod has it.".into()),
                remedy: Some("Attach it.".into()),
                to: None,
            },
            after: vec![line("made", "ICMP")],
            next: vec![Next {
                what: "how often".into(),
                command: format!("ringway {}", "x".repeat(100)),
            }],
            ..Traced::default()
        };
        let text = one(&traced);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "packet      TCP 10.77.1.2:40000 > 10.77.9.9:443, IPv4, 40 bytes, TTL 64, DF,",
                "              from pod default/web",
                "  from      pod default/web",
                "  route     10.77.9.9 is in 10.77.9.0/24: this node's, and no pod has the",
            ],
            "{text}"
        );
        assert!(text.contains("\nverdict:    dropped: no_such_pod\n  cause     No pod has it.\n"));
        assert!(text.contains(&format!(
            "\nnext:       how often:\n  ringway {}\n",
            "x".repeat(100)
        )));
    }

    #[test]
    fn a_made_up_node_is_shown_in_80_columns() {
        use crate::trace::testing::{basis_of, described};
        use crate::trace::{From, Packet, Request, run};
        use ringway_config::Decider;
        let shown = |to: &str| {
            let request = Request {
                from: From::Pod("default/web".into()),
                packet: Packet::Described(described(to)),
            };
            show(&run(&basis_of(1, Decider::File), &request).unwrap())
        };
        let text = shown("10.77.2.3");
        let expected = "\
packet      TCP 10.77.1.2:40000 > 10.77.2.3:443, IPv4, 40 bytes, TTL 64, DF,
              from pod default/web
  from      pod default/web
  headers   TCP 10.77.1.2:40000 > 10.77.2.3:443, IPv4, 40 bytes, TTL 64, DF
  sender    says 0a:58:0a:4d:01:02, 10.77.1.2; the pod is 0a:58:0a:4d:01:02,
              10.77.1.2, fd77:1::2
  admitted  the sender is who it says it is
  route     10.77.2.3 is in 10.77.2.0/24: peer node2
  size      40 bytes fit the path's MTU of 1450
  TTL       64, enough for one more hop
  rewritten to 0a:58:0a:4d:02:00, from 0a:58:0a:4d:01:00, TTL 63
verdict:    tunnelled to peer node2
  outer     192.168.77.1 to 192.168.77.2, UDP port 8472, vxlan, VNI 1; source
              port by flow hash 0x776fe5b0, TOS 0x00
  packets   1 of 62 bytes behind its UDP header
next:       on node2:
  ringway trace --from-peer node1 --frame ";
        assert!(text.starts_with(expected), "{text}");
        for to in [
            "10.77.2.3",
            "fd77:2::3",
            "10.77.1.3",
            "fd77:1::99",
            "192.0.2.1",
            "127.0.0.1",
        ] {
            let text = shown(to);
            let commands =
                |line: &&str| !line.starts_with("  ringway ") && !line.starts_with("  ip ");
            for line in text.lines().filter(commands) {
                assert!(line.chars().count() <= 80, "{line}\n{text}");
            }
        }
    }

    #[test]
    fn a_packet_of_a_file_is_found_by_its_number() {
        use ringway_ports::pcap::Writer;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        let mut writer = Writer::new(File::create(&path).unwrap(), 0).unwrap();
        let time = std::time::Duration::from_secs(1);
        writer.write(time, 2, [&[1, 2][..]]).unwrap();
        writer.write(time, 9, [&[0xab, 0xcd][..]]).unwrap();
        drop(writer);
        assert_eq!(from_file(&path, None).unwrap(), "0102");
        let cut = from_file(&path, Some("2")).unwrap_err();
        assert!(matches!(
            cut,
            TraceError::Cut {
                have: 2,
                len: 9,
                ..
            }
        ));
        let short = from_file(&path, Some("3")).unwrap_err();
        assert!(short.to_string().contains("has 2 packets"), "{short}");
        assert!(from_file(&path, Some("abc")).is_err());
        assert!(from_file(Path::new("/nonexistent"), None).is_err());
    }
}
