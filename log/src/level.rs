//! What is logged: a level, or a level for parts of the program.
//!
//! Three may say it: whoever asked last at run time, else the variable `RUST_LOG`, else the configuration, which may
//! change while the agent runs. What nobody understands never silences the log.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::{EnvFilter, Registry, reload};

/// Levels that may be named alone.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged unless somebody says more. That a connection to the API server ended is the library's warning for
/// each watch; we say it once, with what it means.
const USUAL: &str = "info,kube_client=error";

/// Of this process.
pub struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    said: Mutex<Said>,
}

/// Who says what.
struct Said {
    configured: String,
    variable: Option<String>,
    asked: Option<String>,
    /// When that is taken back, if it is known.
    until: Option<Instant>,
    /// How often somebody asked.
    times: u64,
}

impl Said {
    fn in_force(&self) -> &str {
        let variable = self.variable.as_deref();
        self.asked
            .as_deref()
            .or(variable)
            .unwrap_or(&self.configured)
    }
}

/// The filter as a layer.
pub(crate) type Filter = reload::Layer<EnvFilter, Registry>;

impl Levels {
    /// The level of the configuration, which has been checked, and of the variable, with a complaint about that if
    /// it is wrong.
    pub(crate) fn new(
        configured: &str,
        variable: Option<&str>,
    ) -> (Levels, Filter, Option<String>) {
        let variable = variable.map(str::trim).filter(|text| !text.is_empty());
        let (_, complaint) = read(variable.unwrap_or_default());
        let complaint = complaint.map(|why| {
            let given = variable.unwrap_or_default();
            format!(
                "RUST_LOG={given:?}: {why}; what it does not change is logged from level info up\n  \
                 to do: set it to error, warn, info, debug or trace"
            )
        });
        let said = Said {
            configured: configured.to_owned(),
            variable: variable.map(str::to_owned),
            asked: None,
            until: None,
            times: 0,
        };
        let (layer, handle) = reload::Layer::new(read(said.in_force()).0);
        let said = Mutex::new(said);
        (Levels { handle, said }, layer, complaint)
    }

    /// What is logged, in words that [`ask`](Self::ask) takes.
    pub fn in_force(&self) -> String {
        self.lock().in_force().to_owned()
    }

    /// What would be if nobody had asked at run time.
    pub fn usual(&self) -> String {
        let said = self.lock();
        said.variable.as_ref().unwrap_or(&said.configured).clone()
    }

