//! `ringway-perf sink`: counts what `ringway-perf generate` sends to an interface of this network namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::generate::watched;
use super::{Inlet, Io, LoadError, PORT, Tally};
use crate::lab::{end_on_signals, require_root};
use crate::table::Progress;

/// How long after the generator's last word a packet may still come.
const LINGER: Duration = Duration::from_millis(200);

/// Options of `ringway-perf sink`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Interface
    #[arg(long, default_value = "eth0")]
    pub interface: String,
    /// UDP port the packets come to
    #[arg(long, default_value_t = PORT)]
    pub port: u16,
    /// The run to count, as the generator prints it (default: the first one seen)
    #[arg(long, value_parser = run_of)]
    pub run: Option<u32>,
    /// Maximum seconds; it ends earlier when the generator says that it is done
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// AF_XDP or AF_PACKET
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    pub io: Io,
    /// Result, with the histogram, as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

fn run_of(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16)
        .map_err(|_| format!("`{text}` is no run: up to eight hexadecimal digits"))
}

/// Counts and prints; `false` if nothing came.
///
/// # Errors
/// An interface that does not receive.
pub fn run(args: &Args) -> Result<bool, LoadError> {
    require_root()?;
    let mut inlet = Inlet::open(&args.interface, args.io, args.port)?;
    let mut progress = Progress::default();
    progress.step(&format!(
        "counts at {}, UDP port {}, by {}",
        args.interface,
        args.port,
        inlet.describe()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let halt = stop.clone();
    end_on_signals(move || {
        halt.store(true, Ordering::Relaxed);
        // For the main thread to report.
        std::thread::sleep(Duration::from_secs(2));
    });
    let mut tally = Tally::new(args.run);
    let so_far = AtomicU64::new(0);
    watched(&mut progress, &so_far, "received", || {
        let limit = Duration::from_secs_f64(args.seconds.clamp(0.0, 1e6));
        let (begin, mut ended) = (Instant::now(), None);
        while begin.elapsed() < limit && !stop.load(Ordering::Relaxed) {
            if inlet.receive(&mut tally)? == 0 {
                inlet.wait();
            }
            so_far.store(tally.received(), Ordering::Relaxed);
            if tally.ended() && ended.get_or_insert_with(Instant::now).elapsed() > LINGER {
                break;
            }
        }
        Ok::<(), LoadError>(())
    })?;
    progress.clear();
    report(args, &mut inlet, &tally);
    Ok(tally.received() > 0)
}

fn report(args: &Args, inlet: &mut Inlet, tally: &Tally) {
    let (counts, overrun) = (tally.counts(), inlet.overrun());
    let run = tally.run().map(|run| format!("{run:08x}"));
    if args.json {
        let report = json!({
            "run": run, "interface": args.interface, "io": inlet.describe(), "counts": counts,
            "generator_ended": tally.ended(), "rate": tally.rate(), "overrun": overrun,
            "latency_ns": tally.latency(), "histogram_ns": tally.buckets(),
        });
        println!("{report:#}");
        return;
    }
    println!(
        "run {}: {} packets received at {} ({}), {:.0} a second, {} bytes",
        run.as_deref().unwrap_or("none"),
        counts.received,
        args.interface,
        inlet.describe(),
        tally.rate(),
        counts.bytes
    );
    println!(
        "  lost {}{}, duplicated {}, reordered {}, of unknown order {}; of other runs {}, foreign {}; no room at the sink for {overrun}",
        counts.lost,
        if tally.ended() { "" } else { " at least" },
        counts.duplicated,
        counts.reordered,
        counts.old,
        counts.stale,
        counts.foreign
    );
    match tally.latency() {
        Some(latency) => println!("  latency {latency}"),
        None if counts.received > 0 => {
            println!("  no latency: the sender's clock is not this machine's");
        }
        None => {}
    }
}
