//! Processors that workers can be pinned to.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use ringway_config::{Config, ConfigError, Problem};

/// Checks that this process may run on every processor of `workers.cpus`.
///
/// # Errors
/// It may not on one of them, or there is no such processor.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    // A machine with more processors than a set holds is left to the kernel's own refusal.
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Ok(());
    };
    let may = |cpu: usize| set.is_set(cpu).unwrap_or(false);
    for (i, cpu) in config.workers.cpus.iter().enumerate() {
        if !may(*cpu) {
            let allowed = list((0..CpuSet::count()).filter(|cpu| may(*cpu)));
            let problem = Problem::NoProcessor { cpu: *cpu, allowed };
            let key = format!("workers.cpus[{i}]");
            return Err(ConfigError::at(&config.file, &key, problem));
        }
    }
    Ok(())
}

/// `0-3, 6`: as the kernel lists them.
fn list(cpus: impl Iterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let runs = runs.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn processors_are_listed_as_the_kernel_does() {
        assert_eq!(list([0, 1, 2, 6, 8, 9].into_iter()), "0-2, 6, 8-9");
    }

    #[test]
    fn a_processor_that_is_not_there_is_named_with_those_that_are() {
        let text = include_str!("../../config/ringway.toml").to_owned();
        let parse = |cpus: &str| {
            let text = format!("{text}\n[workers]\ncpus = {cpus}\n");
            Config::parse(Path::new("t"), &text).unwrap()
        };
        check(&parse("[]")).unwrap();
        let error = check(&parse("[999]")).unwrap_err();
        assert_eq!(error.key, "workers.cpus[0]");
        let text = error.to_string();
        assert!(text.contains("processor 999 is not one of"), "{text}");
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..1024).find(|cpu| set.is_set(*cpu).unwrap()).unwrap();
        assert!(text.contains(&format!("({first}")), "{text}");
    }
}
