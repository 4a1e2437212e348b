//! TCP sockets with time limits.

use super::{Result, TrafficError};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Listens on any port of `ip`; call inside the namespace.
pub(super) fn listen(ip: IpAddr) -> Result<TcpListener> {
    let what = || format!("listen on {ip}");
    let listener = TcpListener::bind((ip, 0)).map_err(TrafficError::io(what()))?;
    // accept(2) honours no time limit of std's.
    listener
        .set_nonblocking(true)
        .map_err(TrafficError::io(what()))?;
    Ok(listener)
}

/// Waits for one connection.
pub(super) fn accept(listener: &TcpListener, limit: Duration) -> Result<TcpStream> {
    let until = Instant::now() + limit;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return prepare(stream, limit).map_err(TrafficError::io("accept")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > until {
                    let error = io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("no connection in {limit:?}"),
                    );
                    return Err(TrafficError::io("accept")(error));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(TrafficError::io("accept")(error)),
        }
    }
}

/// Connects; call inside the namespace. `limit` holds for each later read and write, too.
pub(super) fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    TcpStream::connect_timeout(&to, limit)
        .and_then(|stream| prepare(stream, limit))
        .map_err(TrafficError::io(format!("connect to {to}")))
}

fn prepare(stream: TcpStream, limit: Duration) -> io::Result<TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}
