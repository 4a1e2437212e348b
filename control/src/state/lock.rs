//! The lock on the state directory: two agents with one state would fight over the same TAPs.
//!
//! It is flock(2) on the directory itself, which can be opened wherever it can be read: a file system that is
//! full or read-only locks as well as any other. Who holds it, the kernel says (/proc/locks).
//!
//! A killed process holds its lock until the kernel has closed what it had open, and closing a TAP waits for
//! its readers (RCU), some milliseconds each. So an owner that is ending is waited for; one that lives is not.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long an owner that is ending may take.
const ENDING: Duration = Duration::from_secs(10);
/// Looks at a lock whose owner cannot be seen: it may have been released just now.
const UNSEEN: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// The bit of SIGKILL in a mask of signals.
const KILL: u64 = 1 << (libc::SIGKILL - 1);
/// `PF_EXITING`, linux/sched.h: the thread is on its way through `do_exit`.
const EXITING: u64 = 4;

/// Why a lock cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// A process has it: its id, if that can be seen.
    Held(Option<i32>),
    /// flock(2) failed.
    Io(io::Error),
}

/// Locks an open directory, waiting for an owner that is ending.
pub(super) fn take(directory: &File) -> Result<(), Refused> {
    let begin = Instant::now();
    let (mut logged, mut unseen) = (false, 0);
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(Refused::Io(e)),
        }
        let owner = owner(directory);
        match owner {
            Some(pid) if !is_ending(pid) => return Err(Refused::Held(owner)),
            Some(pid) if !std::mem::replace(&mut logged, true) => {
                tracing::info!(
                    pid,
                    "an agent that was killed has not ended yet, waiting for it"
                );
            }
            Some(_) => {}
            None => unseen += 1,
        }
        if unseen >= UNSEEN || begin.elapsed() > ENDING {
            return Err(Refused::Held(owner));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The process that has locked the file: `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`. The device is not
/// compared, for some file systems have one of their own for stat(2).
fn owner(file: &File) -> Option<i32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields[..] else {
            return None;
        };
        (place.rsplit(':').next() == Some(&inode))
            .then(|| pid.parse().ok())
            .flatten()
    })
}

/// Whether none of its threads will run another instruction of the program: gone, a zombie, in `do_exit`, or
/// killed and not there yet.
fn is_ending(pid: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    tasks.flatten().all(|task| {
        let read = |name: &str| fs::read_to_string(task.path().join(name));
        let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else {
            return true;
        };
        thread_is_ending(&stat, &status)
    })
}

/// From `/proc/PID/task/TID/stat` and `status` (proc_pid_stat(5), proc_pid_status(5)).
fn thread_is_ending(stat: &str, status: &str) -> bool {
    // The name before it is in parentheses and may hold anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let dead = matches!(fields.first(), Some(&("Z" | "X" | "x")));
    let flags = fields.get(6).and_then(|f| f.parse::<u64>().ok());
    let killed = status.lines().any(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & KILL != 0)
    });
    dead || killed || flags.is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_ending_is_told_from_one_that_lives() {
        let stat = |state: &str, flags: u64| format!("7 (a ) Z b) {state} 1 7 7 0 -1 {flags} 0 0");
        let pending =
            |mask: &str| format!("Name:\ta\nSigPnd:\t{mask}\nShdPnd:\t0000000000000000\n");
        let none = pending("0000000000000000");
        assert!(!thread_is_ending(&stat("S", 0x40_0040), &none));
        assert!(!thread_is_ending(&stat("D", 0x40_0040), &none));
        assert!(thread_is_ending(&stat("Z", 0x40_0040), &none));
        assert!(thread_is_ending(&stat("D", 0x40_0044), &none));
        // SIGKILL is 9; SIGTERM (15) can be handled.
        assert!(thread_is_ending(
            &stat("D", 0x40_0040),
            &pending("0000000000000100")
        ));
        assert!(!thread_is_ending(
            &stat("D", 0x40_0040),
            &pending("0000000000004000")
        ));
    }

    #[test]
    fn a_living_owner_is_named_at_once_and_a_dead_one_is_not_alive() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (
            File::open(dir.path()).unwrap(),
            File::open(dir.path()).unwrap(),
        );
        take(&first).unwrap();
        let begin = Instant::now();
        let Err(Refused::Held(owner)) = take(&second) else {
            panic!("locked twice");
        };
        assert_eq!(owner, Some(std::process::id() as i32));
        assert!(
            begin.elapsed() < Duration::from_millis(500),
            "{:?}",
            begin.elapsed()
        );
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        // A zombie until it is waited for.
        let zombie = format!("/proc/{pid}/stat");
        while !fs::read_to_string(&zombie).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(is_ending(pid));
        child.wait().unwrap();
        assert!(is_ending(pid));
        assert!(!is_ending(std::process::id() as i32));
    }
}
