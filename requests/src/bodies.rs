//! From the bytes of a request to what is asked: pure, so that it can be fuzzed.
//!
//! A client is root or the agent's own user, but its mistakes must not become
//! the agent's: unknown fields are refused, names are checked, and no string
//! reaches a path other than that of a network namespace.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ringway_cni::api::{Add, Attachment, Check, Gc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ApiError;
use ringway_config::names::pod_name;
use ringway_control::captures::{CaptureRequest, Points, RING_BYTES};
use ringway_control::request_values::{cni_interface, interface, ip_addresses, mac_address};
use ringway_control::{Attach, Detach};
use ringway_packet::bpf::{Instruction, Program};
use ringway_ports::pcap::MAX_PACKET;

/// Bytes a request body may have.
pub const BODY_MAX: usize = 256 * 1024;
/// The same for a GC, which names every container of the node: room for some 150,000.
pub const GC_MAX: usize = 16 << 20;
/// MTU below which IPv4 does not work (RFC 791); IPv6 needs 1280 (RFC 8200).
const MTU_MIN: u16 = 68;
const MTU_MIN_V6: u16 = 1280;
/// A level that is asked for longer than a day is one for the configuration.
const LOG_SECONDS_MAX: u64 = 86_400;
/// Bytes a capture may set aside for each worker: room for one superframe, to what a node can spare.
const BUFFER: RangeInclusive<usize> = 1 << 17..=64 << 20;

