//! What a task's owner wrote, checked: `cron`, `interval` or `once`.

use std::time::Duration;

use chrono::{FixedOffset, NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

use super::{CronSpec, duration, zone};
use crate::ids::{UnixMs, shown};

/// Why a text is no schedule. Shown: ``minute `61`: `61` is not within 0-59, for example `*/10` ``.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} `{text}`: {problem}, for example `{example}`")]
pub struct Invalid {
    field: &'static str,
    text: String,
    problem: String,
    example: &'static str,
}

impl Invalid {
    /// `problem` is our own text; what it quotes has been through [`shown`].
    pub(super) fn new(
        field: &'static str,
        text: &str,
        problem: &str,
        example: &'static str,
    ) -> Invalid {
        Invalid { field, text: shown(text), problem: problem.to_owned(), example }
    }
}

/// When a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By crontab(5)'s fields.
    Cron(CronSpec),
    /// Once per period, counted from the creation.
    Interval(Duration),
    /// At one instant.
    Once(UnixMs),
}

impl Schedule {
    /// Checks what a new task is to have; `kind` is `cron`, `interval` or `once`.
    ///
    /// # Errors
    /// [`Invalid`]: as for [`Schedule::stored`]; also where nothing would ever run: an instant
    /// that is past at `now`, a date like 30 February.
    pub fn parse(kind: &str, value: &str, zone: Tz, now: UnixMs) -> Result<Schedule, Invalid> {
        let schedule = Schedule::stored(kind, value, zone)?;
        if schedule.next_after(now, zone).is_some() {
            return Ok(schedule);
        }
        Err(match schedule {
            Schedule::Once(_) => once_invalid(value, "is past"),
            _ => Invalid::new("cron expression", value, "has no such date", "0 9 28 FEB *"),
        })
    }

    /// Reads back what was checked at creation, which may be past by now.
    ///
    /// # Errors
    /// [`Invalid`]: unknown kind, or a value that does not have the kind's form.
    pub fn stored(kind: &str, value: &str, zone: Tz) -> Result<Schedule, Invalid> {
        match kind {
            "cron" => CronSpec::parse(value).map(Schedule::Cron),
            "interval" => duration::parse(value).map(Schedule::Interval),
            "once" => once(value, zone).map(Schedule::Once),
            _ => Err(Invalid::new(
                "schedule kind",
                kind,
                "`cron`, `interval` and `once` are known",
                "cron",
            )),
        }
    }
}

fn once_invalid(text: &str, problem: &str) -> Invalid {
    Invalid::new("once", text, problem, "2030-01-31T09:00")
}

/// ISO 8601, date and time of day; without an offset it is what the clocks of `zone` show.
fn once(text: &str, zone: Tz) -> Result<UnixMs, Invalid> {
    let text = text.trim();
    let invalid = |problem: &str| once_invalid(text, problem);
    if is_date(text) {
        return Err(invalid("has no time of day"));
    }
    let (date, clock) = text
        .split_once(['T', 't', ' '])
        .filter(|(date, _)| is_date(date))
        .ok_or_else(|| invalid("is not a date and time like `YYYY-MM-DDTHH:MM`"))?;
    let date: NaiveDate = date.parse().map_err(|_| invalid("its date does not exist"))?;
    let (time, offset) = match clock.find(['Z', 'z', '+', '-']) {
        Some(at) => (&clock[..at], Some(&clock[at..])),
        None => (clock, None),
    };
    let time = time_of_day(time).ok_or_else(|| invalid("its time of day is not like `HH:MM`"))?;
    let local = date.and_time(time);
    let at = match offset {
        None => zone::instant(local, zone),
        Some(text) => {
            let offset =
                offset_of(text).ok_or_else(|| invalid("its offset is not `Z` or like `+01:00`"))?;
            offset.from_local_datetime(&local).single().map(|at| at.to_utc())
        }
    };
    at.map(|at| UnixMs(at.timestamp_millis())).ok_or_else(|| invalid("is out of range"))
}

/// Four, two and two digits, where chrono would take fewer.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().zip(*b"dddd-dd-dd").all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

/// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.fff`.
fn time_of_day(text: &str) -> Option<NaiveTime> {
    let is_padded = text.split(['.', ',']).next()?.split(':').all(|part| part.len() == 2);
    let text = text.replace(',', ".");
    let time = ["%H:%M", "%H:%M:%S", "%H:%M:%S%.f"]
        .iter()
        .find_map(|form| NaiveTime::parse_from_str(&text, form).ok())?;
    is_padded.then_some(time)
}

/// `Z`, `+01:00`, `+0100`, `+01`.
fn offset_of(text: &str) -> Option<FixedOffset> {
    if text.eq_ignore_ascii_case("z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, rest) = text.split_at(1);
    // Forms that chrono would take too, with blanks or seconds, are not ISO 8601's.
    let padded = match rest.len() {
        2 => format!("{text}:00"),
        4 => format!("{sign}{}:{}", rest.get(..2)?, rest.get(2..)?),
        5 if rest.as_bytes()[2] == b':' => text.to_owned(),
        _ => return None,
    };
    padded.parse().ok()
}
