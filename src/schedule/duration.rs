//! Lengths of time as people write them: `10m`, `1h30m`, `90s`, `2d`.

use std::fmt::Write as _;
use std::time::Duration;

use super::spec::Invalid;

/// A task that starts a sandbox more often would do nothing else.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A year, with room for its leap day; for more, a cron expression says which day is meant.
pub const INTERVAL_MAX: Duration = Duration::from_hours(8784);

/// In falling order, in which they are written.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

const FORM: &str = "whole numbers with `w`, `d`, `h`, `m` or `s` are expected, largest first, or \
                    milliseconds alone";

/// Reads an interval: whole numbers with `w`, `d`, `h`, `m`, `s` in this order, or `NanoClaw`'s
/// plain milliseconds.
///
/// # Errors
/// [`Invalid`]: neither of the two, or outside [`INTERVAL_MIN`] to [`INTERVAL_MAX`].
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let text = text.trim();
    let invalid = |problem: &str| Invalid::new("interval", text, problem, "1h30m");
    let length = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_millis(text.parse().unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(seconds(text).ok_or_else(|| invalid(FORM))?)
    };
    if length < INTERVAL_MIN {
        Err(invalid("is less than 1 s; a number alone is in milliseconds"))
    } else if length <= INTERVAL_MAX {
        Ok(length)
    } else {
        Err(invalid("is more than 366 days"))
    }
}

/// `None`: not the form. What is too large to count is as large as can be.
fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let (mut rest, mut units) = (text, UNITS.iter());
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = tail.chars().next()?;
        // The iterator is not set back: no unit twice, and none after a smaller one.
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        if digits.is_empty() {
            return None;
        }
        let count = digits.parse().unwrap_or(u64::MAX);
        total = total.saturating_add(length.saturating_mul(count));
        rest = tail[unit.len_utf8()..].trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// Writes `length` so that [`parse`] reads it back: `1h30m`; milliseconds where seconds do not
/// do.
pub fn format(length: Duration) -> String {
    let mut rest = length.as_secs();
    if length.subsec_millis() != 0 || rest == 0 {
        return length.as_millis().to_string();
    }
    let mut text = String::new();
    for (unit, seconds) in &UNITS[1..] {
        if seconds <= &rest {
            write!(text, "{}{unit}", rest / seconds).expect("a string takes all that is written");
            rest %= seconds;
        }
    }
    text
}

/// About how long, in at most two units: `45 s`, `3 h`, `2 d 5 h`. Rounded down.
pub fn rough(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, seconds: u64) {
        assert_eq!(Ok(Duration::from_secs(seconds)), parse(text), "{text}");
    }

    #[test]
    fn forms() {
        check("10m", 600);
        check("1h30m", 5_400);
        check("1h 30m", 5_400);
        check(" 90s ", 90);
        check("2d", 172_800);
        check("1w1d1h1m1s", 694_861);
        check("1000", 1);
        check("3600000", 3_600);
        check("366d", 366 * 86_400);
        assert_eq!(Ok(Duration::from_millis(1_500)), parse("1500"));
    }

    #[test]
    fn what_is_refused_is_named() {
        for text in [
            "",
            " ",
            "m",
            "10",
            "999",
            "0",
            "0s",
            "-5m",
            "+5m",
            "1.5h",
            "1h30",
            "30m1h",
            "5m5m",
            "5 m",
            "10M",
            "10min",
            "1y",
            "367d",
            "53w",
            "31622400001",
            "99999999999999999999w",
            "99999999999999999999",
            "18446744073709551615s",
            "1ä",
            "٣m",
        ] {
            let shown = parse(text).expect_err(text).to_string();
            assert!(shown.starts_with("interval `"), "{shown}");
            assert!(shown.ends_with(", for example `1h30m`"), "{shown}");
        }
        let shown = parse("10").expect_err("too short").to_string();
        assert!(shown.contains("a number alone is in milliseconds"), "{shown}");
    }

    #[test]
    fn about_how_long() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (10_800, "3 h"),
            (11_999, "3 h 19 min"),
            (86_400, "1 d"),
            (190_800, "2 d 5 h"),
        ] {
            assert_eq!(shown, rough(Duration::from_secs(seconds)));
        }
    }

    proptest! {
        #[test]
        fn written_is_read_back(ms in 1_000..=31_622_400_000_u64, is_whole in any::<bool>()) {
            let length = Duration::from_millis(if is_whole { ms / 1_000 * 1_000 } else { ms });
            prop_assert_eq!(Ok(length), parse(&format(length)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            if let Ok(length) = parse(&text) {
                prop_assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&length));
            }
        }
    }
}
