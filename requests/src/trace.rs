//! What `POST /v1/trace` is asked for.

use std::net::IpAddr;

use ringway_control::captures::{LiveRequest, Points};
use ringway_trace::{Described, From, Packet, Protocol, Request};
use ringway_worker::observe::steps::MOST_FRAMES;
use serde::Deserialize;

use super::ApiError;
use super::bodies::{RawFilter, check_points, filter_of, json};

/// Longest frame that is given, in hexadecimal digits.
const HEX_MAX: usize = 2 * ringway_worker::trace::MAX_FRAME;
/// Source port of what is described.
const SRC_PORT: u16 = 40_000;

/// What is asked for.
#[derive(Debug)]
pub enum Wanted {
    /// A packet.
    Packet(Request),
    /// The next that workers see.
    Live(LiveRequest),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTrace {
    from: Option<String>,
    to: Option<String>,
    tcp: Option<u16>,
    udp: Option<u16>,
    src_port: Option<u16>,
    size: Option<u16>,
    ttl: Option<u8>,
    mac: Option<String>,
    source: Option<String>,
    fragmentable: bool,
    frame: Option<String>,
    outer: bool,
    segment: Option<u16>,
    live: Option<RawLive>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLive {
    pods: Vec<String>,
    node: bool,
    peers: Vec<String>,
    only_dropped: bool,
    filter: RawFilter,
    count: Option<u32>,
}

/// Reads the body of `POST /v1/trace`: `{"from", "to", "tcp"? | "udp"?, "src_port"?, "size"?, "ttl"?, "mac"?,
/// "source"?, "fragmentable"?}`, `{"from", "frame", "outer"?, "segment"?}`, or `{"live": {"pods"?, "node"?, "peers"?,
/// "only_dropped"?, "filter"?, "count"?}}`. `from` is a pod's name, `node`, `peer:NAME` or `underlay`.
pub fn parse_trace(body: &[u8]) -> Result<Wanted, ApiError> {
    let raw: RawTrace = json(body)?;
    if let Some(live) = raw.live {
        return parse_live(live).map(Wanted::Live);
    }
    let Some(from) = &raw.from else {
        return Err(ApiError::bad_request(
            "it is not said where the packet comes in",
            "give \"from\": a pod's name, node, peer:NAME or underlay",
        ));
    };
    let from = match (from.as_str(), from.strip_prefix("peer:")) {
        ("node", _) => From::Node,
        ("underlay", _) => From::Underlay,
        (_, Some(peer)) => From::Peer(peer.into()),
        (pod, None) => From::Pod(pod.into()),
    };
    let packet = match (&raw.frame, &raw.to) {
        (Some(frame), None) => Packet::Frame {
            bytes: bytes(frame)?,
            outer: raw.outer,
            segment: raw.segment,
        },
        (None, Some(to)) => Packet::Described(described(&raw, to)?),
        _ => {
            return Err(ApiError::bad_request(
                "either \"to\" describes the packet, or \"frame\" is it",
                "give one of them",
            ));
        }
    };
    Ok(Wanted::Packet(Request { from, packet }))
}

fn described(raw: &RawTrace, to: &str) -> Result<Described, ApiError> {
    let address = |text: &str| -> Result<IpAddr, ApiError> {
        text.parse().map_err(|_| {
            ApiError::bad_request(format!("{text:?} is not an IP address"), "give one address")
        })
    };
    let protocol = match (raw.tcp, raw.udp) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request(
                "a packet is TCP or UDP",
                "give one of the ports",
            ));
        }
        (Some(port), None) => Protocol::Tcp(port),
        (None, Some(port)) => Protocol::Udp(port),
        (None, None) => Protocol::Icmp,
    };
    let mac = raw.mac.as_deref();
    let mac = mac.map(|text| {
        let parsed = text.parse();
        parsed.map_err(|_| {
            ApiError::bad_request(
                format!("{text:?} is not a MAC address"),
                "write it as 02:52:57:00:00:03",
            )
        })
    });
    Ok(Described {
        to: address(to)?,
        protocol,
        src_port: raw.src_port.unwrap_or(SRC_PORT),
        size: raw.size,
        ttl: raw.ttl,
        mac: mac.transpose()?,
        source: raw.source.as_deref().map(address).transpose()?,
        fragmentable: raw.fragmentable,
    })
}

/// Bytes in hexadecimal; spaces, colons and line ends between them do not matter.
fn bytes(text: &str) -> Result<Vec<u8>, ApiError> {
    let digits = text.chars().filter(|c| !c.is_whitespace() && *c != ':');
    let digits: Option<Vec<u8>> = digits
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2) && digits.len() <= HEX_MAX);
    let Some(digits) = digits.filter(|digits| !digits.is_empty()) else {
        return Err(ApiError::bad_request(
            format!("the frame is not 1 to {} bytes in hexadecimal", HEX_MAX / 2),
            "give two digits for each byte",
        ));
    };
    let bytes = digits.chunks_exact(2);
    Ok(bytes.map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn parse_live(raw: RawLive) -> Result<LiveRequest, ApiError> {
    check_points(raw.pods.iter().chain(&raw.peers))?;
    let count = raw.count.unwrap_or(1);
    if !(1..=MOST_FRAMES).contains(&count) {
        return Err(ApiError::bad_request(
            format!("count {count} is not from 1 to {MOST_FRAMES}"),
            "leave it out for one frame",
        ));
    }
    Ok(LiveRequest {
        points: Points {
            pods: raw.pods,
            node: raw.node,
            peers: raw.peers,
            only_dropped: raw.only_dropped,
            ..Points::default()
        },
        filter: filter_of(raw.filter)?,
        count,
    })
}
