//! Asks the agent, and tells what came of it in the specification's error codes.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{CODE_FAILED, CODE_INVALID, CODE_LATER, CODE_TAKEN, CODE_UNKNOWN, Refusal};
use crate::error::{Error, LATER};
use crate::http;

/// A little more than the agent allows itself.
const TIMEOUT: Duration = Duration::from_secs(12);
/// Largest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// Why the agent gave no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It does not run, or ended while it was asked: whether it has done it is not known.
    Absent(Error),
    /// It said no.
    Refused(Error),
}

impl Failure {
    /// The error for the runtime.
    pub fn error(self) -> Error {
        match self {
            Self::Absent(error) | Self::Refused(error) => error,
        }
    }
}

/// Posts `body` and reads the answer.
///
/// # Errors
/// See [`Failure`].
pub fn post<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: &impl Serialize,
) -> Result<T, Failure> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    ask(socket, "POST", path, &body)
}

/// Reads a resource.
///
/// # Errors
/// See [`Failure`].
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failure> {
    ask(socket, "GET", path, b"")
}

fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<T, Failure> {
    let absent = |what: String| {
        Failure::Absent(Error::new(
            LATER,
            format!("the agent on {} {what}", socket.display()),
            "start it with `ringway agent`, and see its log; the runtime will try again",
        ))
    };
    let answer = exchange(socket, method, path, body)
        .map_err(|e| absent(format!("does not answer: {e}")))?;
    let Some((status, body)) = http::split(&answer) else {
        let what: String = String::from_utf8_lossy(&answer).chars().take(80).collect();
        return Err(absent(format!("ended its answer early: {what:?}")));
    };
    // A list would pass for an object with all keys left out.
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if (200..300).contains(&status) {
        let answer = match value {
            Value::Object(_) => serde_json::from_value(value).map_err(|e| e.to_string()),
            _ => Err("it is not an object".into()),
        };
        return answer.map_err(|e| absent(format!("gave an answer that is not understood: {e}")));
    }
    let understood = value
        .is_object()
        .then(|| serde_json::from_value(value).ok());
    let refusal: Option<Refusal> = understood.flatten();
    let refusal = refusal.unwrap_or_else(|| Refusal {
        error: format!(
            "the agent answered HTTP {status}: {}",
            String::from_utf8_lossy(body)
                .chars()
                .take(200)
                .collect::<String>()
        ),
        ..Refusal::default()
    });
    let code = match (refusal.code, status) {
        (0, 503 | 504) => CODE_LATER,
        (0, 404) => CODE_UNKNOWN,
        (0, 409) => CODE_TAKEN,
        (0, 400..=499) => CODE_INVALID,
        (0, _) => CODE_FAILED,
        (code, _) => code,
    };
    let error = Error::new(code, refusal.error, refusal.remedy);
    Err(match code {
        CODE_LATER => Failure::Absent(error),
        _ => Failure::Refused(error),
    })
}

/// All of it within [`TIMEOUT`]: connecting waits without a limit where the agent does not accept.
fn exchange(socket: &Path, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let (socket, body) = (socket.to_owned(), body.to_vec());
    let (method, path) = (method.to_owned(), path.to_owned());
    let (sender, answer) = mpsc::channel();
    let talk = move || {
        let mut stream = UnixStream::connect(socket)?;
        http::send(&mut stream, (&method, &path), &body, TIMEOUT, ANSWER_MAX)
    };
    std::thread::Builder::new().spawn(move || sender.send(talk()))?;
    answer
        .recv_timeout(TIMEOUT)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
