//! Which source address the receiver sees: the proof that nothing translates addresses.

use super::tcp::{accept, connect, listen};
use super::udp_pair::udp_pair;
use super::{Result, TrafficError};
use crate::lab::Netns;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

/// The addresses of one conversation, each as its own end knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The sender's address as its own socket has it.
    pub sender: SocketAddr,
    /// The sender's address as the receiver got it.
    pub receiver_saw: SocketAddr,
}

impl Seen {
    /// Neither address nor port was changed on the way.
    pub fn untranslated(&self) -> bool {
        self.sender.ip() == self.receiver_saw.ip() && self.sender.port() == self.receiver_saw.port()
    }
}

const HELLO: &[u8] = b"who am I?";

/// Connects by TCP; the receiver tells the sender over the connection which address it saw.
pub fn tcp_seen(from: &Netns, to: &Netns, address: IpAddr, limit: Duration) -> Result<Seen> {
    let listener = to.run(|| listen(address))??;
    let target = listener
        .local_addr()
        .map_err(TrafficError::io("local address"))?;
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut stream = accept(&listener, limit)?;
            let mut hello = [0; HELLO.len()];
            let mut answer = || {
                stream.read_exact(&mut hello)?;
                let peer = stream.peer_addr()?;
                stream.write_all(peer.to_string().as_bytes())
            };
            answer().map_err(TrafficError::io("answer over TCP"))
        });
        let mut stream = from.run(|| connect(target, limit))??;
        let mut answer = String::new();
        let mut ask = || {
            stream.write_all(HELLO)?;
            stream.read_to_string(&mut answer)?;
            stream.local_addr()
        };
        let sender = ask().map_err(TrafficError::io(format!("ask {target} over TCP")))?;
        match server.join() {
            Ok(served) => served?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        seen(sender, &answer)
    })
}

/// The same with one UDP datagram each way; three tries.
pub fn udp_seen(from: &Netns, to: &Netns, address: IpAddr, limit: Duration) -> Result<Seen> {
    let what = || TrafficError::io(format!("ask {address} over UDP"));
    let (server, client) = udp_pair(from, to, address)?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(limit / 3)).map_err(what())?;
    }
    let mut buffer = [0; 128];
    let mut attempt = || {
        client.send(HELLO)?;
        let (_, peer) = server.recv_from(&mut buffer)?;
        server.send_to(peer.to_string().as_bytes(), peer)?;
        let len = client.recv(&mut buffer)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&buffer[..len]).into_owned())
    };
    let answer = attempt()
        .or_else(|_| attempt())
        .or_else(|_| attempt())
        .map_err(what())?;
    seen(client.local_addr().map_err(what())?, &answer)
}

fn seen(sender: SocketAddr, answer: &str) -> Result<Seen> {
    let receiver_saw = answer.parse().map_err(|_| {
        TrafficError::io("read the answer")(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{answer}`"),
        ))
    })?;
    Ok(Seen {
        sender,
        receiver_saw,
    })
}
