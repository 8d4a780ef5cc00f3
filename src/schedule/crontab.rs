//! crontab(5)'s expressions, read by our own rules and handed to the crate `cron` as plain lists.
//!
//! The crate differs from crontab(5): it wants seconds, counts days of the week from 1 = Sunday,
//! and joins the two day fields by *and*. It finds dates well. So the text is read here, with
//! errors a person can use, and the crate only ever sees lists of checked numbers and times
//! without a zone.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDateTime};

use super::spec::Invalid;
use crate::ids::shown;

/// A set of numbers below 64, one bit each.
type Numbers = u64;

/// One field of an expression and what may stand in it.
struct Field {
    name: &'static str,
    first: u32,
    /// Where `*` ends, and a step without an end.
    last: u32,
    /// The largest number that may be written: 7 is a Sunday too.
    written_max: u32,
    /// The first stands for `first`.
    names: &'static [&'static str],
    example: &'static str,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const fn field(name: &'static str, first: u32, last: u32, example: &'static str) -> Field {
    Field { name, first, last, written_max: last, names: &[], example }
}
const SECOND: Field = field("second", 0, 59, "0");
const MINUTE: Field = field("minute", 0, 59, "*/10");
const HOUR: Field = field("hour", 0, 23, "8-18");
const DAY_OF_MONTH: Field = field("day of month", 1, 31, "1,15");
const MONTH: Field = Field { names: &MONTHS, ..field("month", 1, 12, "JAN-MAR") };
const DAY_OF_WEEK: Field =
    Field { names: &DAYS, written_max: 7, ..field("day of week", 0, 6, "MON-FRI") };

const FIELDS_EXPECTED: &str = "5 fields are expected (minute, hour, day of month, month, day of \
                               week), or 6 with the seconds first";
const WORDS_KNOWN: &str = "`@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and \
                           `@annually` are known";

/// A checked cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronSpec {
    /// One; or two where both day fields are restricted, as a day that fits either one is meant.
    dates: Vec<cron::Schedule>,
    is_every_hour: bool,
}

impl CronSpec {
    /// Reads five fields, six with the seconds first, or one of crontab's words.
    ///
    /// A step without an end (`5/15`) runs to the field's end, which crontab(5) leaves undefined.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn parse(text: &str) -> Result<CronSpec, Invalid> {
        let text = text.trim();
        let expanded = match text.strip_prefix('@') {
            Some(word) => expand(word).ok_or_else(|| unusable(text, WORDS_KNOWN))?,
            None => text,
        };
        let fields: Vec<&str> = expanded.split_ascii_whitespace().collect();
        let (second, minute_on) = match fields.len() {
            5 => ("0", &fields[..]),
            6 => (fields[0], &fields[1..]),
            _ => return Err(unusable(text, FIELDS_EXPECTED)),
        };
        let [minute, hour, day_of_month, month, day_of_week] = *minute_on else {
            unreachable!("5 fields, or what follows the first of 6");
        };
        let times = [SECOND.read(second)?, MINUTE.read(minute)?, HOUR.read(hour)?];
        let (month, days, weekdays) =
            (MONTH.read(month)?, DAY_OF_MONTH.read(day_of_month)?, DAY_OF_WEEK.read(day_of_week)?);
        // Source: cron's `find_jobs`. A field with a leading star counts as unrestricted, be it
        // `*/2`; then a day has to fit both.
        let is_either = !day_of_month.starts_with('*') && !day_of_week.starts_with('*');
        let dates = |days, weekdays| translate(times, days, month, weekdays);
        let dates = if is_either {
            vec![dates(days, DAY_OF_WEEK.all()), dates(DAY_OF_MONTH.all(), weekdays)]
        } else {
            vec![dates(days, weekdays)]
        };
        Ok(CronSpec { dates, is_every_hour: times[2] == HOUR.all() })
    }

    /// Whether it follows the clocks through their changes. See the [module](super).
    pub(super) fn is_every_hour(&self) -> bool {
        self.is_every_hour
    }

    /// The first time of day and date after `local` that the fields name, whether or not any
    /// clock shows it. `None`: not before the year 2101.
    pub(super) fn next_local(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let local = local.max(DateTime::UNIX_EPOCH.naive_utc()).and_utc();
        let next = |dates: &cron::Schedule| dates.after(&local).next();
        self.dates.iter().filter_map(next).min().map(|at| at.naive_utc())
    }
}

/// The fields that a word of crontab(5) stands for.
fn expand(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "hourly" => Some("0 * * * *"),
        "daily" | "midnight" => Some("0 0 * * *"),
        "weekly" => Some("0 0 * * 0"),
        "monthly" => Some("0 0 1 * *"),
        "yearly" | "annually" => Some("0 0 1 1 *"),
        _ => None,
    }
}

