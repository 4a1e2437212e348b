//! What is made of the command line's own definition, by the program that is installed.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{output, stderr};

/// A shell reads its completions, and they know every verb.
#[test]
fn completions_are_read_by_their_shells() {
    let help = output(&["--help"]);
    let verbs = help
        .split_once("Commands:")
        .unwrap()
        .1
        .split_once("Options:")
        .unwrap()
        .0;
    let verbs: Vec<&str> = verbs
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(
        verbs.contains(&"uninstall") && verbs.contains(&"completions"),
        "{verbs:?}"
    );
    for (shell, check) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
    ] {
        let text = output(&["completions", shell]);
        for verb in &verbs {
            assert!(text.contains(verb), "{shell}: {verb}");
        }
        let started = Command::new(shell)
            .args(check)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut started = match started {
            Ok(started) => started,
            // Of the three only bash is there on every machine that builds.
            Err(e) => {
                assert_ne!(shell, "bash", "{e}");
                continue;
            }
        };
        started
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let read = started.wait_with_output().unwrap();
        assert!(read.status.success(), "{shell}: {}", stderr(&read));
    }
}

/// bash offers what comes next.
#[test]
fn bash_completes_a_table() {
    let script = format!(
        "{}\nCOMP_WORDS=(ringway tables ro); COMP_CWORD=2\n_ringway ringway ro tables\necho \"${{COMPREPLY[*]}}\"\n",
        output(&["completions", "bash"])
    );
    let done = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).trim(),
        "routes",
        "{}",
        stderr(&done)
    );
}
