//! Throw-away network namespaces for tests.
//!
//! A namespace lives as long as a thread that is in it; its path is that
//! thread's entry in /proc. Nothing is mounted and nothing has a name, so a
//! test that dies leaves nothing behind.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

use crate::netlink::{LinkChange, Netlink};
use crate::netns::Netns;

fn enter_new() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test makes network namespaces: run it as root, \
         e.g. sudo -E cargo test -p ringway-agent"
    );
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
}

/// Runs a test in a namespace of its own, with lo up.
pub(crate) fn in_netns<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        enter_new();
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().index;
        netlink
            .change_link(
                lo,
                &LinkChange {
                    up: Some(true),
                    ..LinkChange::default()
                },
            )
            .unwrap();
        test()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The namespace of a pod; it goes when this is dropped.
pub(crate) struct Pod {
    path: PathBuf,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let (ready, tid) = channel();
        let (end, ended) = channel::<()>();
        let thread = std::thread::spawn(move || {
            enter_new();
            ready.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv();
        });
        let tid = tid.recv().expect("the pod's thread");
        Self {
            path: format!("/proc/{}/task/{tid}/ns/net", std::process::id()).into(),
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(crate) fn netns(&self) -> Netns {
        Netns::open(&self.path).unwrap()
    }

    /// An rtnetlink socket inside.
    pub(crate) fn netlink(&self) -> Netlink {
        crate::netns::run_in(&self.netns(), Netlink::open)
            .unwrap()
            .unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
