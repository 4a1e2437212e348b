//! One HTTP/1.1 request to the agent's unix socket: what the plugin and the command line have in common.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Sends a request on a fresh connection and reads all that comes back, at most `answer_max` bytes. `limit` is
/// for each read and write.
///
/// # Errors
/// Of the socket.
pub fn send(
    stream: &mut UnixStream,
    (method, path): (&str, &str),
    body: &[u8],
    limit: Duration,
    answer_max: u64,
) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: ringway\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.take(answer_max).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body; `None` for what is not HTTP, or not whole.
pub fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>())
    });
    match length {
        Some(length) => Some((status, body.get(..length.ok()?)?)),
        None => Some((status, body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_count() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(split(whole), Some((200, &b"{}"[..])));
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end]), None, "{end}");
        }
        let without = b"HTTP/1.1 404 Not Found\r\n\r\n{\"error\":";
        assert_eq!(split(without), Some((404, &b"{\"error\":"[..])));
        for bad in [
            &b"HTTP/1.0 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 2\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            assert_eq!(split(bad), None);
        }
    }
}
