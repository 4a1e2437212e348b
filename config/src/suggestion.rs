//! What somebody meant who wrote a line that TOML, or the shape of this file, does not allow.
//!
//! The parser's own words ("invalid float", "expected a sequence") speak of its grammar. A correction is
//! offered only if the corrected line can be read.

use toml::de::DeTable;

use super::number::RANGES;
use super::{Problem, raw::Raw};

/// The sections there is one of each.
const SINGLE: [&str; 11] = [
    "node",
    "underlay",
    "workers",
    "ipam",
    "cni",
    "egress",
    "metrics",
    "agents",
    "log",
    "kubernetes",
    "etcd",
];

/// A better word for the error at `line` (from 1), with the line it belongs to.
pub(super) fn problem(text: &str, line: usize, message: &str) -> Option<(usize, Problem)> {
    let content = bare(text.lines().nth(line - 1)?);
    if let Some(found) = brackets(text, line, content) {
        return Some(found);
    }
    let (key, value) = match content.split_once('=') {
        Some((key, value)) => (key.trim(), value.trim()),
        None if message.contains("key with no value") => {
            let (key, value) = content.split_once([':', ' ', '\t'])?;
            let value = value.trim().trim_start_matches(':').trim();
            let write = format!("{key} = {}", quoted(value));
            return readable(&write).then_some((line, Problem::NoEquals { write }));
        }
        // The head of a section, whose bracket is missing.
        None if content.starts_with('[') => return None,
        // An element of a list over several lines.
        None => ("", content.trim_end_matches(',')),
    };
    let whole = |value: &str| match key {
        "" => value.to_owned(),
        key => format!("{key} = {value}"),
    };
    if message.contains("expected a boolean") {
        return Some((
            line,
            Problem::NotFlag {
                value: value.into(),
            },
        ));
    }
    if message.contains("expected a sequence") && !value.is_empty() {
        let write = whole(&format!("[{}]", quoted(value)));
        return Some((line, Problem::NotList { write }));
    }
    if value.is_empty() || readable(&format!("k = {value}")) {
        return None;
    }
    let numeric = RANGES.iter().find(|(known, ..)| {
        let name = known.split('.').nth(1);
        name == Some(key)
    });
    if let Some((_, min, max)) = numeric {
        let (value, min, max) = (value.to_owned(), *min, *max);
        return Some((line, Problem::NotWhole { value, min, max }));
    }
    let quoted = quoted(value);
    if !readable(&format!("k = {quoted}")) {
        return None;
    }
    let told = error_with(text, line, &whole(&quoted)).unwrap_or_default();
    if told.contains("expected a boolean") {
        let value = value.into();
        return Some((line, Problem::NotFlag { value }));
    }
    let write = if told.contains("expected a sequence") {
        whole(&format!("[{quoted}]"))
    } else {
        whole(&quoted)
    };
    let value = first_bare(value).to_owned();
    Some((line, Problem::Unquoted { value, write }))
}

/// `[peers]` for `[[peers]]`, and the other way round for what there is one of.
fn brackets(text: &str, line: usize, content: &str) -> Option<(usize, Problem)> {
    let wrong = |line: usize, found: &str, write: String| {
        let found = found.to_owned();
        Some((line, Problem::Brackets { found, write }))
    };
    if matches!(content, "[peers]" | "[[peers]]") {
        let first = text.lines().position(|line| bare(line) == "[peers]")?;
        return wrong(first + 1, "[peers]", "[[peers]]".into());
    }
    let name = content.strip_prefix("[[")?.strip_suffix("]]")?.trim();
    let known = SINGLE.contains(&name);
    known.then(|| wrong(line, content, format!("[{name}]")))?
}

/// A line without its comment and the space around it.
fn bare(line: &str) -> &str {
    let mut inside = None;
    let end = line.char_indices().find(|(_, c)| {
        match (inside, *c) {
            (None, '#') => return true,
            (None, '"' | '\'') => inside = Some(*c),
            (Some(quote), c) if c == quote => inside = None,
            _ => {}
        }
        false
    });
    let end = end.map(|(at, _)| at);
    // A quote that is missing makes all that follows a text.
    let end = end.or_else(|| inside.and_then(|_| line.find(" #")));
    line[..end.unwrap_or(line.len())].trim()
}

fn readable(line: &str) -> bool {
    DeTable::parse(line).is_ok()
}

/// The value with quotes where they are missing.
fn quoted(value: &str) -> String {
    if let Some(list) = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        let elements = list.split(',').map(str::trim).filter(|e| !e.is_empty());
        let all: Vec<String> = elements.map(quoted).collect();
        return format!("[{}]", all.join(", "));
    }
    if readable(&format!("k = {value}")) {
        return value.to_owned();
    }
    let text = value.trim_matches(['"', '\'', '“', '”', '„', '‘', '’', '`']);
    toml::Value::String(text.to_owned()).to_string()
}

/// Of a list the first element that cannot be read, else the value.
fn first_bare(value: &str) -> &str {
    let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    let mut elements = list.unwrap_or(value).split(',').map(str::trim);
    let first = elements.find(|e| !e.is_empty() && !readable(&format!("k = {e}")));
    first.unwrap_or(value)
}

/// What is wrong with the file once this line is another.
fn error_with(text: &str, line: usize, instead: &str) -> Option<String> {
    let lines = text.lines().enumerate();
    let lines: Vec<&str> = lines
        .map(|(i, old)| if i + 1 == line { instead } else { old })
        .collect();
    let error = toml::from_str::<Raw>(&lines.join("\n")).err()?;
    Some(error.message().to_owned())
}
