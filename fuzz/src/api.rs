//! Any request body through the API's parsers: what passes is fit to be acted on.

use ringway_control::Detach;
use ringway_requests::{
    parse_attach, parse_capture, parse_cni_add, parse_cni_check, parse_cni_del, parse_cni_gc,
    parse_detach, parse_log, parse_pause, parse_trace,
};
use std::path::{Component, Path};

/// One input: the body.
pub fn run(data: &[u8]) {
    cni(data);
    match parse_attach(data) {
        Ok(attach) => {
            namespace(&attach.netns);
            interface(&attach.ifname);
            pod(&attach.name);
            assert!((1..=2).contains(&attach.ips.len()));
            assert!(attach.ips.len() == 1 || attach.ips[0].is_ipv4() && attach.ips[1].is_ipv6());
            assert!(
                attach
                    .mac
                    .is_none_or(|mac| !mac.is_multicast() && mac.to_u64() != 0)
            );
            assert!(attach.mtu.is_none_or(|mtu| mtu >= 68));
        }
        Err(error) => assert!((400..500).contains(&error.status) && !error.remedy.is_empty()),
    }
    match parse_capture(data) {
        Ok((request, described)) => {
            assert!(request.snap_len > 0 && request.snap_len == described.snap_len);
            assert!((1 << 17..=64 << 20).contains(&request.ring_bytes));
            if let Some(filter) = request.filter {
                filter.run(data);
            }
        }
        Err(error) => assert!((400..500).contains(&error.status) && !error.remedy.is_empty()),
    }
    if let Err(error) = parse_trace(data) {
        assert!((400..500).contains(&error.status) && !error.remedy.is_empty());
    }
    if let Ok(log) = parse_log(data) {
        assert!(
            log.time
                .is_none_or(|time| log.level.is_some() && !time.is_zero())
        );
    }
    if let Ok(pause) = parse_pause(data) {
        assert!(!pause.is_zero());
    }
    match parse_detach(data) {
        Ok(Detach::Name(name)) => pod(&name),
        Ok(Detach::Interface { netns, ifname }) => {
            namespace(&netns);
            interface(&ifname);
        }
        Err(error) => assert!((400..500).contains(&error.status) && !error.remedy.is_empty()),
    }
}

/// The same for what the CNI plugin asks.
fn cni(data: &[u8]) {
    if let Ok(add) = parse_cni_add(data) {
        interface(&add.attachment.ifname);
        // It becomes a part of file names.
        assert!(!add.attachment.container_id.contains('/'));
        assert!(add.ips.len() <= 2);
    }
    let refusals = [
        parse_cni_add(data).err(),
        parse_cni_del(data).err(),
        parse_cni_check(data).err(),
        parse_cni_gc(data).err(),
    ];
    for error in refusals.into_iter().flatten() {
        assert!((400..500).contains(&error.status) && !error.remedy.is_empty());
        assert!(error.code > 0);
    }
}

/// Only paths that cannot lead elsewhere.
fn namespace(path: &Path) {
    assert!(path.is_absolute(), "{path:?}");
    assert!(
        path.components()
            .all(|c| !matches!(c, Component::ParentDir)),
        "{path:?}"
    );
    assert!(!path.to_string_lossy().contains('\0'));
}

fn interface(name: &str) {
    assert!((1..16).contains(&name.len()), "{name:?}");
    assert!(
        !name.contains(['/', ' ', '\0', '\n', ':']) && name != "." && name != "..",
        "{name:?}"
    );
}

fn pod(name: &str) {
    assert!(
        !name.is_empty() && !name.contains(['\0', '\n', ' ']),
        "{name:?}"
    );
}