/// What is the same for all of a capture.
pub struct Described {
    /// The filter as it was written.
    pub filter: String,
    /// Bytes of each frame.
    pub snap_len: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttach {
    netns: String,
    ifname: String,
    ips: Vec<String>,
    mac: Option<String>,
    name: Option<String>,
    mtu: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDetach {
    netns: Option<String>,
    ifname: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPause {
    seconds: u64,
}

/// Reads the body of `POST /v1/reconcile/pause`: `{"seconds"}`. How long is too long is for the agent to say.
pub fn parse_pause(body: &[u8]) -> Result<Duration, ApiError> {
    let RawPause { seconds } = json(body)?;
    if seconds == 0 {
        return Err(ApiError::bad_request(
            "a pause of 0 seconds is none",
            "give the seconds of the pause, or POST /v1/reconcile/resume",
        ));
    }
    Ok(Duration::from_secs(seconds))
}

/// What is to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWanted {
    /// None: what is usual.
    pub level: Option<String>,
    /// For so long; none: until somebody says otherwise, or the agent ends.
    pub time: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Option<String>,
    seconds: Option<u64>,
}

/// Reads the body of `POST /v1/log`: `{"level"?, "seconds"?}`, the seconds with a level only.
pub fn parse_log(body: &[u8]) -> Result<LogWanted, ApiError> {
    let RawLog { level, seconds } = json(body)?;
    if let Some(level) = &level {
        ringway_log::check_level(level).map_err(|wrong| {
            let remedy = "give error, warn, info, debug or trace, or a level for a part of the \
                          program: info,ringway_control=debug";
            ApiError::bad_request(format!("no level: {wrong}"), remedy)
        })?;
    }
    let time = match seconds {
        None => None,
        Some(1..=LOG_SECONDS_MAX) if level.is_some() => seconds.map(Duration::from_secs),
        Some(seconds) => {
            return Err(ApiError::bad_request(
                format!(
                    "{seconds} seconds of {} is nothing",
                    level.as_deref().unwrap_or("the usual level")
                ),
                format!("give a level, and 1 to {LOG_SECONDS_MAX} seconds or none"),
            ));
        }
    };
    Ok(LogWanted { level, time })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGiveBack {
    #[serde(default)]
    pods_too: bool,
}

/// Reads the body of `POST /v1/give-back`: `{"pods_too"?}`.
pub fn parse_give_back(body: &[u8]) -> Result<bool, ApiError> {
    let RawGiveBack { pods_too } = json(body)?;
    Ok(pods_too)
}

/// Reads the body of `POST /v1/attach`:
/// `{"netns", "ifname", "ips": [..], "mac"?, "name"?, "mtu"?}`.
pub fn parse_attach(body: &[u8]) -> Result<Attach, ApiError> {
    let raw: RawAttach = json(body)?;
    let (netns, ifname) = interface(&raw.netns, &raw.ifname)?;
    let name = match raw.name {
        Some(name) => name,
        None => default_name(&netns, &ifname),
    };
    check_pod_name(&name)?;
    let ips = addresses(&raw.ips)?;
    let mac = raw.mac.as_deref().map(mac_address).transpose()?;
    if let Some(mtu) = raw.mtu {
        let min = if ips.iter().any(IpAddr::is_ipv6) {
            MTU_MIN_V6
        } else {
            MTU_MIN
        };
        if mtu < min {
            return Err(ApiError::bad_request(
                format!("mtu {mtu} is below {min}, the least the pod's addresses allow"),
                "leave mtu out: the agent knows what the underlay leaves",
            ));
        }
    }
    Ok(Attach {
        name,
        netns,
        ifname,
        ips,
        mac,
        mtu: raw.mtu,
    })
}

/// Reads the body of `POST /v1/detach`: `{"name"}` or `{"netns", "ifname"}`.
pub fn parse_detach(body: &[u8]) -> Result<Detach, ApiError> {
    let raw: RawDetach = json(body)?;
    match (raw.name, raw.netns, raw.ifname) {
        (Some(name), _, _) => {
            check_pod_name(&name)?;
            Ok(Detach::Name(name))
        }
        (None, Some(netns), Some(ifname)) => {
            let (netns, ifname) = interface(&netns, &ifname)?;
            Ok(Detach::Interface { netns, ifname })
        }
        _ => Err(ApiError::bad_request(
            "neither a name nor a netns and an ifname are given",
            "give \"name\", or both \"netns\" and \"ifname\"",
        )),
    }
}

/// What libpcap has compiled: code, jt, jf, k of each instruction.
pub(super) type RawFilter = Option<Vec<(u16, u8, u8, u32)>>;

/// The filter as it can be run.
pub(super) fn filter_of(raw: RawFilter) -> Result<Option<Program>, ApiError> {
    let filter = raw.map(|filter| {
        let filter = filter.into_iter();
        let all: Vec<_> = filter
            .map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
            .collect();
        Program::new(&all)
    });
    filter.transpose().map_err(|e| {
        ApiError::bad_request(
            e.to_string(),
            "send what libpcap compiles, as `ringway capture` does",
        )
    })
}

/// Names of pods and peers, each with a `*` at its end or not.
pub(super) fn check_points<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    for name in names {
        let exact = name.strip_suffix('*').unwrap_or(name);
        if !exact.is_empty() || name.is_empty() {
            check_pod_name(exact)?;
        }
    }
    Ok(())
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawCapture {
    pods: Vec<String>,
    node: bool,
    peers: Vec<String>,
    outer: bool,
    underlay: bool,
    drops: bool,
    only_dropped: bool,
    filter: RawFilter,
    filter_text: String,
    snap_len: Option<u32>,
    buffer_bytes: Option<usize>,
}

/// Reads the body of `POST /v1/capture`: `{"pods"?: [..], "node"?, "peers"?: [..], "outer"?, "underlay"?, "drops"?,
/// "only_dropped"?, "filter"?: [[code, jt, jf, k], ..], "filter_text"?, "snap_len"?, "buffer_bytes"?}`.
pub fn parse_capture(body: &[u8]) -> Result<(CaptureRequest, Described), ApiError> {
    let raw: RawCapture = json(body)?;
    check_points(raw.pods.iter().chain(&raw.peers))?;
    if raw.outer && raw.peers.is_empty() && !raw.underlay {
        return Err(ApiError::bad_request(
            "outer packets of no peer are asked for",
            "name peers, or ask for the underlay",
        ));
    }
    let snap_len = match raw.snap_len {
        None | Some(0) => MAX_PACKET,
        Some(bytes) if bytes <= MAX_PACKET => bytes,
        Some(bytes) => {
            return Err(ApiError::bad_request(
                format!("snap_len {bytes} is above {MAX_PACKET}, more than any packet has"),
                "leave it out for whole packets",
            ));
        }
    };
    let ring_bytes = raw.buffer_bytes.unwrap_or(RING_BYTES);
    if !BUFFER.contains(&ring_bytes) {
        return Err(ApiError::bad_request(
            format!(
                "buffer_bytes {ring_bytes} is not from {} to {}",
                BUFFER.start(),
                BUFFER.end()
            ),
            "leave it out",
        ));
    }
    let filter = filter_of(raw.filter)?;
    let described = Described {
        filter: raw.filter_text,
        snap_len,
    };
    let points = Points {
        pods: raw.pods,
        node: raw.node,
        peers: raw.peers,
        outer: raw.outer,
        underlay: raw.underlay,
        drops: raw.drops,
        only_dropped: raw.only_dropped,
    };
    let request = CaptureRequest {
        points,
        filter,
        snap_len,
        ring_bytes,
    };
    Ok((request, described))
}

/// `<last part of the namespace's path>/<interface>`.
pub fn default_name(netns: &Path, ifname: &str) -> String {
    let base = netns.file_name().unwrap_or_default().to_string_lossy();
    format!("{base}/{ifname}")
}

/// Reads the body of `POST /v1/cni/add`.
pub fn parse_cni_add(body: &[u8]) -> Result<Add, ApiError> {
    let add: Add = json(body)?;
    cni_interface(&add.netns, &add.attachment)?;
    ip_addresses(&add.ips)?;
    add.mac.as_deref().map(mac_address).transpose()?;
    Ok(add)
}

/// Reads the body of `POST /v1/cni/del`.
pub fn parse_cni_del(body: &[u8]) -> Result<Attachment, ApiError> {
    json(body)
}

/// Reads the body of `POST /v1/cni/check`.
pub fn parse_cni_check(body: &[u8]) -> Result<Check, ApiError> {
    json(body)
}

/// Reads the body of `POST /v1/cni/gc`.
pub fn parse_cni_gc(body: &[u8]) -> Result<Gc, ApiError> {
    json_within(body, GC_MAX)
}

pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    json_within(body, BODY_MAX)
}

fn json_within<T: DeserializeOwned>(body: &[u8], most: usize) -> Result<T, ApiError> {
    if body.len() > most {
        return Err(ApiError::new(
            413,
            format!("the body has {} bytes, the limit is {most}", body.len()),
            "send less",
        ));
    }
    serde_json::from_slice(body).map_err(|e| {
        ApiError::bad_request(
            format!("the body is not understood: {e}"),
            "send a JSON object with the documented fields",
        )
    })
}

fn check_pod_name(name: &str) -> Result<(), ApiError> {
    pod_name(name).map_err(|why| {
        ApiError::bad_request(
            format!("{name:?} is not a pod name: {why}"),
            "use letters, digits and - . _ / @ : +, or give \"name\"",
        )
    })
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, ApiError> {
    let remedy = "give one address, or one IPv4 and one IPv6 address, without prefix length";
    let mut ips = Vec::new();
    if texts.is_empty() || texts.len() > 2 {
        let message = format!("{} addresses are given", texts.len());
        return Err(ApiError::bad_request(message, remedy));
    }
    for text in texts {
        let ip: IpAddr = text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("{text:?} is not an IP address"), remedy))?;
        if ips
            .iter()
            .any(|other: &IpAddr| other.is_ipv6() == ip.is_ipv6())
        {
            let message = format!("{ip} is a second address of its family");
            return Err(ApiError::bad_request(message, remedy));
        }
        ips.push(ip);
    }
    ips.sort_by_key(IpAddr::is_ipv6);
    Ok(ips)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"netns":"blue","ifname":"eth0","ips":["fd77:1::2","10.77.1.2"]}"#;

