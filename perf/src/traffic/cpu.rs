//! CPU time of a process, from `/proc/PID/task/*/schedstat` (first field: nanoseconds on a CPU), and
//! of the whole machine, from `/proc/stat` (proc(5)).

use super::{Result, TrafficError};
use std::io;
use std::time::{Duration, Instant};

/// CPU time of all living threads of a process since each began.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let what = || TrafficError::io(format!("CPU time of process {pid}"));
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(what())? {
        let path = task.map_err(what())?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        let first = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        sum += first.ok_or_else(|| what()(io::Error::new(io::ErrorKind::InvalidData, text)))?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Runs `f` and returns its result with the share of one CPU the process used meanwhile (1.0 is one
/// core) and the CPU time itself.
pub fn measure_cpu<T>(pid: u32, f: impl FnOnce() -> T) -> Result<(T, f64, Duration)> {
    let (before, begin) = (cpu_time(pid)?, Instant::now());
    let result = f();
    let (used, wall) = (cpu_time(pid)?.saturating_sub(before), begin.elapsed());
    Ok((result, used.as_secs_f64() / wall.as_secs_f64(), used))
}

/// Ticks of `/proc/stat` in a second: `USER_HZ` of `asm-generic/param.h`, 100 to every program.
const USER_HZ: u32 = 100;

/// What all CPUs of the machine have worked since it booted: user, nice, system, irq, softirq. What a
/// hypervisor took, and waiting, is not in it.
pub fn machine_cpu_time() -> Result<Duration> {
    let what = || TrafficError::io("read /proc/stat");
    let text = std::fs::read_to_string("/proc/stat").map_err(what())?;
    busy(&text).ok_or_else(|| what()(io::Error::new(io::ErrorKind::InvalidData, text)))
}

/// The first line: `cpu user nice system idle iowait irq softirq steal ...`, in ticks.
fn busy(stat: &str) -> Option<Duration> {
    let ticks: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6]
        .iter()
        .map(|&field| ticks.get(field).copied())
        .sum::<Option<u64>>()?;
    Some(Duration::from_millis(busy * 1000 / u64::from(USER_HZ)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn idle_and_stolen_time_is_not_work() {
        let stat = "cpu  100 20 30 9999 8888 4 6 7777 50 0\ncpu0 1 2 3\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(1600)));
        assert_eq!(busy("cpu  1 2 3 4 5 6"), None);
        assert_eq!(busy("intr 1"), None);
        assert!(machine_cpu_time().unwrap() > Duration::ZERO);
    }

    #[test]
    fn work_counts_and_sleep_does_not() {
        // A process of its own: threads of this one end meanwhile, and take their time along.
        let begin = |script| Command::new("sh").args(["-c", script]).spawn().unwrap();
        let (mut works, mut sleeps) = (begin("while :; do :; done"), begin("exec sleep 60"));
        // Both have begun what they do.
        std::thread::sleep(Duration::from_millis(200));
        let second = || std::thread::sleep(Duration::from_secs(1));
        let worked = measure_cpu(works.id(), second).unwrap().2;
        let slept = measure_cpu(sleeps.id(), second).unwrap().2;
        for child in [&mut works, &mut sleeps] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(worked > Duration::from_millis(20), "{worked:?}");
        assert!(slept < Duration::from_millis(20), "{slept:?}");
        assert!(cpu_time(u32::MAX).is_err());
    }
}
