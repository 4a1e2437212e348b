//! Cleaning up when a signal ends the process.
//!
//! The handler comes from tokio (which only writes to a pipe inside it); a thread waits there,
//! cleans up and ends the process with 128 + signal, as a shell reports it. Blocking
//! the signals and waiting for them would be simpler, but children inherit the mask and the agent
//! would never see its SIGTERM.

use super::registry;
use std::sync::Once;
use tokio::signal::unix::{SignalKind, signal};

/// Takes every lab down when a signal ends the process. Every [`super::Lab`] calls it.
pub fn clean_up_on_signals() {
    end_on_signals(|| {
        eprintln!("\ninterrupted: taking the namespaces down");
        registry::close_all();
    });
}

/// Installs the handler, once per process: `clean_up` of the first caller.
pub(crate) fn end_on_signals(clean_up: impl FnOnce() + Send + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Installed here and not on the thread: no lab may be built before the handler stands.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        let streams = runtime.block_on(async {
            [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ]
            .map(|kind| signal(kind).map(|stream| (kind, stream)))
        });
        let [Ok(mut int), Ok(mut term), Ok(mut hup)] = streams else {
            return;
        };
        let waiter = move || {
            let kind = runtime.block_on(async {
                tokio::select! {
                    _ = int.1.recv() => int.0,
                    _ = term.1.recv() => term.0,
                    _ = hup.1.recv() => hup.0,
                }
            });
            clean_up();
            std::process::exit(128 + kind.as_raw_value());
        };
        let _ = std::thread::Builder::new()
            .name("signals".into())
            .spawn(waiter);
    });
}
