//! A server that answers by TCP and UDP and tells whom it has seen, asked by way of another address.

use ringway_perf::lab::Netns;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks `target` so many times, first by TCP, then by UDP, each time from a port of its own; whom the server at
/// `bind` in `to` has seen.
pub(crate) fn ask(
    from: &Netns,
    target: SocketAddr,
    to: &Netns,
    bind: SocketAddr,
    many: usize,
) -> Result<BTreeSet<IpAddr>, String> {
    let text = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| format!("{what}: {e}")
    };
    let listener = to
        .run(|| TcpListener::bind(bind))
        .unwrap()
        .map_err(text("listen"))?;
    listener.set_nonblocking(true).map_err(text("listen"))?;
    let socket = to
        .run(|| UdpSocket::bind(bind))
        .unwrap()
        .map_err(text("bind"))?;
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .map_err(text("bind"))?;
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tcp = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !end.load(Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => {
                        seen.insert(peer.ip());
                        let mut word = [0; 4];
                        let echo = stream
                            .set_nonblocking(false)
                            .and_then(|()| stream.set_read_timeout(Some(LIMIT)))
                            .and_then(|()| stream.read_exact(&mut word))
                            .and_then(|()| stream.write_all(&word));
                        if let Err(e) = echo {
                            return Err(format!("server: {e}"));
                        }
                    }
                    Err(_) => std::thread::sleep(Duration::from_micros(100)),
                }
            }
            Ok(seen)
        });
        let udp = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            let mut word = [0; 4];
            while !end.load(Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut word) {
                    seen.insert(peer.ip());
                    let _ = socket.send_to(&word[..len], peer);
                }
            }
            seen
        });
        let client = || -> Result<(), String> {
            for i in 0..many {
                let at = |what: &str| text(&format!("TCP connection {i} of {many}, {what}"));
                let mut stream =
                    TcpStream::connect_timeout(&target, LIMIT).map_err(at("connect"))?;
                stream.set_read_timeout(Some(LIMIT)).map_err(at("set up"))?;
                let word = (i as u32).to_be_bytes();
                stream.write_all(&word).map_err(at("ask"))?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).map_err(at("answer"))?;
                if answer != word {
                    return Err(format!("connection {i}: another's answer"));
                }
            }
            let any: SocketAddr = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            }
            .parse()
            .unwrap();
            // Each from a port of its own, as a resolver asks.
            for i in 0..many {
                let at = |what: &str| text(&format!("datagram {i} of {many}, {what}"));
                let socket = UdpSocket::bind(any).map_err(at("bind"))?;
                socket.connect(target).map_err(at("connect"))?;
                socket.set_read_timeout(Some(LIMIT)).map_err(at("set up"))?;
                socket.send(&(i as u32).to_be_bytes()).map_err(at("ask"))?;
                let mut answer = [0; 4];
                socket.recv(&mut answer).map_err(at("answer"))?;
            }
            Ok(())
        };
        let asked = from.run(client).unwrap();
        end.store(true, Relaxed);
        let (tcp, udp) = (tcp.join().unwrap(), udp.join().unwrap());
        asked?;
        Ok(tcp?.into_iter().chain(udp).collect())
    })
}
