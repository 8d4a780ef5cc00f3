//! Another way to the same answers, for tests: a cron daemon that looks at the clock on the wall.
//!
//! It shares no code with the product: it has its own reader of expressions, uses no crate `cron`,
//! and only ever asks a zone what its clocks show at an instant. Slow, and hence plainly right.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike};
use chrono_tz::Tz;

/// An expression as sets of numbers: second, minute, hour, day of month, month, day of week.
pub(super) struct Crontab {
    /// One bit each.
    fields: [u64; 6],
    days_are_either: bool,
    step_seconds: i64,
}

impl Crontab {
    /// Reads a valid expression.
    pub(super) fn new(text: &str) -> Crontab {
        let text = match text {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            _ => text,
        };
        let mut words: Vec<&str> = text.split(' ').collect();
        let step_seconds = if words.len() == 6 { 1 } else { 60 };
        if words.len() == 5 {
            words.insert(0, "0");
        }
        let bounds = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
        let read = |n: usize| numbers(words[n], bounds[n]);
        Crontab {
            fields: [read(0), read(1), read(2), read(3), read(4), read(5)],
            days_are_either: !words[3].starts_with('*') && !words[5].starts_with('*'),
            step_seconds,
        }
    }

    pub(super) fn is_every_hour(&self) -> bool {
        self.fields[2] == (1 << 24) - 1
    }

    pub(super) fn fits(&self, local: NaiveDateTime) -> bool {
        self.has(0, local.second())
            && self.has(1, local.minute())
            && self.has(2, local.hour())
            && self.fits_date(local.date())
    }

    fn has(&self, field: usize, number: u32) -> bool {
        self.fields[field] & (1 << number) != 0
    }

    fn fits_date(&self, date: NaiveDate) -> bool {
        let weekday = date.weekday().num_days_from_sunday();
        let day = self.has(3, date.day());
        let weekday = self.has(5, weekday) || weekday == 0 && self.has(5, 7);
        self.has(4, date.month())
            && if self.days_are_either { day || weekday } else { day && weekday }
    }

    /// When it runs after `after`, in seconds since 1970: the first `count` times, as far as they
    /// come before `end`.
    pub(super) fn runs(&self, after: i64, end: i64, count: usize, zone: Tz) -> Vec<i64> {
        let step = self.step_seconds;
        // Early enough to have seen what a fold shows again.
        let mut at = after - after.rem_euclid(step) - 4 * 3_600;
        let mut latest = shown(at, zone);
        let mut runs = Vec::new();
        while runs.len() < count && at < end {
            let before = shown(at, zone);
            if let Some(even) = self.quiet_seconds(before)
                && shown(at + even, zone) == before + TimeDelta::seconds(even)
            {
                at += even;
                latest = latest.max(shown(at, zone));
                continue;
            }
            at += step;
            let local = shown(at, zone);
            let is_due = if self.is_every_hour() {
                self.fits(local)
            } else {
                // What is new on the clock, the gap included; nothing in a fold's second pass.
                self.has_slot_within(latest, local)
            };
            latest = latest.max(local);
            if is_due && after < at {
                runs.push(at);
            }
        }
        runs
    }

    /// A stretch without a slot, if there is one that is worth a jump.
    fn quiet_seconds(&self, local: NaiveDateTime) -> Option<i64> {
        let fits_hour = |n| self.has(2, (local + TimeDelta::hours(n)).hour());
        if (0..=1).all(|n| !self.fits_date(local.date() + Days::new(n))) {
            Some(20 * 3_600)
        } else {
            (!fits_hour(0) && !fits_hour(1)).then_some(40 * 60)
        }
    }

    fn has_slot_within(&self, shown: NaiveDateTime, until: NaiveDateTime) -> bool {
        let step = TimeDelta::seconds(self.step_seconds);
        let mut slot = shown;
        while slot < until {
            slot += step;
            if self.fits(slot) {
                return true;
            }
        }
        false
    }
}

/// What the clocks of `zone` show.
pub(super) fn shown(at: i64, zone: Tz) -> NaiveDateTime {
    let at = DateTime::from_timestamp(at, 0).expect("a year of four digits");
    at.with_timezone(&zone).naive_local()
}

fn numbers(text: &str, (first, last): (u32, u32)) -> u64 {
    text.split(',')
        .flat_map(|item| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (low, high) = match range.split_once('-') {
                _ if range == "*" => (first, last),
                Some((low, high)) => (number(low), number(high)),
                None => (number(range), number(range)),
            };
            (low..=high).step_by(step.parse().expect("a step"))
        })
        .fold(0, |numbers, number| numbers | 1 << number)
}

fn number(text: &str) -> u32 {
    let months = "jan feb mar apr may jun jul aug sep oct nov dec";
    let days = "sun mon tue wed thu fri sat";
    let position = |names: &str| names.split(' ').position(|n| n.eq_ignore_ascii_case(text));
    let named = position(months).map(|n| n + 1).or_else(|| position(days));
    named.map_or_else(
        || text.parse().expect("a number"),
        |n| u32::try_from(n).expect("a small number"),
    )
}
