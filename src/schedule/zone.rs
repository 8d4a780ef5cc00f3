//! From what a zone's clocks show to instants, where clocks are changed too.

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

/// When the clocks of `zone` show `local`: the first time where they show it twice, and the first
/// instant after the gap where they skip it.
pub(super) fn instant(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(at.to_utc()),
        MappedLocalTime::None => after_gap(local, zone),
    }
}

/// The first instant after the gap that swallowed `local`.
pub(super) fn after_gap(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    Some(GapInfo::new(&local, &zone)?.end?.to_utc())
}

/// An hour, or another stretch of time, that the clocks show twice.
pub(super) struct Fold {
    /// When the clocks are set back: the second pass begins.
    pub(super) turn: DateTime<Utc>,
    /// The first time shown twice.
    pub(super) first_local: NaiveDateTime,
    /// The first time after that is shown once again.
    pub(super) end_local: NaiveDateTime,
    /// What the clocks are ahead of UTC in the first pass.
    pub(super) offset: FixedOffset,
}

impl Fold {
    /// The fold around the two instants at which the clocks of `zone` show the same.
    pub(super) fn between(first: DateTime<Tz>, second: DateTime<Tz>) -> Fold {
        let (zone, offset) = (first.timezone(), first.offset().fix());
        let (mut before, mut turn) = (first.timestamp(), second.timestamp());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("between two instants");
        while before + 1 < turn {
            let middle = i64::midpoint(before, turn);
            if zone.offset_from_utc_datetime(&at(middle).naive_utc()).fix() == offset {
                before = middle;
            } else {
                turn = middle;
            }
        }
        let turn = at(turn);
        let first_local = turn.with_timezone(&zone).naive_local();
        Fold { turn, first_local, end_local: turn.naive_utc() + offset, offset }
    }
}
