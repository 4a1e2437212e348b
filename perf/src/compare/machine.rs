//! What a result was measured on: enough to judge it, nothing that names the machine.

use serde::Serialize;

/// The facts of one run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// CPU model as `/proc/cpuinfo` has it.
    pub cpu: String,
    /// CPUs this process may use.
    pub cores: usize,
    /// The commit of the source tree, with `+changes` if tracked files differ from it.
    pub commit: String,
    /// UTC, `2026-01-31T23:59:00Z`.
    pub date: String,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    /// This machine, now, and the source tree of the working folder.
    pub fn here() -> Machine {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Machine {
            kernel,
            cpu: cpu_model(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            commit: commit(),
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let day = self.date.split('T').next().unwrap_or(UNKNOWN);
        write!(
            f,
            "{}, {} CPUs, Linux {}, commit {}, {day}",
            self.cpu, self.cores, self.kernel, self.commit
        )
    }
}

/// x86 says `model name`; arm64 says nothing of the kind.
fn cpu_model(cpuinfo: &str) -> String {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| UNKNOWN.to_owned(), |(_, model)| model.trim().to_owned())
}

fn commit() -> String {
    let head = output("git", &["rev-parse", "--short=12", "HEAD"]);
    match output("git", &["status", "--porcelain", "--untracked-files=no"]).as_str() {
        "" | UNKNOWN => head,
        _ => format!("{head}+changes"),
    }
}

fn output(program: &str, args: &[&str]) -> String {
    crate::lab::run(program, args).map_or_else(|_| UNKNOWN.into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_or_unknown() {
        let info = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(cpu_model(info), "AMD EPYC");
        assert_eq!(cpu_model("CPU implementer: 0x41\n"), UNKNOWN);
    }

    #[test]
    fn facts_have_no_name_of_the_machine() {
        let here = serde_json::to_value(Machine::here()).unwrap();
        let keys: Vec<_> = here.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["commit", "cores", "cpu", "date", "kernel"]);
        assert_eq!(here["date"].as_str().map(str::len), Some(20));
    }
}