fn unusable(text: &str, problem: &str) -> Invalid {
    Invalid::new("cron expression", text, problem, "0 9 * * MON-FRI")
}

/// As the crate wants it.
fn translate(
    [second, minute, hour]: [Numbers; 3],
    days: Numbers,
    month: Numbers,
    weekdays: Numbers,
) -> cron::Schedule {
    let mut text = String::new();
    for (field, numbers, offset) in [
        (SECOND, second, 0),
        (MINUTE, minute, 0),
        (HOUR, hour, 0),
        (DAY_OF_MONTH, days, 0),
        (MONTH, month, 0),
        (DAY_OF_WEEK, weekdays, 1),
    ] {
        if numbers == field.all() {
            text.push_str("* ");
            continue;
        }
        for number in (field.first..=field.last).filter(|n| numbers & (1 << n) != 0) {
            write!(text, "{},", number + offset).expect("a string takes all that is written");
        }
        text.pop();
        text.push(' ');
    }
    text.trim_end().parse().expect("six lists of numbers in range are an expression of the crate")
}

impl Field {
    fn all(&self) -> Numbers {
        (self.first..=self.last).fold(0, |numbers, n| numbers | 1 << n)
    }

    /// The numbers that `text` names; 7 as a day of the week has become 0.
    fn read(&self, text: &str) -> Result<Numbers, Invalid> {
        let mut numbers = 0;
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(self.step(text, step)?)),
                None => (item, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last),
                Some((first, last)) => (self.number(text, first)?, self.last(text, last)?),
                None => {
                    let first = self.number(text, range)?;
                    (first, if step.is_some() { self.last.max(first) } else { first })
                }
            };
            if last < first {
                return Err(
                    self.invalid(text, &format!("the range `{}` runs backwards", shown(range)))
                );
            }
            for number in (first..=last).step_by(step.unwrap_or(1)) {
                numbers |= 1 << if self.last < number { self.first } else { number };
            }
        }
        Ok(numbers)
    }

    /// A range's end, where Sunday comes last: `SAT-SUN`.
    fn last(&self, text: &str, token: &str) -> Result<u32, Invalid> {
        match self.number(text, token)? {
            0 if token.eq_ignore_ascii_case("sun") => Ok(self.written_max),
            number => Ok(number),
        }
    }

    fn number(&self, text: &str, token: &str) -> Result<u32, Invalid> {
        let named = (self.first..).zip(self.names).find(|(_, n)| n.eq_ignore_ascii_case(token));
        if let Some((number, _)) = named {
            return Ok(number);
        }
        let (first, last) = (self.first, self.written_max);
        let number = digits(token);
        let token = shown(token);
        match number {
            Some(number) if (first..=last).contains(&number) => Ok(number),
            Some(_) => Err(self.invalid(text, &format!("`{token}` is not within {first}-{last}"))),
            None if is_foreign(&token) => {
                Err(self.invalid(text, "`L`, `W`, `#` and `?` are not crontab's"))
            }
            None if self.names.is_empty() => {
                Err(self.invalid(text, &format!("`{token}` is not a number")))
            }
            None => {
                let (a, z) = (self.names[0], self.names[self.names.len() - 1]);
                let problem = format!("`{token}` is neither a number nor one of `{a}` to `{z}`");
                Err(self.invalid(text, &problem))
            }
        }
    }

    /// A larger step than the field has values is refused: `*/90` reads like every 90 minutes,
    /// but would mean every hour.
    fn step(&self, text: &str, token: &str) -> Result<usize, Invalid> {
        match digits(token) {
            Some(step) if (1..=self.written_max).contains(&step) => Ok(step as usize),
            _ => {
                let problem =
                    format!("the step `{}` is not within 1-{}", shown(token), self.written_max);
                Err(self.invalid(text, &problem))
            }
        }
    }

    fn invalid(&self, text: &str, problem: &str) -> Invalid {
        Invalid::new(self.name, text, problem, self.example)
    }
}

/// Digits only, where `str::parse` would take a sign too.
fn digits(token: &str) -> Option<u32> {
    token.parse().ok().filter(|_| token.bytes().all(|b| b.is_ascii_digit()))
}

