//! A checked TCP transfer in both directions at once.

use super::tcp::{accept, connect, listen};
use super::{Pattern, Result, TrafficError};
use crate::lab::Netns;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How much went across, unharmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transfer {
    /// Bytes in each direction.
    pub bytes: u64,
    /// From the connection to the last byte.
    pub elapsed: Duration,
}

/// One connection from `from` to `to` (listening on `address`); `bytes` bytes go each way at the
/// same time, and each end checks all it gets. A read or write that makes no progress for `limit`
/// ends it.
pub fn transfer(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    bytes: u64,
    limit: Duration,
) -> Result<Transfer> {
    let listener = to.run(|| listen(address))??;
    let port = listener
        .local_addr()
        .map_err(TrafficError::io("local address"))?
        .port();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let stream = accept(&listener, limit)?;
            both_ways(&stream, 2, 1, bytes, "from client to server")
        });
        let client = || {
            let stream = from.run(|| connect(SocketAddr::new(address, port), limit))??;
            let begin = Instant::now();
            both_ways(&stream, 1, 2, bytes, "from server to client")?;
            Ok(Transfer {
                bytes,
                elapsed: begin.elapsed(),
            })
        };
        let result = client();
        // The server's word first: when it broke off, the client only sees the end.
        match server.join() {
            Ok(served) => served.and(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn both_ways(stream: &TcpStream, send: u64, receive: u64, bytes: u64, what: &str) -> Result<()> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| send_pattern(stream, send, bytes));
        let received = receive_pattern(stream, receive, bytes, what);
        if received.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        match sender.join() {
            Ok(sent) => received.and(sent),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn send_pattern(mut stream: &TcpStream, seed: u64, bytes: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 128 << 10];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(buffer.len() as u64);
        let part_of = &mut buffer[..part as usize];
        pattern.fill(part_of);
        stream
            .write_all(part_of)
            .map_err(TrafficError::io("send"))?;
        left -= part;
    }
    stream
        .shutdown(Shutdown::Write)
        .map_err(TrafficError::io("finish sending"))
}

fn receive_pattern(mut stream: &TcpStream, seed: u64, bytes: u64, what: &str) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let len = stream.read(&mut buffer).map_err(TrafficError::io(format!(
            "receive {what} after {} of {bytes} bytes",
            pattern.offset()
        )))?;
        if len == 0 {
            break;
        }
        pattern
            .check(&buffer[..len])
            .map_err(|mismatch| TrafficError::Corrupt {
                what: what.into(),
                mismatch,
            })?;
    }
    match pattern.offset() {
        got if got == bytes => Ok(()),
        got => Err(TrafficError::Short {
            what: what.into(),
            got,
            wanted: bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_flipped_byte_and_a_short_stream_are_reported() {
        let (mut a, b) = pair();
        let mut data = super::super::pattern::bytes(7, 1000);
        a.write_all(&data).unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(
            receive_pattern(&b, 7, 2000, "x"),
            Err(TrafficError::Short { got: 1000, .. })
        ));

        let (mut a, b) = pair();
        data[999] ^= 0x80;
        a.write_all(&data).unwrap();
        drop(a);
        let error = receive_pattern(&b, 7, 1000, "x").unwrap_err();
        assert!(matches!(error, TrafficError::Corrupt { mismatch, .. } if mismatch.offset == 999));
    }
}
