//! Running helper programs (`ip`, `bridge`, `ethtool`) to the end.

use super::error::{LabError, Result};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs `program` with `args` and returns what it printed on stdout.
pub fn run<S: AsRef<str>>(program: &str, args: &[S]) -> Result<String> {
    run_with_input(program, args, "")
}

/// Like [`run`], with `input` on its stdin.
pub(super) fn run_with_input<S: AsRef<str>>(
    program: &str,
    args: &[S],
    input: &str,
) -> Result<String> {
    let words: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let line = || format!("{program} {}", words.join(" "));
    let spawn_error = |source| LabError::Spawn {
        command: line(),
        source,
    };
    let mut child = Command::new(program)
        .args(&words)
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn_error)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes the pipe; its status tells why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(spawn_error)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(LabError::Command {
        command: match input {
            "" => line(),
            batch => format!("{} <<< {}", line(), batch.trim_end().replace('\n', "; ")),
        },
        status: output.status.to_string(),
        output: if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        }
        .trim()
        .to_owned(),
    })
}

/// `ip ARGS`, the arguments split at spaces.
pub fn ip(args: &str) -> Result<String> {
    run("ip", &args.split_whitespace().collect::<Vec<_>>())
}

/// Whether a program can be found in `PATH`.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_command_and_reason() {
        let error = run("ls", &["/no/such/place"]).unwrap_err().to_string();
        assert!(error.contains("ls /no/such/place"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            run_with_input("cat", &[] as &[&str], "hello").unwrap(),
            "hello"
        );
    }

    #[test]
    fn missing_program_is_said_so() {
        assert!(matches!(
            run("no-such-program-here", &["x"]),
            Err(LabError::Spawn { .. })
        ));
        assert!(!installed("no-such-program-here"));
        assert!(installed("ls"));
    }
}
