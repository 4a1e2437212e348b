//! Throw-away network namespaces for tests.
//!
//! A namespace lives as long as a thread that is in it; its path is that
//! thread's entry in /proc. Nothing is mounted and nothing has a name, so a
//! test that dies leaves nothing behind.

#![expect(
    clippy::new_without_default,
    reason = "each is a namespace of its own: no value to begin with"
)]

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::netlink::{Link, LinkChange, Netlink};
use crate::netns::Netns;

fn enter_new() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test makes network namespaces: run it as root, \
         e.g. sudo -E cargo test -p ringway-kernel"
    );
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
}

/// Runs a test in a namespace of its own, with lo up.
pub fn in_netns<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        enter_new();
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().index;
        set_up(&mut netlink, lo, true);
        test()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// `ip` with these words, in the calling thread's namespace; it succeeds.
#[track_caller]
pub fn ip(line: &str) {
    let mut command = std::process::Command::new("ip");
    let output = command.args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

/// Sets a link up or down.
pub fn set_up(netlink: &mut Netlink, index: u32, up: bool) {
    let change = LinkChange {
        up: Some(up),
        ..LinkChange::default()
    };
    netlink.change_link(index, &change).unwrap();
}

/// Waits until this namespace has a link-local address that can be sent from, as a neighbour
/// solicitation is. The kernel makes it when it has taken note of the carrier, up to a second later.
fn wait_for_link_local() {
    const TENTATIVE: u32 = 0x40;
    let usable = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = fields.get(4).and_then(|f| u32::from_str_radix(f, 16).ok());
        line.starts_with("fe80") && flags.is_some_and(|f| f & TENTATIVE == 0)
    };
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let all = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        if all.lines().any(usable) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no link-local address");
}

/// A wire from the calling thread's namespace to another node's: `under0` here, `eth0` there, with
/// `192.0.2.1` and `2001:db8::1` here, `.2` and `::2` there, both up.
pub struct Wire {
    /// A socket here.
    pub netlink: Netlink,
    /// Our end.
    pub here: Link,
    /// The other node.
    pub node: Pod,
    /// A socket there.
    pub node_netlink: Netlink,
    /// Its end.
    pub there: Link,
}

impl Wire {
    /// A wire to a node of its own.
    pub fn new() -> Self {
        let mut netlink = Netlink::open().unwrap();
        let node = Pod::new();
        let mut node_netlink = node.netlink();
        // Without detection of duplicates addresses can be used a second or two sooner.
        let no_detection = || {
            for which in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{which}/accept_dad");
                std::fs::write(path, "0").unwrap();
            }
        };
        no_detection();
        crate::netns::run_in(&node.netns(), no_detection).unwrap();
        netlink.add_veth("under0", node.netns().as_fd(), "eth0");
        let here = netlink.link("under0").unwrap();
        let there = node_netlink.link("eth0").unwrap();
        for (netlink, link, host) in [(&mut netlink, &here, 1), (&mut node_netlink, &there, 2)] {
            for (prefix, length) in [("192.0.2.", 24), ("2001:db8::", 64)] {
                let ip = format!("{prefix}{host}").parse().unwrap();
                netlink.add_address(link.index, ip, length).unwrap();
            }
            set_up(netlink, link.index, true);
        }
        wait_for_link_local();
        crate::netns::run_in(&node.netns(), wait_for_link_local).unwrap();
        Self {
            netlink,
            here,
            node,
            node_netlink,
            there,
        }
    }

    /// Writes a file of /proc/sys as seen from the other node.
    pub fn node_sysctl(&self, path: &str, value: &str) {
        let write = || std::fs::write(format!("/proc/sys/{path}"), value);
        crate::netns::run_in(&self.node.netns(), write)
            .unwrap()
            .unwrap();
    }
}

/// The namespace of a pod; it goes when this is dropped.
pub struct Pod {
    path: PathBuf,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pod {
    /// A namespace with nothing in it.
    pub fn new() -> Self {
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

    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The namespace, open.
    pub fn netns(&self) -> Netns {
        Netns::open(&self.path).unwrap()
    }

    /// An rtnetlink socket inside.
    pub fn netlink(&self) -> Netlink {
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
