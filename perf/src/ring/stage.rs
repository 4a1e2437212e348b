//! The device, its ring, and the end of the wire where frames come from and are dropped.
//!
//! The other end drops with the same XDP program that brings a ring its frames: its socket has none to
//! receive into, so the kernel drops there whatever the program gives it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::net::if_::if_nametoindex;
use ringway_encap::Encap;
use ringway_packet::mac::MacAddr;
use ringway_ports::socket::{SocketConfig, UdpUnderlay};
use ringway_ports::xdp::{AttachOptions, Attachment, Filter, Program, XskMap};
use ringway_ports::xsk::{Xsk, XskConfig, ZeroCopy};
use ringway_ports::{Pool, ethtool};
use ringway_worker::{Queues, UnderlaySocket};

use super::frames::{OURS, PORT, THEIRS};
use super::xsk_rs::XskRs;
use super::{Args, Direction};
use crate::devices::OnRings;
use crate::lab::{Lab, Netns};

/// As in the agent: entries of each ring, frames kept in the fill ring.
const ENTRIES: u32 = 2048;
const FILL: u32 = 1024;

/// One end of the wire.
pub(super) struct End {
    pub(super) name: String,
    pub(super) mac: MacAddr,
    /// As of a worker whose only ring this is.
    pub(super) queues: Queues<OnRings>,
    /// What it is opened with.
    config: XskConfig,
    zero_copy: bool,
    /// While it is their turn: the socket that has the queue in the place of the ring.
    theirs: Option<XskRs>,
    past: Past,
    pub(super) attachment: Attachment,
    map: XskMap,
    /// Where the interface is, unless in the caller's namespace.
    netns: Option<Netns>,
}

/// Counts of sockets that had the queue before.
#[derive(Default)]
struct Past {
    overruns: u64,
    stray: u64,
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
            let (other, mut device) = ns.run(|| {
                // The fill ring of the other end stays empty: that is how it drops.
                let other = open("other", 0)?;
                anyhow::Ok((other, open("device", FILL)?))
            })??;
            device.netns = Some(ns);
            return Ok(Stage {
                device,
                other: Some(other),
                driver: "veth".into(),
                _lab: Some(lab),
            });
        };
        if args.other_end.is_none() && args.directions.contains(&Direction::Receive) {
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
        let mut queues = Queues::new(vec![socket()?], (0, 1), largest);
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
        // The wire is a veth, or may as well be one.
        queues
            .add_ring(true, |pool| Xsk::open(pool, &config, None))
            .with_context(|| name.to_owned())?;
        let map = XskMap::new(1)?;
        let (_, xsk) = ring_of(&mut queues);
        map.set(0, xsk.fd().as_fd())?;
        let zero_copy = xsk.got().zero_copy;
        let filter = Filter {
            addresses: vec![IpAddr::V4(OURS), IpAddr::V4(THEIRS)],
            ports: vec![PORT],
            cidrs: Vec::new(),
        };
        let program = Program::load(&filter, &map, false)?;
        let attachment = Attachment::attach(name, &program, AttachOptions::default())?;
        Ok(End {
            name: name.to_owned(),
            mac: mac_of(name)?,
            queues,
            config,
            zero_copy,
            theirs: None,
            past: Past::default(),
            attachment,
            map,
            netns: None,
        })
    }

    /// Has xsk-rs hold the queue, or the ring of ours, if it is not so already. Frames that come meanwhile
    /// pass to the kernel, which drops them.
    ///
    /// # Errors
    /// Whoever is to have it does not get it.
    pub(super) fn hand_queue(&mut self, to_theirs: bool) -> anyhow::Result<()> {
        if self.theirs.is_some() == to_theirs {
            return Ok(());
        }
        match self.netns.clone() {
            Some(netns) => netns.run(|| self.exchange())?,
            None => self.exchange(),
        }
        .with_context(|| format!("{}: the queue changes hands", self.name))
    }

    /// In the namespace of the interface. One socket is closed before the other is opened, which waits until
    /// the kernel has let go of the queue.
    fn exchange(&mut self) -> anyhow::Result<()> {
        self.past.overruns = self.overruns();
        self.past.stray = self.stray();
        if self.theirs.is_some() {
            // Closes it.
            self.theirs = None;
            self.queues
                .add_ring(true, |pool| Xsk::open(pool, &self.config, None))?;
            let (_, xsk) = ring_of(&mut self.queues);
            anyhow::ensure!(
                xsk.got().zero_copy == self.zero_copy,
                "the ring has another mode than before: {:?}",
                xsk.got()
            );
            self.map.set(self.config.queue, xsk.fd().as_fd())?;
        } else {
            let closed = self.queues.remove_ring().map(Xsk::close);
            let theirs = XskRs::open(&self.name, &self.config, self.zero_copy)?;
            // Theirs is bound, so nobody writes to frames of ours any more.
            closed.map(|closed| closed.reclaim(self.queues.ring(0).0));
            self.map.set(self.config.queue, theirs.fd())?;
            self.theirs = Some(theirs);
        }
        Ok(())
    }

    /// The socket of xsk-rs, while it has the queue.
    pub(super) fn theirs(&mut self) -> Option<&mut XskRs> {
        self.theirs.as_mut()
    }

    /// Received frames that nobody has taken yet.
    pub(super) fn waiting(&mut self) -> usize {
        match &mut self.theirs {
            Some(theirs) => theirs.waiting(),
            None => self.ring().1.waiting() as usize,
        }
    }

    /// Frames the kernel dropped for want of room, since this was made.
    pub(super) fn overruns(&mut self) -> u64 {
        let now = match (&self.theirs, self.queues.ring(0)) {
            (Some(theirs), _) => theirs.overruns(),
            (None, (_, Some(xsk))) => xsk
                .statistics()
                .map_or(0, |s| s.rx_dropped + s.rx_ring_full + s.fill_ring_empty),
            (None, (_, None)) => 0,
        };
        self.past.overruns + now
    }

    /// Descriptors that rings of ours brought for frames they did not have, since this was made.
    pub(super) fn stray(&mut self) -> u64 {
        let (_, xsk) = self.queues.ring(0);
        self.past.stray + xsk.map_or(0, |xsk| xsk.counters().stray)
    }

    /// What is known of the socket that has the queue, for an error.
    pub(super) fn account(&mut self) -> String {
        if let Some(theirs) = &self.theirs {
            return theirs.account();
        }
        let (pool, xsk) = self.ring();
        format!("{:?}, {:?}", xsk.statistics(), pool.census())
    }

    /// The buffers and the ring, which must have the queue.
    pub(super) fn ring(&mut self) -> (&mut Pool, &mut Xsk) {
        ring_of(&mut self.queues)
    }

    /// `veth native copy`, without the driver.
    pub(super) fn describe(&self) -> String {
        let copy = if self.zero_copy { "zero-copy" } else { "copy" };
        format!("{} XDP, {copy}", self.attachment.mode())
    }
}

fn ring_of(queues: &mut Queues<OnRings>) -> (&mut Pool, &mut Xsk) {
    let (pool, ring) = queues.ring(0);
    (pool, ring.expect("an end is made with its ring"))
}

/// Whose source ports the ring sends from. Nothing comes to it, and nothing is sent by it.
fn socket() -> anyhow::Result<UnderlaySocket> {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Ok(UnderlaySocket {
        socket: UdpUnderlay::open(&SocketConfig::new(anywhere))?,
        encap: Encap::Vxlan { vni: 1 },
        v6: false,
        unfinished: true,
    })
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
