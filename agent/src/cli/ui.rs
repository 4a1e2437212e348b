//! `ringway ui`: the page, for as long as somebody reads what this prints.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringway_ui::{Page, Refused};

use super::client::Client;
use super::{Failure, output, signals};

/// How often it is made sure that somebody still reads.
const LOOK: Duration = Duration::from_secs(1);

/// A page that shows this node live.
#[derive(clap::Args)]
pub(super) struct Ui {
    /// Port on 127.0.0.1; 0: one that is free
    #[arg(long, value_name = "PORT", default_value_t = 9473)]
    port: u16,
}

/// Serves it.
pub(super) fn run(client: &Client, wanted: &Ui) -> Result<(), Failure> {
    // An agent that cannot be asked is said here, not in a browser.
    client.get::<serde_json::Value>("/v1/status")?;
    let client = client.clone();
    let ask = move |path: &str| {
        client.get(path).map_err(|e| Refused {
            what: e.to_string(),
        })
    };
    signals::until_signal(async {
        let page = Page::open(wanted.port).await;
        let page = page.map_err(|e| refused(&e, wanted.port))?;
        let io = |e: io::Error| Failure::Other(e.into());
        let port = page.address().map_err(io)?.port();
        output::print(&said(&page.url().map_err(io)?, port))?;
        tokio::select! {
            served = page.serve(Arc::new(ask)) => served.map_err(io),
            () = nobody_reads() => Ok(()),
        }
    })
}

fn said(url: &str, port: u16) -> String {
    format!(
        "{url}\n\
         Open it in a browser; who has it sees this node. It ends with Ctrl-C.\n\
         From another machine, first:\n  \
         ssh -L {port}:127.0.0.1:{port} NODE\n  \
         kubectl -n ringway port-forward POD {port}\n"
    )
}

fn refused(error: &io::Error, port: u16) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "another `ringway ui` may serve it; take --port 0",
        ErrorKind::PermissionDenied => "take --port 0, or a port above 1023",
        _ => "take --port 0",
    };
    Failure::Other(anyhow::anyhow!(
        "the page cannot be served at 127.0.0.1:{port}: {error}\n  to do: {remedy}"
    ))
}

/// Until the reader of what was printed has gone: `kubectl exec` ends without a signal to what it has started.
async fn nobody_reads() {
    loop {
        tokio::time::sleep(LOOK).await;
        let stdout = io::stdout();
        let mut fds = [PollFd::new(
            std::os::fd::AsFd::as_fd(&stdout),
            PollFlags::empty(),
        )];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        if poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|what| what.intersects(gone))
        {
            return;
        }
    }
}
