//! This program under valgrind, and what callgrind counted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::counted::Counted;

/// The function that is counted in. In full: of two options with one wildcard callgrind heeds one.
const COUNTED: &str = "ringway_perf::instructions::counted::counted";

/// Instructions per packet of each scenario, and what the CPU was.
pub(super) fn count() -> anyhow::Result<(String, Vec<(String, f64)>)> {
    let program = std::env::current_exe().context("the path of this program")?;
    let folder = Folder::new()?;
    let out = folder.0.join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .arg("instructions-counted")
        // Nothing of the environment may change what is run (LD_PRELOAD, GLIBC_TUNABLES, malloc's variables).
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .context("cannot start valgrind; install it:  sudo apt-get install valgrind")?;
    if !output.status.success() {
        bail!(
            "valgrind ended with {}: {}\nan illegal instruction means that the program was built for a CPU that valgrind does not know: build without -C target-cpu in RUSTFLAGS",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let counted: Counted = serde_json::from_slice(&output.stdout)
        .context("the counted process said something else than its scenarios")?;
    let mut counts = Vec::new();
    for (i, (name, packets)) in counted.scenarios.into_iter().enumerate() {
        let dump = folder.0.join(format!("out.{}", i + 1));
        let text = std::fs::read_to_string(&dump)
            .with_context(|| format!("callgrind counted nothing for {name}: no function is called {COUNTED}; was the program stripped? {}", dump.display()))?;
        let instructions = total(&text).with_context(|| name.clone())?;
        anyhow::ensure!(
            instructions > 0,
            "callgrind counted 0 instructions for {name}, at least one per packet was expected"
        );
        counts.push((name, instructions as f64 / packets as f64));
    }
    Ok((counted.cpu, counts))
}

/// Instructions of one dump, from its line `summary:` or `totals:`.
fn total(dump: &str) -> anyhow::Result<u64> {
    let line = dump
        .lines()
        .find_map(|line| {
            line.strip_prefix("summary:")
                .or_else(|| line.strip_prefix("totals:"))
        })
        .context("no line `summary:` in callgrind's output")?;
    let number = line.trim();
    number
        .parse()
        .with_context(|| format!("callgrind's summary is {number:?}, expected one number"))
}

/// `glibc 2.36`, as getconf says.
pub(super) fn libc() -> String {
    Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or("unknown".into(), |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
}

/// A folder of our own that goes at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let name = format!("ringway-instructions-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Folder(path))
    }
}

/// For nobody else to write into; one that is there already is not ours.
fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_summary() {
        let dump = "version: 1\nevents: Ir\nsummary: 2093440\n\nfn=(0) x\n1 5\n";
        assert_eq!(total(dump).unwrap(), 2_093_440);
        assert_eq!(total("totals: 7\n").unwrap(), 7);
        assert!(total("events: Ir\n").is_err());
        let error = total("summary: 1 2\n").unwrap_err().to_string();
        assert!(error.contains("1 2"), "{error}");
    }
}
