//! Replays every seed, and every input that once crashed a target, without a fuzzer.

use ringway_fuzz::{TARGETS, seeds};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn files(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let listing =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    listing.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_seed_holds() {
    for (target, run) in TARGETS {
        let files = files(target);
        assert!(!files.is_empty(), "no seeds for {target}");
        for file in files {
            println!("{}", file.display());
            run(&std::fs::read(&file).unwrap());
        }
    }
}

/// Cut short, cut open, every bit flipped in turn: the cheapest mutations, on every run.
#[test]
fn every_seed_holds_when_damaged() {
    for (target, run) in TARGETS {
        for file in files(target) {
            let good = std::fs::read(&file).unwrap();
            for cut in 0..good.len() {
                run(&good[..cut]);
            }
            let mut bent = good;
            for bit in 0..bent.len().min(400) * 8 {
                bent[bit / 8] ^= 1 << (bit % 8);
                run(&bent);
                bent[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

/// The files are those that `write_seeds` writes: a changed kit or input format shows here.
#[test]
fn generated_seeds_are_written() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    for (target, name, bytes) in seeds::all() {
        assert!(names.contains(target), "{target} is no target");
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(target)
            .join(&name);
        let written = std::fs::read(&file).unwrap_or_default();
        assert!(
            written == bytes,
            "{} is stale: run the write_seeds example",
            file.display()
        );
    }
}
