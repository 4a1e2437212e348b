//! Pieces of text.

use ringway_view::units;

/// What can do nothing to a terminal: control characters, and those that are not seen but turn or join others,
/// become `?`.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if harmless(c) { c } else { '?' })
        .collect()
}

fn harmless(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_control() && !unseen
}

/// A name in so many columns: where it is longer, its middle is left out, for both ends tell it from others.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let Some(kept) = width.checked_sub(1) else {
        return String::new();
    };
    let tail = kept / 3;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}~{tail}")
}

/// A rate without its unit; `-`: it is not known.
pub(crate) fn rate(rate: Option<f64>) -> String {
    let text = rate.map_or_else(|| "-".into(), units::per_second);
    text.trim_end_matches("/s").into()
}

/// `1.23 Gbit/s`
pub(crate) fn bits(rate: Option<f64>) -> String {
    match self::rate(rate) {
        text if text.ends_with(|c: char| c.is_ascii_alphabetic()) => format!("{text}bit/s"),
        text => format!("{text} bit/s"),
    }
}

/// So many per cent; `-`: it is not known.
pub(crate) fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".into(), |part| format!("{part:.1}"))
}

/// How long ago something was.
pub(crate) fn ago(ms: u64) -> String {
    match ms {
        0..1000 => "now".into(),
        _ => format!("{} ago", units::duration(ms / 1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        let all: String = (0..0x11_0000).filter_map(char::from_u32).collect();
        let cleaned = clean(&all);
        assert_eq!(cleaned.chars().count(), all.chars().count());
        assert!(!cleaned.chars().any(char::is_control));
        assert_eq!(clean("\x1b[2Ja\u{202e}b\nc\u{9b}"), "?[2Ja?b?c?");
        assert_eq!(clean("default/web-é 1"), "default/web-é 1");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(fit("default/web", 11), "default/web");
        assert_eq!(fit("default/web-7d9c6b-x2x9k", 13), "default/~2x9k");
        assert_eq!(fit("é".repeat(9).as_str(), 4), "éé~é");
        for width in 0..5 {
            assert_eq!(fit("abcdefgh", width).len(), width);
        }
    }

    #[test]
    fn rates_have_a_unit_or_are_unknown() {
        assert_eq!(rate(None), "-");
        assert_eq!(rate(Some(0.0)), "0");
        assert_eq!(rate(Some(123_456.0)), "123 k");
        assert_eq!(bits(Some(1.234e9)), "1.23 Gbit/s");
        assert_eq!(bits(Some(12.0)), "12 bit/s");
        assert_eq!(bits(None), "- bit/s");
        assert_eq!(percent(Some(12.34)), "12.3");
        assert_eq!([ago(999), ago(61_000)], ["now", "1 min 1 s ago"]);
    }
}
