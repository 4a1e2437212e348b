//! Numbers for people: three figures and a unit.

use std::time::Duration;

/// Values separated by a space.
pub fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    all.join(" ")
}

/// `1.23 M` and the like: three significant figures.
pub fn amount(n: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if n < 10_000 {
        return n.to_string();
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `65.5 kB` and the like.
pub fn bytes(n: u64) -> String {
    if n < 10_000 {
        format!("{n} B")
    } else {
        format!("{}B", amount(n))
    }
}

/// `1 h 1 min` and the like: its two largest units.
pub fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// So many a second.
pub fn per_second(rate: f64) -> String {
    match rate {
        rate if rate < 0.05 => "0/s".into(),
        rate if rate < 9.95 => format!("{rate:.1}/s"),
        rate => format!("{}/s", amount(rate.round() as u64)),
    }
}

/// `1h30m`: numbers, each with its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 10m, 2h or 1h30m");
    let (mut total, mut number) = (0u64, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let part: u64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        let part = part.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if total == 0 || !number.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_figures_and_a_unit() {
        for (n, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0 k"),
            (123_456, "123 k"),
            (999_499, "999 k"),
            (999_500, "1.00 M"),
            (12_345_678_901, "12.3 G"),
            (u64::MAX, "18447 P"),
        ] {
            assert_eq!(amount(n), text, "{n}");
        }
        assert_eq!(bytes(1500), "1500 B");
        assert_eq!(bytes(65_536), "65.5 kB");
    }

    #[test]
    fn rates() {
        for (rate, text) in [
            (0.0, "0/s"),
            (0.04, "0/s"),
            (0.5, "0.5/s"),
            (9.94, "9.9/s"),
            (9.96, "10/s"),
            (123_456.0, "123 k/s"),
            (f64::MAX, "18447 P/s"),
        ] {
            assert_eq!(per_second(rate), text, "{rate}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3_660), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }

    #[test]
    fn durations_have_units() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs());
        for (text, expected) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("1h30m", 5400)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in [
            "",
            "10",
            "m",
            "0s",
            "1.5h",
            "-1m",
            "1d",
            "10m5",
            "99999999999999999999s",
        ] {
            let error = seconds(text).unwrap_err();
            assert!(error.contains("1h30m"), "{error}");
        }
    }
}
