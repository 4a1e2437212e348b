//! Two processes of one pod share its loopback.

use super::{Result, TrafficError};
use crate::lab::{LabError, Netns};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::tcp::connect;
use crate::lab::Family;

const GREETING: &str = "from the other container";

/// Starts `program answer-once FAMILY` (this crate's binary, [`answer_once`]) as a second process
/// in the pod, and talks to it over localhost. The pod's own address must not be needed.
pub fn shared_localhost(pod: &Netns, program: &Path, family: Family) -> Result<()> {
    let mut command = Command::new(program);
    command
        .args(["answer-once", if family == Family::V4 { "4" } else { "6" }])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = pod
        .run(|| command.spawn())?
        .map_err(|source| LabError::Spawn {
            command: program.display().to_string(),
            source,
        })?;
    let result = talk(pod, &mut child, family);
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn talk(pod: &Netns, child: &mut std::process::Child, family: Family) -> Result<()> {
    let what = || TrafficError::io("talk to the other process of the pod");
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| what()(io::Error::other("no output")))?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .map_err(what())?;
    let port = line
        .trim()
        .parse()
        .map_err(|_| what()(io::Error::other(format!("it says `{line}`"))))?;
    let mut stream = pod.run(|| {
        connect(
            SocketAddr::new(loopback(family), port),
            Duration::from_secs(2),
        )
    })??;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(what())?;
    match answer == GREETING {
        true => Ok(()),
        false => Err(what()(io::Error::other(format!("it answers `{answer}`")))),
    }
}

/// The other process: listens on the loopback, prints the port, greets one client, ends.
pub fn answer_once(family: Family) -> io::Result<()> {
    let listener = TcpListener::bind((loopback(family), 0))?;
    println!("{}", listener.local_addr()?.port());
    listener.accept()?.0.write_all(GREETING.as_bytes())
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
