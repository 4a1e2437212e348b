//! TCP throughput: iperf3 where it is installed, else a sender and a receiver of our own.

use super::tcp::{accept, connect, listen};
use super::{Result, TrafficError};
use crate::lab::{Netns, installed};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A throughput and what measured it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Gbit/s of TCP payload, at the receiver.
    pub gbit: f64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Segments sent again; 0 if nothing says.
    pub retransmits: u64,
    /// `iperf3` or `built-in`.
    pub tool: &'static str,
}

const PORT: u16 = 5999;
/// Streams of one iperf3 at most (`MAX_STREAMS`).
const MAX_STREAMS: usize = 128;

/// TCP from `from` to `address` in `to`.
pub fn throughput(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    streams: usize,
    time: Duration,
) -> Result<Throughput> {
    match installed("iperf3") {
        true => several(from, to, address, streams, time),
        false => built_in(from, to, address, streams, time),
    }
}

/// As many iperf3 at the same time as it takes.
fn several(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    streams: usize,
    time: Duration,
) -> Result<Throughput> {
    let count = streams.div_ceil(MAX_STREAMS).max(1);
    let share = |n: usize| streams / count + usize::from(n < streams % count);
    thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|n| {
                let port = PORT + n as u16;
                scope.spawn(move || iperf3(from, to, (address, port), share(n), time))
            })
            .collect();
        let mut sum: Option<Throughput> = None;
        for one in running {
            let one = one
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sum = Some(match sum {
                None => one,
                Some(sum) => Throughput {
                    gbit: sum.gbit + one.gbit,
                    bytes: sum.bytes + one.bytes,
                    retransmits: sum.retransmits + one.retransmits,
                    ..sum
                },
            });
        }
        sum.ok_or_else(|| TrafficError::Program {
            program: "iperf3",
            found: "no streams".into(),
        })
    })
}

/// Ends the server however the measurement ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf3(
    from: &Netns,
    to: &Netns,
    (address, port): (IpAddr, u16),
    streams: usize,
    time: Duration,
) -> Result<Throughput> {
    let failed = |found: String| TrafficError::Program {
        program: "iperf3",
        found,
    };
    let start = |ns: &Netns, args: &[String]| -> Result<Child> {
        let mut command = Command::new("iperf3");
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ns.run(|| command.spawn())?
            .map_err(TrafficError::io("start iperf3"))
    };
    let (number, host) = (port.to_string(), address.to_string());
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let _server = Server(start(
        to,
        &words(&["-s", "-1", "-p", &number, "-B", &host]),
    )?);
    wait_for_listener(to, port)?;
    let seconds = time.as_secs().max(1);
    let (time, parallel) = (seconds.to_string(), streams.to_string());
    let arguments = words(&[
        "-c",
        &host,
        "-p",
        &number,
        "-t",
        &time,
        "-P",
        &parallel,
        "-J",
        "--connect-timeout",
        "3000",
    ]);
    let mut client = Server(start(from, &arguments)?);
    let mut output = String::new();
    // iperf3 waits for its control connection without end when the network breaks under it.
    let until = Instant::now() + Duration::from_secs(seconds + 10);
    let stdout = client.0.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.map(|mut out| out.read_to_string(&mut text));
        text
    });
    while client
        .0
        .try_wait()
        .map_err(TrafficError::io("wait for iperf3"))?
        .is_none()
    {
        if Instant::now() > until {
            return Err(failed(format!("no end after {} s", seconds + 10)));
        }
        thread::sleep(Duration::from_millis(5));
    }
    output.push_str(&reader.join().unwrap_or_default());
    parse(&output).ok_or_else(|| failed(complaint(&output)))
}

fn parse(output: &str) -> Option<Throughput> {
    let report: Value = serde_json::from_str(output).ok()?;
    let sum = report.get("end")?.get("sum_received")?;
    Some(Throughput {
        gbit: sum.get("bits_per_second")?.as_f64()? / 1e9,
        bytes: sum.get("bytes")?.as_u64()?,
        retransmits: report
            .pointer("/end/sum_sent/retransmits")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        tool: "iperf3",
    })
}

fn complaint(output: &str) -> String {
    serde_json::from_str::<Value>(output)
        .ok()
        .and_then(|report| Some(report.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| {
            format!(
                "no report: {}",
                output.chars().take(200).collect::<String>()
            )
        })
}

/// `/proc/net/tcp` of the namespace lists a listener (state 0A) on `port`.
fn wait_for_listener(ns: &Netns, port: u16) -> Result<()> {
    let needle = format!(":{port:04X} ");
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        // thread-self: the sockets of the namespace this thread is in.
        let listens = ns.run(|| {
            ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
                .iter()
                .filter_map(|path| std::fs::read_to_string(path).ok())
                .any(|table| {
                    table
                        .lines()
                        .any(|line| line.contains(&needle) && line.contains(" 0A "))
                })
        })?;
        if listens {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(TrafficError::Program {
                program: "iperf3",
                found: "its server does not listen".into(),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn built_in(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    streams: usize,
    time: Duration,
) -> Result<Throughput> {
    let limit = Duration::from_secs(5);
    let listener = to.run(|| listen(address))??;
    let target = listener
        .local_addr()
        .map_err(TrafficError::io("local address"))?;
    let pairs = (0..streams)
        .map(|_| {
            Ok((
                from.run(|| connect(target, limit))??,
                accept(&listener, limit)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let bytes: u64 = thread::scope(|scope| {
        let receivers: Vec<_> = pairs
            .iter()
            .map(|(client, server)| {
                scope.spawn(move || {
                    let (data, mut client) = (vec![0x5a; 128 << 10], client);
                    while begin.elapsed() < time && client.write_all(&data).is_ok() {}
                    let _ = client.shutdown(std::net::Shutdown::Write);
                });
                scope.spawn(move || {
                    let (mut buffer, mut server, mut sum) = (vec![0; 128 << 10], server, 0);
                    while let Ok(len @ 1..) = server.read(&mut buffer) {
                        sum += len as u64;
                    }
                    sum
                })
            })
            .collect();
        receivers
            .into_iter()
            .map(|receiver| receiver.join().unwrap_or(0))
            .sum()
    });
    Ok(Throughput {
        gbit: bytes as f64 * 8e-9 / begin.elapsed().as_secs_f64(),
        bytes,
        retransmits: 0,
        tool: "built-in",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_and_complaint_are_read() {
        let report = r#"{"end":{"sum_received":{"bytes":1000,"bits_per_second":2.5e9}}}"#;
        assert_eq!(
            parse(report),
            Some(Throughput {
                gbit: 2.5,
                bytes: 1000,
                retransmits: 0,
                tool: "iperf3"
            })
        );
        let error = r#"{"start":{},"end":{},"error":"unable to connect"}"#;
        assert_eq!(parse(error), None);
        assert_eq!(complaint(error), "unable to connect");
        assert!(complaint("rubbish").contains("rubbish"));
    }
}
