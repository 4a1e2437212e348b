//! The file of counts, and what may change without it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// A count may grow by this share without being written down.
pub(super) const TOLERANCE: f64 = 0.03;
/// The command that writes the file.
pub(super) const UPDATE: &str = "make instructions-update REASON=\"why they change\"";

const HEAD: &str = "\
# Instructions per packet, counted under valgrind --tool=callgrind: `make instructions` compares, and fails
# when one has grown by more than 3 %. Written by `make instructions-update REASON=\"…\"`, not by hand.
#
# forward, encap, decap: 64-byte UDP packets from memory to memory, copy into the buffer included; encap and
# decap in VXLAN over the pods' own family (over IPv6 with the outer UDP checksum), tiny tables.
# segmentation, coalescing: superframes of 44 segments of 1,398 bytes, checksums over the payload included.
#
# They hold for this compiler, C library and CPU only (valgrind shows AVX2 if the machine has it, never AVX-512).
";

/// What counts depend on besides the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Environment {
    /// `rustc -V`, and RUSTFLAGS if there are any.
    pub(super) compiler: String,
    /// Whose `memcpy` is counted with the rest.
    pub(super) libc: String,
    /// Architecture, and features that code is chosen by.
    pub(super) cpu: String,
}

impl Environment {
    /// Says what differs.
    pub(super) fn difference(&self, here: &Environment) -> Option<String> {
        let pairs = [
            (&self.compiler, &here.compiler),
            (&self.libc, &here.libc),
            (&self.cpu, &here.cpu),
        ];
        let differing: Vec<String> = pairs
            .into_iter()
            .filter(|(recorded, here)| recorded != here)
            .map(|(recorded, here)| format!("{recorded} there, {here} here"))
            .collect();
        (!differing.is_empty()).then(|| differing.join("; "))
    }
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Per packet.
    pub(super) instructions: f64,
    /// Why it is what it is.
    pub(super) reason: String,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) environment: Environment,
    #[serde(rename = "scenario")]
    pub(super) scenarios: Vec<Entry>,
}

impl Record {
    pub(super) fn parse(text: &str) -> anyhow::Result<Record> {
        let record: Record = toml::from_str(text)?;
        for entry in &record.scenarios {
            anyhow::ensure!(
                entry.instructions > 0.0 && entry.instructions.is_finite(),
                "{}: {} instructions per packet, expected more than 0",
                entry.name,
                entry.instructions
            );
            anyhow::ensure!(
                !entry.reason.trim().is_empty(),
                "{}: the reason is empty; write the file by:  {UPDATE}",
                entry.name
            );
        }
        Ok(record)
    }

    /// The file's text; [`parse`](Self::parse) of it is the same record.
    pub(super) fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut out = HEAD.to_owned();
        let Environment {
            compiler,
            libc,
            cpu,
        } = &self.environment;
        let _ = write!(
            out,
            "[environment]\ncompiler = {}\nlibc = {}\ncpu = {}\n",
            quoted(compiler),
            quoted(libc),
            quoted(cpu)
        );
        for entry in &self.scenarios {
            let _ = write!(
                out,
                "\n[[scenario]]\nname = {}\ninstructions = {:.1}\nreason = {}\n",
                quoted(&entry.name),
                entry.instructions,
                quoted(&entry.reason)
            );
        }
        out
    }

    /// The record of now: what has another count than before has this reason, what has not keeps its.
    pub(super) fn updated(
        old: Option<&Record>,
        environment: Environment,
        counts: &[(String, f64)],
        reason: &str,
    ) -> Record {
        let entry = |(name, count): &(String, f64)| {
            let instructions = (count * 10.0).round() / 10.0;
            let same = old
                .and_then(|old| old.scenarios.iter().find(|entry| entry.name == *name))
                .filter(|entry| (entry.instructions - instructions).abs() < 0.05);
            Entry {
                name: name.clone(),
                instructions,
                reason: same.map_or(reason.trim(), |entry| &entry.reason).to_owned(),
            }
        };
        Record {
            environment,
            scenarios: counts.iter().map(entry).collect(),
        }
    }

    /// Every scenario that is in the file or was counted, those counted first.
    pub(super) fn compare(&self, counts: &[(String, f64)]) -> Vec<Change> {
        let counted = counts.iter().map(|(name, now)| Change {
            name: name.clone(),
            recorded: self
                .scenarios
                .iter()
                .find(|entry| entry.name == *name)
                .map(|entry| entry.instructions),
            now: Some(*now),
        });
        let gone = self
            .scenarios
            .iter()
            .filter(|entry| counts.iter().all(|(name, _)| *name != entry.name))
            .map(|entry| Change {
                name: entry.name.clone(),
                recorded: Some(entry.instructions),
                now: None,
            });
        counted.chain(gone).collect()
    }
}

