//! Network namespaces for the tests: made with a prefix of this process, removed when dropped.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its part of this"
)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringway_ports::socket::{Lane, Received, UdpUnderlay};
use ringway_ports::{BUF_SIZE, Pool};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace with its loopback up.
pub struct Netns {
    pub name: String,
}

impl Netns {
    pub fn new() -> Netns {
        let uid = std::fs::metadata("/proc/self")
            .expect("/proc is mounted")
            .uid();
        assert_eq!(
            uid, 0,
            "this test makes network namespaces and needs root; run: make test"
        );
        let name = format!(
            "rwports-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        run("ip", &["netns", "add", &name]);
        let ns = Netns { name };
        ns.ip("link set lo up");
        ns
    }

    /// `ip` inside the namespace, which must succeed.
    pub fn ip(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = ["-n", &self.name]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        run("ip", &arguments)
    }

    /// A command inside the namespace, which must succeed.
    pub fn exec(&self, command: &str) -> String {
        let arguments: Vec<&str> = ["netns", "exec", &self.name]
            .into_iter()
            .chain(command.split_whitespace())
            .collect();
        run("ip", &arguments)
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file =
                    File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
                // SAFETY: the descriptor is open, and the thread ends with the closure.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Two namespaces joined by a veth pair `v0`: 10.9.0.1 and fd09::1 in the first, .2 and ::2 in the second.
pub fn veth_pair() -> (Netns, Netns) {
    let (a, b) = (Netns::new(), Netns::new());
    a.ip(&format!(
        "link add v0 type veth peer name v0 netns {}",
        b.name
    ));
    for (ns, host) in [(&a, 1), (&b, 2)] {
        ns.ip(&format!("addr add 10.9.0.{host}/24 dev v0"));
        ns.ip(&format!("addr add fd09::{host}/64 dev v0 nodad"));
        ns.ip("link set v0 up");
    }
    (a, b)
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {}: {}{text}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Calls `check` until it gives something, for at most five seconds.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn pool() -> Pool {
    Pool::heap(128, BUF_SIZE)
}

/// A datagram as received: payload, outer source port, TOS.
pub type Datagram = (Vec<u8>, u16, u8);

/// Receives once what waits in both lanes.
pub fn receive(underlay: &mut UdpUnderlay, pool: &mut Pool, received: &mut Received) -> usize {
    let of_lane = |lane| underlay.receive(lane, pool, received, 64);
    let read = Lane::ALL
        .map(of_lane)
        .map(|read| read.expect("the socket works"));
    read.iter().sum()
}

/// Receives until `count` datagrams are there (or five seconds passed); also the messages they came in.
pub fn collect(
    underlay: &mut UdpUnderlay,
    pool: &mut Pool,
    count: usize,
) -> (Vec<Datagram>, usize) {
    let mut received = Received::new();
    let (mut datagrams, mut messages) = (Vec::new(), 0);
    eventually(&format!("{count} datagrams"), || {
        messages += receive(underlay, pool, &mut received);
        for message in &received.datagrams {
            let bytes = &pool.bytes(message.buf)[message.start as usize..][..message.len as usize];
            for payload in bytes.chunks(message.segment as usize) {
                datagrams.push((payload.to_vec(), message.source_port, message.tos));
            }
        }
        received.recycle(pool);
        (datagrams.len() >= count).then_some(())
    });
    assert_eq!(pool.available(), pool.total(), "every buffer came back");
    (datagrams, messages)
}

/// Receives for a moment and expects nothing.
pub fn expect_silence(underlay: &mut UdpUnderlay, pool: &mut Pool) {
    let mut received = Received::new();
    for _ in 0..50 {
        receive(underlay, pool, &mut received);
        assert_eq!(received.datagrams, []);
        std::thread::sleep(Duration::from_millis(1));
    }
}