    /// Time until what is usual is in force again, if that has been said.
    pub fn usual_in(&self) -> Option<Duration> {
        let until = self.lock().until?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Has that logged from now on, or what is usual. Gives a number to take it back by, which the caller does after
    /// `time`, if there is one.
    ///
    /// # Errors
    /// What is no level; all stays as it was.
    pub fn ask(&self, level: Option<&str>, time: Option<Duration>) -> Result<u64, WrongLevel> {
        if let Some(level) = level {
            check(level)?;
        }
        let mut said = self.lock();
        said.asked = level.map(str::to_owned);
        said.until = time.map(|time| Instant::now() + time);
        said.times += 1;
        self.apply(&said);
        Ok(said.times)
    }

    /// Takes back what was asked for, if nobody has asked since.
    pub fn take_back(&self, number: u64) -> bool {
        let mut said = self.lock();
        let is_last = said.times == number && said.asked.take().is_some();
        if is_last {
            said.until = None;
            self.apply(&said);
        }
        is_last
    }

    /// The configuration says this now; it has been checked.
    pub fn configure(&self, level: &str) {
        let mut said = self.lock();
        said.configured = level.to_owned();
        self.apply(&said);
    }

    fn apply(&self, said: &Said) {
        // Fails only after the subscriber is gone, and then there is no log.
        let _ = self.handle.reload(read(said.in_force()).0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongLevel {
    /// As it was given.
    pub given: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for WrongLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.given, self.why)
    }
}

impl std::error::Error for WrongLevel {}

/// Whether that can be logged: a level, or parts of the program with a level each, as `RUST_LOG` has them.
///
/// # Errors
/// It cannot.
pub fn check(level: &str) -> Result<(), WrongLevel> {
    let wrong = |why: String| {
        let given = level.to_owned();
        Err(WrongLevel { given, why })
    };
    if level.trim().is_empty() {
        return wrong("it is empty".into());
    }
    match read(level).1 {
        Some(why) => wrong(why),
        None => Ok(()),
    }
}

/// Level `info`, changed by what is given. With a complaint about what nobody understands.
fn read(given: &str) -> (EnvFilter, Option<String>) {
    let given = given.trim();
    let known = |word: &str| {
        word.is_empty()
            || word.contains(['=', '['])
            || word.starts_with("ringway")
            || word.parse::<usize>().is_ok_and(|level| level <= 5)
            || LEVELS.contains(&word.to_ascii_lowercase().as_str())
    };
    let unknown = given.split(',').map(str::trim).find(|word| !known(word));
    match EnvFilter::try_new(format!("{USUAL},{given}")) {
        Ok(filter) => (filter, unknown.map(|word| format!("{word:?} is no level"))),
        Err(e) => (EnvFilter::new(USUAL), Some(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_words(filter: &EnvFilter) -> String {
        let text = filter.to_string();
        let mut directives: Vec<_> = text.split(',').collect();
        directives.retain(|directive| *directive != "kube_client=error");
        directives.join(",")
    }

    #[test]
    fn no_word_of_rust_log_silences_the_log() {
        for (given, filter_is, complaint) in [
            (None, "info", None),
            (Some(""), "info", None),
            (Some("debug"), "debug", None),
            (Some("WARN"), "warn", None),
            (Some("off"), "off", None),
            (
                Some("ringway_agent::control=debug"),
                "ringway_agent::control=debug,info",
                None,
            ),
            (
                Some("verbose"),
                "verbose=trace,info",
                Some("\"verbose\" is no level"),
            ),
            (
                Some("debug,loud"),
                "loud=trace,debug",
                Some("\"loud\" is no level"),
            ),
            (Some("ringway=loud"), "info", Some("expected one of")),
        ] {
            let (levels, _layer, why) = Levels::new("info", given);
            let found = levels.handle.with_current(in_words).unwrap();
            assert_eq!(found, filter_is, "{given:?}");
            match complaint {
                None => assert_eq!(why, None, "{given:?}"),
                Some(words) => {
                    let why = why.unwrap();
                    assert!(why.contains(words) && why.contains("to do: "), "{why}");
                    assert!(
                        why.contains(&format!("RUST_LOG={:?}", given.unwrap())),
                        "{why}"
                    );
                }
            }
        }
    }

    #[test]
    fn who_asked_last_goes_before_the_variable_and_that_before_the_file() {
        let (levels, _layer, _) = Levels::new("warn", None);
        let now = || levels.handle.with_current(in_words).unwrap();
        assert_eq!((now().as_str(), levels.usual().as_str()), ("warn", "warn"));
        let first = levels.ask(Some("debug"), None).unwrap();
        levels.configure("error");
        assert_eq!(
            now(),
            "debug",
            "the file does not end what somebody asked for"
        );
        let second = levels
            .ask(Some("trace"), Some(Duration::from_secs(60)))
            .unwrap();
        assert!(levels.usual_in().unwrap() > Duration::from_secs(50));
        assert!(!levels.take_back(first), "somebody has asked since");
        assert_eq!(now(), "trace");
        assert!(levels.take_back(second));
        assert_eq!(now(), "error");
        assert!(!levels.take_back(second));
        assert_eq!(levels.usual_in(), None);
        let wrong = levels.ask(Some("loud"), None).unwrap_err();
        assert_eq!(wrong.to_string(), "\"loud\": \"loud\" is no level");
        assert_eq!(now(), "error");
        assert!(levels.ask(Some(" "), None).is_err());

        let (levels, _layer, _) = Levels::new("warn", Some("debug"));
        levels.configure("error");
        assert_eq!(levels.in_force(), "debug");
        levels.ask(Some("info"), None).unwrap();
        assert_eq!(levels.in_force(), "info");
        levels.ask(None, None).unwrap();
        assert_eq!(levels.in_force(), "debug");
    }
}
