//! Asking the agent: one HTTP/1.1 request per connection to its unix socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ringway_cni::http;
use serde::de::DeserializeOwned;

use super::{Failure, output};
use ringway_requests::ApiError;

/// A little more than the agent allows itself.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Largest answer that is read: 100,000 table rows.
const ANSWER_MAX: u64 = 64 << 20;

/// Why the agent gave no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "the agent does not answer on {}: {source}\n  to do: {}",
        .socket.display(), remedy(.source)
    )]
    Connect { socket: PathBuf, source: io::Error },
    #[error("asking the agent on {}: {source}\n  to do: see the agent's log", .socket.display())]
    Io { socket: PathBuf, source: io::Error },
    #[error("the answer of {} is not understood: {why}\n  to do: use the command of the agent's version", .socket.display())]
    Answer { socket: PathBuf, why: String },
    #[error("{}\n  to do: {}", .0.error, .0.remedy)]
    Refused(ApiError),
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "start it with `ringway agent`, or name its socket with --socket"
        }
        io::ErrorKind::PermissionDenied => "run the command as root",
        _ => "see the agent's log",
    }
}

/// A client of one agent.
#[derive(Clone)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for a resource.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.exchange("GET", path, b"")?;
        Ok(self.understand(&answer)?)
    }

    /// Posts a body and reads the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        let answer = self.exchange("POST", path, body.to_string().as_bytes())?;
        Ok(self.understand(&answer)?)
    }

    /// Prints a resource.
    pub(super) fn print<T: DeserializeOwned>(
        &self,
        path: &str,
        json: bool,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let answer = self.exchange("GET", path, b"")?;
        self.output(&answer, json, show)
    }

    /// Posts a body and prints the answer.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
        json: bool,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let answer = self.exchange("POST", path, body.to_string().as_bytes())?;
        self.output(&answer, json, show)
    }

    /// Prints a resource that is text.
    pub(super) fn print_text(&self, path: &str) -> Result<(), Failure> {
        let answer = self.exchange("GET", path, b"")?;
        let text = String::from_utf8(answer).map_err(|e| self.not_understood(&e))?;
        output::print(&text)
    }

    fn output<T: DeserializeOwned>(
        &self,
        answer: &[u8],
        json: bool,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = if json {
            let value: serde_json::Value = self.understand(answer)?;
            format!("{value:#}\n")
        } else {
            show(&self.understand(answer)?)
        };
        output::print(&text)
    }

    fn understand<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer).map_err(|e| self.not_understood(&e))
    }

    pub(super) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// The agent cannot be reached.
    pub(super) fn absent(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        ClientError::Connect { socket, source }
    }

    /// The connection to it broke.
    pub(super) fn broken(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        ClientError::Io { socket, source }
    }

    pub(super) fn not_understood(&self, why: &impl ToString) -> ClientError {
        let (socket, why) = (self.socket.clone(), why.to_string());
        ClientError::Answer { socket, why }
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|e| self.absent(e))?;
        let request = (method, path);
        let answer = http::send(&mut stream, request, body, TIMEOUT, ANSWER_MAX);
        let answer = answer.map_err(|e| self.broken(e))?;
        let (status, body) =
            http::split(&answer).ok_or_else(|| self.not_understood(&"not HTTP"))?;
        if (200..300).contains(&status) {
            return Ok(body.to_vec());
        }
        let mut refused: ApiError = self.understand(body)?;
        refused.status = status;
        Err(ClientError::Refused(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(http::split(answer), Some((404, &b"{}"[..])));
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 2\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            assert_eq!(http::split(bad), None);
        }
    }

    #[test]
    fn an_absent_agent_is_explained() {
        let client = Client::new("/nonexistent/socket".into());
        let error = client.exchange("GET", "/v1/status", b"").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/socket"), "{text}");
        assert!(text.contains("ringway agent"), "{text}");
    }
}
