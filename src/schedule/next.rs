//! From a schedule to instants: the next one, and what becomes of those that were missed.

use chrono::{DateTime, MappedLocalTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::zone::{Fold, after_gap};
use super::{CronSpec, Schedule, duration};
use crate::ids::UnixMs;
use crate::limits::CATCH_UP_MAX;

/// In seconds since 1970. Later times do not fit all of chrono's types.
const YEAR_9999_END: i64 = 253_402_300_799;
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// What to do about a slot whose time has come, be it late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Run once now, however many slots have passed.
    pub run_now: bool,
    /// The first slot after now. `None`: there is none.
    pub next: Option<UnixMs>,
}

impl Schedule {
    /// The first slot after `after`, by the clocks of `zone`. `None`: there is none, or not
    /// before the year 2101.
    ///
    /// An interval counts from `after`, which therefore has to be a slot or the creation; see
    /// [`Schedule::missed`] for any other time.
    pub fn next_after(&self, after: UnixMs, zone: Tz) -> Option<UnixMs> {
        match self {
            Schedule::Cron(spec) => next_cron(spec, after, zone),
            Schedule::Interval(period) => Some(after.plus(*period)),
            Schedule::Once(at) => (after < *at).then_some(*at),
        }
    }

    /// What the slot `planned` means at `now`: at the claim of a due task, at start, and after a
    /// sleep. On resuming only `next` counts.
    ///
    /// A slot is made up for while it is younger than its period and than 24 hours. Of the slots
    /// from `planned` to `now` the last is always younger than its period, as the next one has
    /// not come; so there is one run if that last slot is younger than 24 hours.
    pub fn missed(&self, planned: UnixMs, now: UnixMs, zone: Tz) -> Missed {
        if now < planned {
            return Missed { run_now: false, next: Some(planned) };
        }
        let horizon = UnixMs(now.0.saturating_sub(UnixMs(0).plus(CATCH_UP_MAX).0));
        let (is_recent, next) = match self {
            Schedule::Cron(_) => (
                self.next_after(horizon, zone).is_some_and(|slot| slot <= now),
                self.next_after(now, zone),
            ),
            Schedule::Interval(period) => {
                // Grid: planned + k * period. Never zero, but a division must not trust that.
                let period = UnixMs(0).plus(*period).0.max(1);
                let last = now.0 - now.0.saturating_sub(planned.0) % period;
                (horizon.0 < last, Some(UnixMs(last.saturating_add(period))))
            }
            Schedule::Once(_) => (false, None),
        };
        Missed { run_now: is_recent || horizon < planned, next }
    }
}

fn next_cron(spec: &CronSpec, after: UnixMs, zone: Tz) -> Option<UnixMs> {
    // Slots are whole seconds: the first after `after` is the first after its second. The crate
    // `cron` knows none outside the years 1970 to 2100.
    let seconds = after.0.div_euclid(1_000).clamp(0, YEAR_9999_END);
    let after = DateTime::from_timestamp(seconds, 0)?;
    let mut local = after.with_timezone(&zone).naive_local();
    if let MappedLocalTime::Ambiguous(first, second) = zone.from_local_datetime(&local) {
        let fold = Fold::between(first, second);
        if spec.is_every_hour() && after < fold.turn {
            // What the clocks have shown they will show again.
            match spec.next_local(local) {
                Some(slot) if slot < fold.end_local => {
                    return Some(UnixMs((slot - fold.offset).and_utc().timestamp_millis()));
                }
                _ => local = fold.first_local - SECOND,
            }
        } else if !spec.is_every_hour() && fold.turn <= after {
            // The first pass counted.
            local = fold.end_local - SECOND;
        }
    }
    loop {
        let slot = spec.next_local(local)?;
        let at = match zone.from_local_datetime(&slot) {
            MappedLocalTime::Single(at) => at.to_utc(),
            MappedLocalTime::Ambiguous(first, _) if after < first => first.to_utc(),
            MappedLocalTime::Ambiguous(_, second) => second.to_utc(),
            MappedLocalTime::None => {
                let end = after_gap(slot, zone)?;
                if spec.is_every_hour() {
                    local = end.with_timezone(&zone).naive_local() - SECOND;
                    continue;
                }
                end
            }
        };
        return Some(UnixMs(at.timestamp_millis()));
    }
}

/// `next` for a person: `Mon 2030-01-31 09:00 Europe/Berlin, in 3 h`.
pub fn describe(next: UnixMs, now: UnixMs, zone: Tz) -> String {
    let is_shown = |at: &DateTime<Utc>| at.timestamp().abs() <= YEAR_9999_END;
    let Some(at) = DateTime::from_timestamp_millis(next.0).filter(is_shown) else {
        return format!("{next} ms after 1970");
    };
    let local = at.with_timezone(&zone).naive_local();
    let is_whole = local.and_utc().timestamp() % 60 == 0;
    let shown = local.format(if is_whole { "%a %Y-%m-%d %H:%M" } else { "%a %Y-%m-%d %H:%M:%S" });
    let distance = if now <= next {
        format!("in {}", duration::rough(next.since(now)))
    } else {
        format!("{} ago", duration::rough(now.since(next)))
    };
    format!("{shown} {zone}, {distance}")
}