/// Written for Quartz or its kind.
fn is_foreign(token: &str) -> bool {
    let letters = token.trim_matches(|c: char| c.is_ascii_digit());
    token.contains(['?', '#']) || matches!(letters, "L" | "W" | "LW")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, same: &str) {
        let read = |text| CronSpec::parse(text).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert_eq!(read(same), read(text), "{text}");
    }

    fn refused(text: &str, shown: &str) {
        let invalid = CronSpec::parse(text).expect_err(text);
        assert_eq!(shown, invalid.to_string());
    }

    #[test]
    fn words_names_steps_and_sundays() {
        check("@hourly", "0 * * * *");
        check("@Daily", "0 0 * * *");
        check("@midnight", "0 0 * * *");
        check("@weekly", "0 0 * * 7");
        check("@monthly", "0 0 1 * *");
        check("@yearly", "0 0 1 JAN *");
        check(" @annually ", "0  0\t1 1 *");
        check("0 0 9 * * 1", "0 9 * * MON");
        check("0 9 * * mon-Fri", "0 9 * * 1,2,3,4,5");
        check("0 9 * * SAT-SUN", "0 9 * * 6,0");
        check("0 9 * * SUN-SAT", "0 9 * * *");
        check("0 9 * * 5-7", "0 9 * * 0,5,6");
        check("0 9 * * */7", "0 9 * * */7,0");
        check("0 9 * * 0-7/7", "0 9 * * 0");
        check("0 9 * * 5/1", "0 9 * * 5,6");
        check("*/25 9 * * *", "0,25,50 9 * * *");
        check("5/20 9 * * *", "5,25,45 9 * * *");
        check("10-20/5,0 09 * feb-APR/2 *", "0,10,15,20 9 * 2,4 *");
        check("0 0-23 * * *", "0 */1 * * *");
        check("5-5 1 * * *", "5 1 * * *");
        assert_ne!(CronSpec::parse("0 9 1 * */2"), CronSpec::parse("0 9 1 * 0,2,4,6"));
    }

    #[test]
    fn what_is_refused_is_named() {
        refused("61 * * * *", "minute `61`: `61` is not within 0-59, for example `*/10`");
        refused("* 24 * * *", "hour `24`: `24` is not within 0-23, for example `8-18`");
        refused("* * 0 * *", "day of month `0`: `0` is not within 1-31, for example `1,15`");
        refused("* * * 13 *", "month `13`: `13` is not within 1-12, for example `JAN-MAR`");
        refused("* * * * 8", "day of week `8`: `8` is not within 0-7, for example `MON-FRI`");
        refused("60 * * * * *", "second `60`: `60` is not within 0-59, for example `0`");
        refused("9-5 * * * *", "minute `9-5`: the range `9-5` runs backwards, for example `*/10`");
        refused(
            "*/90 * * * *",
            "minute `*/90`: the step `90` is not within 1-59, for example `*/10`",
        );
        refused(
            "0 9 * * MONDAY",
            "day of week `MONDAY`: `MONDAY` is neither a number nor one of `sun` to `sat`, for \
             example `MON-FRI`",
        );
        let known = "`@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and \
                     `@annually` are known, for example `0 9 * * MON-FRI`";
        refused("@reboot", &format!("cron expression `@reboot`: {known}"));
        refused("@every 5m", &format!("cron expression `@every 5m`: {known}"));
        let count = "5 fields are expected (minute, hour, day of month, month, day of week), or \
                     6 with the seconds first, for example `0 9 * * MON-FRI`";
        for text in ["", "* * * *", "* * * * * * *"] {
            refused(text, &format!("cron expression `{text}`: {count}"));
        }
        for (field, text) in [
            ("day of month", "0 9 L * *"),
            ("day of month", "0 9 15W * *"),
            ("day of month", "0 9 LW * *"),
            ("day of month", "0 9 ? * MON"),
            ("day of week", "0 9 * * ?"),
            ("day of week", "0 9 * * 5L"),
            ("day of week", "0 9 * * MON#2"),
        ] {
            let shown = CronSpec::parse(text).expect_err(text).to_string();
            assert!(shown.starts_with(field), "{shown}");
            assert!(shown.contains("`L`, `W`, `#` and `?` are not crontab's"), "{shown}");
        }
    }

    #[test]
    fn nothing_odd_gets_through() {
        for minute in [
            "",
            ",",
            "1,",
            ",1",
            "-",
            "1-",
            "-1",
            "+1",
            "1-2-3",
            "/",
            "/5",
            "*/",
            "*/0",
            "*/-1",
            "1/2/3",
            "**",
            "*-5",
            "5*",
            "*1",
            "1.5",
            "0x5",
            "٣",
            "99999999999",
            "jan",
            "~",
            "H",
        ] {
            for text in [format!("{minute} * * * *"), format!("* {minute} * * * *")] {
                // An empty field shifts the others, so that one is missing.
                let is_empty = minute.is_empty() && text.starts_with('*');
                assert_eq!(is_empty, CronSpec::parse(&text).is_ok(), "{text}");
            }
        }
    }
}