/// One scenario then and now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) recorded: Option<f64>,
    pub(super) now: Option<f64>,
}

impl Change {
    /// 0.1 is a tenth more.
    pub(super) fn growth(&self) -> Option<f64> {
        Some(self.now? / self.recorded? - 1.0)
    }

    /// By more than what may pass unnoticed.
    pub(super) fn shrank(&self) -> bool {
        self.growth().is_some_and(|growth| growth < -TOLERANCE)
    }

    /// Why this may not stay as it is.
    pub(super) fn complaint(&self) -> Option<String> {
        let name = &self.name;
        match (self.recorded, self.now) {
            (Some(recorded), Some(now)) if now / recorded - 1.0 > TOLERANCE => Some(format!(
                "{name}: {recorded:.1} → {now:.1} instructions per packet, {:+.1} %, allowed {:+.0} %",
                (now / recorded - 1.0) * 100.0,
                TOLERANCE * 100.0
            )),
            (None, Some(now)) => Some(format!(
                "{name}: {now:.1} instructions per packet, not in the file"
            )),
            (Some(recorded), None) => Some(format!(
                "{name}: {recorded:.1} instructions per packet in the file, and no longer counted"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Environment {
        Environment {
            compiler: "rustc 1.2.3".into(),
            libc: "glibc 2.1".into(),
            cpu: "x86_64 avx2".into(),
        }
    }

    fn counts(encap: f64) -> Vec<(String, f64)> {
        vec![("forward".into(), 100.0), ("encap".into(), encap)]
    }

    fn record() -> Record {
        Record::updated(None, here(), &counts(200.0), "first \"count\"\nof all")
    }

    fn complaints(changes: &[Change]) -> Vec<String> {
        changes.iter().filter_map(Change::complaint).collect()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(Record::parse(&record().text()).unwrap(), record());
    }

    #[test]
    fn the_file_in_the_repository_is_one() {
        let text = include_str!("../../instructions.toml");
        let record = Record::parse(text).unwrap();
        assert_eq!(record.text(), text, "not as it is written by {UPDATE}");
        assert!(record.scenarios.len() >= 12);
    }

    #[test]
    fn growth_beyond_three_percent_is_told_with_both_numbers() {
        assert_eq!(complaints(&record().compare(&counts(205.9))), [""; 0]);
        let told = complaints(&record().compare(&counts(206.2)));
        assert_eq!(
            told,
            ["encap: 200.0 → 206.2 instructions per packet, +3.1 %, allowed +3 %"]
        );
    }

    #[test]
    fn what_shrank_is_no_complaint() {
        let changes = record().compare(&counts(150.0));
        assert_eq!(complaints(&changes), [""; 0]);
        let shrank: Vec<bool> = changes.iter().map(Change::shrank).collect();
        assert_eq!(shrank, [false, true]);
    }

    #[test]
    fn a_scenario_neither_appears_nor_vanishes_in_silence() {
        let told = complaints(&record().compare(&[("forward".into(), 100.0), ("new".into(), 5.0)]));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("new: 5.0") && told[1].starts_with("encap: 200.0"));
    }

    #[test]
    fn an_update_keeps_the_reasons_of_what_did_not_change() {
        let new = Record::updated(Some(&record()), here(), &counts(220.0), " policy ");
        assert_eq!(new.scenarios[0].reason, "first \"count\"\nof all");
        assert_eq!(new.scenarios[1].reason, "policy");
        assert!((new.scenarios[1].instructions - 220.0).abs() < 1e-9);
    }

    #[test]
    fn another_compiler_is_named() {
        let other = Environment {
            compiler: "rustc 9".into(),
            ..here()
        };
        assert_eq!(here().difference(&here()), None);
        assert_eq!(
            here().difference(&other).as_deref(),
            Some("rustc 1.2.3 there, rustc 9 here")
        );
    }

    #[test]
    fn a_damaged_file_says_what_is_wrong() {
        let text = record().text();
        for (from, to, expected) in [
            ("instructions = 200.0", "instructions = -1.0", "encap: -1"),
            ("instructions = 200.0", "instructions = nan", "encap: NaN"),
            ("libc =", "lib =", "lib"),
        ] {
            assert!(text.contains(from), "{text}");
            let damaged = text.replace(from, to);
            let error = format!("{:#}", Record::parse(&damaged).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let mut silent = record();
        silent.scenarios[0].reason = " ".into();
        let error = Record::parse(&silent.text()).unwrap_err().to_string();
        assert!(error.starts_with("forward: the reason is empty"), "{error}");
    }
}
