//! What appeared on the machine's console: the kernel's messages, qemu's, and the init's.

use std::path::Path;

/// Of a kernel in which something is wrong. A run that passes over a warning has not passed.
const COMPLAINTS: [&str; 6] = [
    "BUG: ",
    "WARNING: ",
    "Oops",
    "Kernel panic",
    "Call Trace",
    "blocked for more than",
];
/// As many lines as a backtrace has.
const TAIL: usize = 40;

/// A console, read once.
pub(super) struct Console(String);

impl Console {
    /// Whatever the file holds by now.
    pub(super) fn read(file: &Path) -> Console {
        let bytes = std::fs::read(file).unwrap_or_default();
        Console(String::from_utf8_lossy(&bytes).replace('\r', ""))
    }

    /// The first line in which the kernel complains.
    pub(super) fn complaint(&self) -> Option<&str> {
        let bad = |line: &&str| COMPLAINTS.iter().any(|word| line.contains(word));
        self.0.lines().find(bad).map(str::trim)
    }

    /// The first complaint, when it is further up, and the last lines.
    pub(super) fn tail(&self) -> String {
        let lines: Vec<&str> = self.0.lines().collect();
        let (above, last) = lines.split_at(lines.len().saturating_sub(TAIL));
        let mut out = String::new();
        if let Some(complaint) = self.complaint()
            && above.iter().any(|line| line.trim() == complaint)
        {
            out += &format!("  | {complaint}\n  | ...\n");
        }
        out.extend(last.iter().map(|line| format!("  | {line}\n")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_is_not_lost_above_its_backtrace() {
        let trace = "[ 1.1]  <TASK>\n".repeat(100);
        let text = format!("[ 1.0] Kernel panic - not syncing: x\n[ 1.0] Call Trace:\n{trace}");
        let console = Console(text);
        assert_eq!(
            console.complaint(),
            Some("[ 1.0] Kernel panic - not syncing: x")
        );
        assert!(console.tail().starts_with("  | [ 1.0] Kernel panic"));
        assert_eq!(console.tail().lines().count(), TAIL + 2);
        assert_eq!(Console("ended\n".into()).tail(), "  | ended\n");
        assert_eq!(Console(String::new()).complaint(), None);
    }
}
