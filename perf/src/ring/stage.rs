//! The device, its ring, and the end of the wire where frames come from and are dropped.
//!
//! The other end drops with the same XDP program that brings a ring its frames: its socket has none to
//! receive into, so the kernel drops there whatever the program gives it.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::net::if_::if_nametoindex;
use ringway_packet::mac::MacAddr;
use ringway_ports::xdp::{Attachment, Filter, Program, Want, XskMap};
use ringway_ports::xsk::{Xsk, XskConfig, ZeroCopy};
use ringway_ports::{Pool, ethtool};

use super::frames::{OURS, PORT, THEIRS};
use super::{Args, Half};
use crate::lab::{Lab, Netns};

/// As in the agent: entries of each ring, frames kept in the fill ring, large buffers, frames.
const ENTRIES: u32 = 2048;
const FILL: u32 = 1024;
const BUFFERS: usize = 512;
const FRAMES: usize = 6144;

/// One end of the wire.
pub(super) struct End {
    pub(super) name: String,
    pub(super) mac: MacAddr,
    pub(super) pool: Pool,
    pub(super) xsk: Xsk,
    pub(super) attachment: Attachment,
    _map: XskMap,
}

/// Everything that stands while it is measured.
pub(super) struct Stage {
    pub(super) device: End,
    /// Taken by the generator while it runs.
    pub(super) other: Option<End>,
    pub(super) driver: String,
    // After the ends: their interfaces go with it.
    _lab: Option<Lab>,
}

impl Stage {
    pub(super) fn build(args: &Args) -> anyhow::Result<Stage> {
        let largest = args.sizes.iter().copied().max().map_or(1500, usize::from);
        let open = |name: &str, fill: u32| End::open(name, fill, largest);
        let Some(device) = &args.device else {
            let lab = Lab::open()?;
            let ns = Netns::create(&lab.name("ring"))?;
            ns.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
            ns.ip_batch(
                "link add device mtu 3000 type veth peer name other mtu 3000\nlink set device up\nlink set other up\n",
            )?;
            let (other, device) = ns.run(|| {
                // The fill ring of the other end stays empty: that is how it drops.
                let other = open("other", 0)?;
                anyhow::Ok((other, open("device", FILL)?))
            })??;
            return Ok(Stage {
                device,
                other: Some(other),
                driver: "veth".into(),
                _lab: Some(lab),
            });
        };
        if args.other_end.is_none() && args.halves.contains(&Half::Receive) {
            eprintln!(
                "receive: send VXLAN (VNI 1) for inner 10.2.0.1-250 from {THEIRS} to {OURS}, UDP port {PORT}, to {device}"
            );
        }
        Ok(Stage {
            device: open(device, FILL)?,
            other: args
                .other_end
                .as_ref()
                .map(|name| open(name, 0))
                .transpose()?,
            driver: ethtool::driver(device)
                .ok()
                .flatten()
                .unwrap_or_else(|| "unknown driver".into()),
            _lab: None,
        })
    }
}

impl End {
    /// In the calling thread's namespace.
    fn open(name: &str, fill: u32, largest: usize) -> anyhow::Result<End> {
        let mut pool = Pool::umem(BUFFERS, FRAMES, largest);
        let config = XskConfig {
            ifindex: if_nametoindex(name).with_context(|| format!("interface {name}"))?,
            queue: 0,
            ring: 0,
            entries: ENTRIES,
            fill,
            zero_copy: ZeroCopy::Prefer,
            busy_poll_us: None,
            patience: Duration::from_secs(1),
        };
        let xsk = Xsk::open(&mut pool, &config, None).with_context(|| name.to_owned())?;
        let map = XskMap::new(1)?;
        map.set(0, xsk.fd().as_fd())?;
        let filter = Filter {
            addresses: vec![IpAddr::V4(OURS), IpAddr::V4(THEIRS)],
            ports: vec![PORT],
            cidrs: Vec::new(),
        };
        let program = Program::load(&filter, &map, false)?;
        let attachment = Attachment::attach(name, &program, Want::default())?;
        Ok(End {
            name: name.to_owned(),
            mac: mac_of(name)?,
            pool,
            xsk,
            attachment,
            _map: map,
        })
    }

    /// `veth native copy`, without the driver.
    pub(super) fn describe(&self) -> String {
        let copy = if self.xsk.got().zero_copy {
            "zero-copy"
        } else {
            "copy"
        };
        format!("{} XDP, {copy}", self.attachment.mode())
    }
}

/// The address of an interface of the calling thread's namespace.
fn mac_of(name: &str) -> anyhow::Result<MacAddr> {
    let mut addresses = nix::ifaddrs::getifaddrs().context("getifaddrs")?;
    let found = addresses.find_map(|entry| {
        (entry.interface_name == name)
            .then(|| entry.address?.as_link_addr()?.addr())
            .flatten()
    });
    found
        .map(MacAddr)
        .with_context(|| format!("{name} has no MAC address"))
}