    #[test]
    fn defaults_are_filled_in() {
        let attach = parse_attach(GOOD.as_bytes()).unwrap();
        assert_eq!(attach.netns, Path::new("/run/netns/blue"));
        assert_eq!(attach.name, "blue/eth0");
        assert_eq!(attach.ips[0], "10.77.1.2".parse::<IpAddr>().unwrap());
        assert_eq!((attach.mac, attach.mtu), (None, None));
        let by_path = GOOD.replace("blue", "/proc/12/ns/net");
        let attach = parse_attach(by_path.as_bytes()).unwrap();
        assert_eq!(attach.netns, Path::new("/proc/12/ns/net"));
        assert_eq!(attach.name, "net/eth0");
    }

    #[test]
    fn a_capture_is_checked_before_anything_begins() {
        let (all, _) = parse_capture(b"{}").unwrap();
        assert_eq!((all.snap_len, all.ring_bytes), (MAX_PACKET, RING_BYTES));
        assert!(all.filter.is_none() && all.points == Points::default());
        let body = br#"{"pods":["default/web-*"],"filter":[[6,0,0,262144]],"filter_text":"","snap_len":96}"#;
        let (some, described) = parse_capture(body).unwrap();
        assert_eq!((some.snap_len, described.snap_len), (96, 96));
        assert_eq!(some.filter.unwrap().run(&[0u8; 60][..]), 262_144);
        let huge = format!("{{\"filter\":[{}[6,0,0,1]]}}", "[0,0,0,1],".repeat(4096));
        for (body, words) in [
            // Back to itself: an offset is unsigned, so it would be behind the end.
            (
                r#"{"filter":[[5,0,0,4294967295],[6,0,0,1]]}"#,
                "jumps behind its end",
            ),
            (&huge, "4097 instructions"),
            (r#"{"filter":[]}"#, "0 instructions"),
            (
                r#"{"filter":[[32,0,0,4294963200],[6,0,0,1]]}"#,
                "only a kernel knows",
            ),
            (r#"{"filter":[[6,0,0]]}"#, "not understood"),
            (r#"{"filter":[[6,0,256,1]]}"#, "not understood"),
            (r#"{"snap_len":262145}"#, "262145"),
            (r#"{"buffer_bytes":1}"#, "buffer_bytes 1"),
            (r#"{"buffer_bytes":1000000000}"#, "buffer_bytes"),
            (r#"{"pods":["a b"]}"#, "pod name"),
            (r#"{"pods":[""]}"#, "pod name"),
            (r#"{"outer":true}"#, "no peer"),
            (r#"{"file":"/etc/passwd"}"#, "not understood"),
        ] {
            let refused = parse_capture(body.as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(refused.status, 400, "{words}");
            assert!(refused.error.contains(words), "{words}: {refused:?}");
            assert!(!refused.remedy.is_empty());
        }
    }

    #[test]
    fn a_pause_has_seconds() {
        let pause = parse_pause(br#"{"seconds":600}"#).unwrap();
        assert_eq!(pause, Duration::from_secs(600));
        for bad in [
            "{}",
            r#"{"seconds":0}"#,
            r#"{"seconds":-1}"#,
            r#"{"minutes":1}"#,
        ] {
            assert_eq!(
                parse_pause(bad.as_bytes()).unwrap_err().status,
                400,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_level_is_one_and_its_time_ends() {
        let wanted = |text: &str| parse_log(text.as_bytes());
        let debug = wanted(r#"{"level":"ringway_control=debug","seconds":600}"#).unwrap();
        assert_eq!(debug.level.as_deref(), Some("ringway_control=debug"));
        assert_eq!(debug.time, Some(Duration::from_secs(600)));
        let usual = LogWanted {
            level: None,
            time: None,
        };
        assert_eq!(wanted("{}").unwrap(), usual);
        for (bad, words) in [
            (r#"{"level":"loud"}"#, "\"loud\" is no level"),
            (r#"{"level":""}"#, "empty"),
            (r#"{"level":"debug","seconds":0}"#, "0 seconds of debug"),
            (r#"{"level":"debug","seconds":86401}"#, "86401 seconds"),
            (r#"{"seconds":60}"#, "the usual level"),
            (r#"{"levels":"debug"}"#, "levels"),
        ] {
            let refused = wanted(bad).unwrap_err();
            assert_eq!(refused.status, 400, "{bad}");
            assert!(refused.error.contains(words), "{}", refused.error);
        }
    }

    #[test]
    fn each_mistake_is_refused_and_named() {
        let with = |extra: &str| GOOD.replace("\"netns\"", &format!("{extra},\"netns\""));
        let cases = [
            (String::new(), "not understood"),
            ("[]".into(), "not understood"),
            ("{".into(), "not understood"),
            (with(r#""color":1"#), "color"),
            (GOOD.replace("eth0", "a/b"), "interface name"),
            (GOOD.replace("eth0", "0123456789abcdef"), "15 bytes"),
            (GOOD.replace("eth0", ""), "empty"),
            (GOOD.replace("blue", "../blue"), "network namespace"),
            (GOOD.replace("blue", ".."), "network namespace"),
            (GOOD.replace("blue", ""), "network namespace"),
            (GOOD.replace("blue", "bl ue"), "pod name"),
            (GOOD.replace("10.77.1.2", "10.77.1.2/24"), "not an IP"),
            (GOOD.replace("fd77:1::2", "10.77.1.3"), "second address"),
            (
                GOOD.replace(r#""fd77:1::2","10.77.1.2""#, ""),
                "0 addresses",
            ),
            (with(r#""mac":"01:00:5e:00:00:01""#), "MAC"),
            (with(r#""mac":"00:00:00:00:00:00""#), "MAC"),
            (with(r#""mac":"02:52:57:00:00:01""#), "gateway"),
            (with(r#""mac":"x""#), "MAC"),
            (with(r#""mtu":1279"#), "1279"),
            (with(r#""mtu":70000"#), "70000"),
            (with(r#""name":"a\u0000b""#), "pod name"),
        ];
        for (body, expected) in cases {
            let refused = parse_attach(body.as_bytes()).expect_err(&body);
            assert_eq!(refused.status, 400, "{body}");
            assert!(refused.error.contains(expected), "{body}: {refused:?}");
            assert!(!refused.remedy.is_empty());
        }
    }

    #[test]
    fn a_plugin_of_another_version_is_understood() {
        // An older one leaves out what came later, a newer one says more.
        let old = br#"{"containerId":"c1","ifname":"eth0","netns":"/proc/7/ns/net"}"#;
        let add = parse_cni_add(old).unwrap();
        assert_eq!(add.attachment.container_id, "c1");
        assert!(add.ips.is_empty() && add.bandwidth.is_none() && add.port_mappings.is_empty());
        let new = br#"{"containerId":"c1","ifname":"eth0","netns":"/a","future":{"x":[1]}}"#;
        assert!(parse_cni_add(new).is_ok());
        assert!(parse_cni_del(br#"{"containerId":"c1","ifname":"eth0","future":1}"#).is_ok());
        for (body, words) in [
            (
                &br#"{"containerId":"../c","ifname":"eth0","netns":"/a"}"#[..],
                "container id",
            ),
            (
                br#"{"containerId":"c","ifname":"a/b","netns":"/a"}"#,
                "interface name",
            ),
            (
                br#"{"containerId":"c","ifname":"e","netns":"/a","ips":["x"]}"#,
                "IP address",
            ),
            (
                br#"{"containerId":"c","ifname":"e","netns":"/a","ips":["10.0.0.1","10.0.0.2"]}"#,
                "second",
            ),
            (
                br#"{"containerId":"c","ifname":"e","netns":"/a","mac":"x"}"#,
                "MAC",
            ),
            (br#"{"ifname":"e"}"#, "not understood"),
        ] {
            let refused = parse_cni_add(body).unwrap_err();
            assert!(refused.error.contains(words), "{refused:?}");
            assert_eq!(refused.code, ringway_cni::api::CODE_INVALID);
        }
    }

    #[test]
    fn too_much_is_refused_unread() {
        let refused = parse_attach(&vec![b' '; BODY_MAX + 1]).unwrap_err();
        assert_eq!(refused.status, 413);
        // A GC may be longer.
        let refused = parse_cni_gc(&vec![b' '; GC_MAX]).unwrap_err();
        assert_eq!(refused.status, 400);
        let refused = parse_cni_gc(&vec![b' '; GC_MAX + 1]).unwrap_err();
        assert_eq!(refused.status, 413);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        assert!(parse_attach(&vec![b'['; BODY_MAX]).is_err());
        assert!(parse_detach("{\"name\":".repeat(5000).as_bytes()).is_err());
    }

    #[test]
    fn detach_by_name_or_place() {
        assert_eq!(
            parse_detach(br#"{"name":"blue/eth0"}"#).unwrap(),
            Detach::Name("blue/eth0".into())
        );
        assert_eq!(
            parse_detach(br#"{"netns":"blue","ifname":"eth0"}"#).unwrap(),
            Detach::Interface {
                netns: "/run/netns/blue".into(),
                ifname: "eth0".into()
            }
        );
        for bad in ["{}", r#"{"netns":"blue"}"#, r#"{"ifname":"eth0"}"#, "null"] {
            assert!(parse_detach(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
