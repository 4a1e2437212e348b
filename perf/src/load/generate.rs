//! `ringway-perf generate`: stamped UDP packets out of an interface of this network namespace.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringway_packet::mac::MacAddr;
use serde_json::json;

use super::{Flow, Frames, Io, LoadError, Mix, Outlet, PORT, Plan, Sent, next_hop, route, send};
use crate::lab::{end_on_signals, require_root};
use crate::table::Progress;

/// Options of `ringway-perf generate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Address the packets go to
    #[arg(long, value_name = "ADDRESS")]
    pub to: IpAddr,
    /// UDP port they go to
    #[arg(long, default_value_t = PORT)]
    pub port: u16,
    /// Interface (default: by the kernel's route)
    #[arg(long, requires_all = ["from", "to_mac"])]
    pub interface: Option<String>,
    /// Source address (default: the kernel's for that route); a switch that admits only a pod's own drops
    /// others
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// MAC of the next hop (default: as the kernel resolves it)
    #[arg(long, value_name = "MAC")]
    pub to_mac: Option<MacAddr>,
    /// Packets per second; 0: as many as possible
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Bytes of a frame without its check sequence (60 to 9014), or `imix`: 7:4:1 of 64, 570 and 1400; what
    /// is below IPv6's least of 84 becomes 84
    #[arg(long, default_value = "64")]
    pub size: Mix,
    /// Flows: different UDP source ports
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub flows: u32,
    /// Source addresses among them, counting up from --from
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub addresses: u32,
    /// Packets sent back to back (1 to 64); 0: what keeps bursts 40 µs apart
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=64))]
    pub burst: u8,
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Packets to send, instead of seconds
    #[arg(long)]
    pub count: Option<u64>,
    /// AF_XDP or AF_PACKET
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    pub io: Io,
    /// Result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Generates and prints what was sent; on SIGINT what was sent until then.
///
/// # Errors
/// No way to the target, an interface that does not send.
pub fn run(args: &Args) -> Result<bool, LoadError> {
    require_root()?;
    let mut progress = Progress::default();
    progress.step(&format!("the way to {}", args.to));
    let (interface, macs, from) = way(args)?;
    let flow = Flow {
        macs,
        from,
        to: args.to,
        port: args.port,
        flows: args.flows,
        addresses: args.addresses,
    };
    let frames = Frames::new(flow, &args.size, run_id())?;
    let mut outlet = Outlet::open(&interface, args.io, frames.mix().largest())?;
    let plan = Plan {
        rate: args.rate,
        burst: args.burst.into(),
        count: args.count,
        time: args
            .count
            .is_none()
            .then(|| Duration::from_secs_f64(args.seconds.clamp(0.0, 1e6))),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let halt = stop.clone();
    end_on_signals(move || {
        halt.store(true, Ordering::Relaxed);
        // For the main thread to report.
        std::thread::sleep(Duration::from_secs(2));
    });
    let so_far = AtomicU64::new(0);
    let sent = watched(&mut progress, &so_far, "sent", || {
        send(&mut outlet, &frames, &plan, &stop, &so_far)
    })?;
    progress.clear();
    report(args, &frames, &interface, &outlet, &sent);
    Ok(true)
}

fn way(args: &Args) -> Result<(String, (MacAddr, MacAddr), IpAddr), LoadError> {
    if let (Some(interface), Some(from), Some(mac)) = (&args.interface, args.from, args.to_mac) {
        let own = route::mac_of(interface)?;
        return Ok((interface.clone(), (own, mac), from));
    }
    let hop = next_hop(args.to, args.to_mac)?;
    Ok((hop.interface, hop.macs, args.from.unwrap_or(hop.from)))
}

/// Runs `work`, saying once a second how far it is.
pub(super) fn watched<T>(
    progress: &mut Progress,
    so_far: &AtomicU64,
    what: &str,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut before = 0;
            for tick in 1_u64.. {
                std::thread::park_timeout(Duration::from_secs(1));
                if done.load(Ordering::Acquire) {
                    return;
                }
                let now = so_far.load(Ordering::Relaxed);
                progress.step(&format!(
                    "{tick} s: {now} {what}, {} a second",
                    now - before
                ));
                before = now;
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        watcher.thread().unpark();
        result
    })
}

/// Not one that an earlier run had, most likely.
pub(super) fn run_id() -> u32 {
    let now = super::clock::now();
    (now ^ (now >> 32)) as u32 ^ std::process::id().rotate_left(16)
}

fn report(args: &Args, frames: &Frames, interface: &str, outlet: &Outlet, sent: &Sent) {
    if args.json {
        let report = json!({
            "run": format!("{:08x}", frames.run()), "interface": interface, "io": outlet.describe(),
            "to": args.to, "port": args.port, "flows": args.flows, "size": frames.mix().to_string(),
            "rate_asked": args.rate, "packets": sent.packets, "refused": sent.refused,
            "seconds": sent.seconds, "rate": sent.rate(), "slipped": sent.slipped,
        });
        println!("{report:#}");
        return;
    }
    println!(
        "run {:08x}: {} packets of {} in {} flows by {interface} ({})",
        frames.run(),
        sent.packets,
        frames.mix(),
        args.flows,
        outlet.describe()
    );
    println!(
        "  {:.3} s, {:.0} a second; the device had no room for {}; {:.3} s behind the schedule",
        sent.seconds,
        sent.rate(),
        sent.refused,
        sent.slipped
    );
}
