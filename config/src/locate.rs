//! From a key path such as `peers[1].pod_cidrs[0]` to its line in the file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Line (from 1) of the value at `path`, or of the nearest part of the path
/// that is written in the file; `None` when nothing of it is.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table: Option<&DeTable<'_>> = Some(document.get_ref());
    let mut found = None;
    for step in path.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((key, value)) = table?.iter().find(|(k, _)| k.get_ref() == name) else {
            break;
        };
        found = Some(key.span().start);
        let mut value: &Spanned<DeValue<'_>> = value;
        if let Some(element) = index.and_then(|i| value.get_ref().as_array()?.get(i)) {
            value = element;
            // An element of an inline array has a place of its own; that of an
            // array of tables begins at its header.
            found = Some(value.span().start);
        }
        table = value.get_ref().as_table();
        if table.is_none() {
            break;
        }
    }
    found.map(|offset| line(text, offset))
}

/// Line (from 1) of a byte offset.
pub(super) fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}
