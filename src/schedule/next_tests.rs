//! Slots, gaps and folds by name, and properties of all schedules.

use std::iter::successors;

use chrono::DateTime;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::oracle::{Crontab, shown};
use super::{Missed, Schedule, describe};
use crate::ids::UnixMs;

const BERLIN: Tz = Tz::Europe__Berlin;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> UnixMs {
    UnixMs(DateTime::parse_from_rfc3339(text).expect(text).timestamp_millis())
}

fn stored(kind: &str, value: &str, zone: Tz) -> Schedule {
    Schedule::stored(kind, value, zone).unwrap_or_else(|invalid| panic!("{invalid}"))
}

fn runs(schedule: &Schedule, after: UnixMs, zone: Tz) -> impl Iterator<Item = UnixMs> {
    successors(Some(after), move |at| schedule.next_after(*at, zone)).skip(1)
}

/// The runs after `start`, each with its offset, up to as many as are expected.
fn check(expression: &str, zone: Tz, start: &str, expected: &[&str]) {
    let schedule = stored("cron", expression, zone);
    let shown: Vec<String> = runs(&schedule, at(start), zone)
        .take(expected.len())
        .map(|at| DateTime::from_timestamp_millis(at.0).expect("a time").with_timezone(&zone))
        .map(|at| at.format("%m-%d %H:%M:%S%:z").to_string())
        .map(|text| text.replace(":00+", "+").replace(":00-", "-"))
        .collect();
    assert_eq!(expected, shown, "`{expression}` {zone} from {start}");
}

#[test]
fn h44_a_time_in_the_gap_runs_once_right_after_it() {
    let eve = "2024-03-30T12:00:00+01:00";
    let expected = ["03-31 03:00+02:00", "04-01 02:30+02:00"];
    check("30 2 * * *", BERLIN, eve, &expected);
    // Six slots, one run.
    check("*/10 2 * * *", BERLIN, eve, &["03-31 03:00+02:00", "04-01 02:00+02:00"]);
    // It falls together with the slot of three o'clock.
    check(
        "0,30 2,3 * * *",
        BERLIN,
        eve,
        &["03-31 03:00+02:00", "03-31 03:30+02:00", "04-01 02:00+02:00"],
    );
    check("15 30 2 * * *", BERLIN, eve, &["03-31 03:00+02:00", "04-01 02:30:15+02:00"]);
    // At the last moment before the gap, and at its end.
    check("30 2 * * *", BERLIN, "2024-03-31T01:59:59.999+01:00", &expected);
    check("30 2 * * *", BERLIN, "2024-03-31T03:00:00+02:00", &expected[1..]);
    // Midnight itself does not exist.
    let sao_paulo = Tz::America__Sao_Paulo;
    let eve = "2018-11-03T12:00:00-03:00";
    check("@daily", sao_paulo, eve, &["11-04 01:00-02:00", "11-05 00:00-02:00"]);
    check("0 */6 * * *", sao_paulo, eve, &["11-03 18:00-03:00", "11-04 01:00-02:00"]);
    // Half an hour, and a whole day.
    check(
        "15 2 * * *",
        Tz::Australia__Lord_Howe,
        "2023-09-30T12:00:00+10:30",
        &["10-01 02:30+11:00", "10-02 02:15+11:00"],
    );
    check("0 9 30 12 *", Tz::Pacific__Apia, "2011-12-29T12:00:00-10:00", &["12-31 00:00+14:00"]);
}

#[test]
fn h44_a_time_in_the_fold_runs_once_the_first_time() {
    let eve = "2024-10-26T12:00:00+02:00";
    let expected = ["10-27 02:30+02:00", "10-28 02:30+01:00"];
    check("30 2 * * *", BERLIN, eve, &expected);
    check("30 2 * * *", BERLIN, "2024-10-27T02:29:59+02:00", &expected);
    // From the first run to the end of the second pass there is no other.
    for start in ["02:30:00+02:00", "02:00:00+01:00", "02:29:59+01:00", "02:59:59.999+01:00"] {
        check("30 2 * * *", BERLIN, &format!("2024-10-27T{start}"), &expected[1..]);
    }
    check("30 2,3 * * *", BERLIN, "2024-10-27T02:10:00+01:00", &["10-27 03:30+01:00"]);
    check("0 3 * * *", BERLIN, "2024-10-27T02:10:00+01:00", &["10-27 03:00+01:00"]);
    check(
        "*/30 */2 * * *",
        BERLIN,
        "2024-10-27T01:00:00+02:00",
        &["10-27 02:00+02:00", "10-27 02:30+02:00", "10-27 04:00+01:00"],
    );
    check(
        "45 23 * * *",
        Tz::America__Sao_Paulo,
        "2018-02-17T12:00:00-02:00",
        &["02-17 23:45-02:00", "02-18 23:45-03:00"],
    );
}

#[test]
fn h44_what_runs_every_hour_keeps_real_time() {
    check(
        "30 * * * *",
        BERLIN,
        "2024-03-31T01:00:00+01:00",
        &["03-31 01:30+01:00", "03-31 03:30+02:00", "03-31 04:30+02:00"],
    );
    check(
        "30 0-23 * * *",
        BERLIN,
        "2024-10-27T02:00:00+02:00",
        &["10-27 02:30+02:00", "10-27 02:30+01:00", "10-27 03:30+01:00"],
    );
    // The second pass ends a date's last day over again.
    check(
        "50 * 17 * *",
        Tz::America__Sao_Paulo,
        "2018-02-17T23:00:00-02:00",
        &["02-17 23:50-02:00", "02-17 23:50-03:00", "03-17 00:50-03:00"],
    );
    for (zone, change) in [
        (BERLIN, "2024-03-31T01:00:00Z"),
        (BERLIN, "2024-10-27T01:00:00Z"),
        (Tz::Australia__Lord_Howe, "2023-04-01T15:00:00Z"),
        (Tz::Australia__Lord_Howe, "2023-09-30T15:30:00Z"),
        (Tz::America__Sao_Paulo, "2018-02-18T02:00:00Z"),
        (Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),
    ] {
        let (start, schedule) = (at(change).0 - 3 * HOUR, stored("cron", "*/10 * * * *", zone));
        let found: Vec<i64> =
            runs(&schedule, UnixMs(start), zone).take(40).map(|at| at.0).collect();
        let even: Vec<i64> = (1..=40).map(|n| start + n * 10 * MINUTE).collect();
        assert_eq!(even, found, "{zone} {change}");
    }
}

#[test]
fn either_day_unless_a_star_leads() {
    let start = "2024-04-02T12:00:00+02:00";
    check(
        "30 4 1,15 * 5",
        BERLIN,
        start,
        &["04-05 04:30+02:00", "04-12 04:30+02:00", "04-15 04:30+02:00", "04-19 04:30+02:00"],
    );
    check("30 4 */14 * 5", BERLIN, start, &["11-01 04:30+01:00", "11-15 04:30+01:00"]);
    check("0 9 * * 7", BERLIN, start, &["04-07 09:00+02:00", "04-14 09:00+02:00"]);
    check("0 0 9 * * 1", BERLIN, start, &["04-08 09:00+02:00", "04-15 09:00+02:00"]);
    check("0 12 29 2 *", BERLIN, start, &["02-29 12:00+01:00"]);
}

#[test]
fn h40_an_interval_keeps_its_grid_and_a_gap_costs_one_run() {
    let schedule = stored("interval", "10m", BERLIN);
    let start = at("2024-10-27T00:00:00Z");
    let mut planned = schedule.next_after(start, BERLIN).expect("an interval goes on");
    // Runs of 3 minutes, started a little late, while the clocks change.
    for n in 1..=12 {
        assert_eq!(start.0 + n * 10 * MINUTE, planned.0);
        let claimed_at = UnixMs(planned.0 + 3 * MINUTE + n);
        let missed = schedule.missed(planned, claimed_at, BERLIN);
        assert!(missed.run_now);
        planned = missed.next.expect("an interval goes on");
    }
    // Asleep for 5 h 7 min: one run, then the grid.
    let awake = UnixMs(planned.0 + 5 * HOUR + 7 * MINUTE);
    let next = UnixMs(planned.0 + 5 * HOUR + 10 * MINUTE);
    assert_eq!(Missed { run_now: true, next: Some(next) }, schedule.missed(planned, awake, BERLIN));
    assert!(!schedule.missed(next, awake, BERLIN).run_now);
}

#[test]
fn h40_a_missed_slot_runs_once_while_younger_than_its_period_and_a_day() {
    let missed = |kind, value, planned: &str, now: &str| {
        let missed = stored(kind, value, BERLIN).missed(at(planned), at(now), BERLIN);
        (missed.run_now, missed.next.map(|next| next.0))
    };
    let next = |text| Some(at(text).0);
    let monday = "2024-06-03T09:00:00+02:00";
    for (kind, value, now, expected) in [
        (
            "cron",
            "0 9 * * *",
            "2024-06-03T09:00:00+02:00",
            (true, next("2024-06-04T09:00:00+02:00")),
        ),
        ("cron", "0 9 * * *", "2024-06-03T08:59:59+02:00", (false, next(monday))),
        // Down for a week: Monday's slot to Sunday's make one run, as Sunday's is an hour old.
        (
            "cron",
            "0 9 * * *",
            "2024-06-09T10:00:00+02:00",
            (true, next("2024-06-10T09:00:00+02:00")),
        ),
        (
            "cron",
            "0 9 * * MON",
            "2024-06-04T08:59:59+02:00",
            (true, next("2024-06-10T09:00:00+02:00")),
        ),
        (
            "cron",
            "0 9 * * MON",
            "2024-06-04T09:00:00+02:00",
            (false, next("2024-06-10T09:00:00+02:00")),
        ),
        (
            "cron",
            "* * * * * *",
            "2034-06-04T09:00:00+02:00",
            (true, next("2034-06-04T09:00:01+02:00")),
        ),
        ("interval", "2d", "2024-06-04T08:59:59+02:00", (true, next("2024-06-05T09:00:00+02:00"))),
        ("interval", "2d", "2024-06-04T09:00:00+02:00", (false, next("2024-06-05T09:00:00+02:00"))),
        ("interval", "1s", "2034-06-04T09:00:00+02:00", (true, next("2034-06-04T09:00:01+02:00"))),
        ("once", monday, "2024-06-03T08:00:00+02:00", (false, next(monday))),
        ("once", monday, "2024-06-04T08:59:59+02:00", (true, None)),
        ("once", monday, "2024-06-04T09:00:00+02:00", (false, None)),
    ] {
        assert_eq!(expected, missed(kind, value, monday, now), "{kind} `{value}` at {now}");
    }
}

#[test]
fn h43_resuming_means_the_next_slot_in_the_future() {
    let planned = at("2024-06-03T09:00:00+02:00");
    let resumed_at = UnixMs(planned.0 + 40 * DAY + 25 * MINUTE + 1);
    for (kind, value, expected) in [
        ("cron", "0 9 * * *", "2024-07-14T09:00:00+02:00"),
        ("cron", "@hourly", "2024-07-13T10:00:00+02:00"),
        ("interval", "10m", "2024-07-13T09:30:00+02:00"),
        ("interval", "7d", "2024-07-15T09:00:00+02:00"),
    ] {
        let next = stored(kind, value, BERLIN).missed(planned, resumed_at, BERLIN).next;
        assert_eq!(Some(at(expected)), next, "{kind} `{value}`");
    }
    // A pause that ended before the slot does not move it.
    let early = UnixMs(planned.0 - 1);
    let schedule = stored("interval", "10m", BERLIN);
    assert_eq!(Some(planned), schedule.missed(planned, early, BERLIN).next);
}

#[test]
fn h44_once_without_an_offset_is_local_and_the_past_is_refused() {
    let now = at("2024-01-01T00:00:00Z");
    let check = |text: &str, zone, expected: &str| {
        let found = Schedule::parse("once", text, zone, now);
        assert_eq!(Ok(Schedule::Once(at(expected))), found, "{text}");
    };
    check("2024-06-03T09:00", BERLIN, "2024-06-03T09:00:00+02:00");
    check(" 2024-06-03 09:00:30 ", BERLIN, "2024-06-03T09:00:30+02:00");
    check("2024-06-03t09:00:30.250", BERLIN, "2024-06-03T09:00:30.250+02:00");
    check("2024-06-03T09:00", Tz::Asia__Kathmandu, "2024-06-03T09:00:00+05:45");
    check("2024-06-03T09:00:00.000Z", BERLIN, "2024-06-03T11:00:00+02:00");
    check("2024-06-03T09:00z", BERLIN, "2024-06-03T11:00:00+02:00");
    check("2024-06-03T09:00-03:30", BERLIN, "2024-06-03T12:30:00Z");
    check("2024-06-03T09:00+0530", BERLIN, "2024-06-03T03:30:00Z");
    check("2024-06-03T09:00+02", BERLIN, "2024-06-03T07:00:00Z");
    // Gap and fold.
    check("2024-03-31T02:30", BERLIN, "2024-03-31T03:00:00+02:00");
    check("2024-10-27T02:30", BERLIN, "2024-10-27T02:30:00+02:00");
    check("2024-10-27T02:30+01:00", BERLIN, "2024-10-27T02:30:00+01:00");
    check("2024-01-01T01:00:00.001", BERLIN, "2024-01-01T00:00:00.001Z");

    let refused = |text: &str, problem: &str| {
        let invalid = Schedule::parse("once", text, BERLIN, now).expect_err(text);
        let expected = format!("once `{text}`: {problem}, for example `2030-01-31T09:00`");
        assert_eq!(expected, invalid.to_string());
    };
    refused("2024-01-01T01:00", "is past");
    refused("2023-12-31T23:59:59Z", "is past");
    refused("0000-01-01T00:00", "is past");
    refused("2024-06-03", "has no time of day");
    let form = "is not a date and time like `YYYY-MM-DDTHH:MM`";
    refused("2024-02-30T09:00", "its date does not exist");
    for date in ["24-06-03", "2024-6-3", "03.06.2024", "2024-155", "+2024-06-03", ""] {
        refused(&format!("{date}T09:00"), form);
    }
    for time in ["9:00", "9", "09", "24:00", "09:60", "09:00:61", "09:00:00.", "0900", "09:00pm"] {
        refused(&format!("2024-06-03T{time}"), "its time of day is not like `HH:MM`");
    }
    for offset in [
        "+",
        "Z1",
        "+1",
        "+25:00",
        "+01:00:00",
        "-x",
        "+01:00[Europe/Berlin]",
        "ZZ",
        "+01 00",
        "+1:00",
        "+0100Z",
        "Z0100",
        "+0 :00",
    ] {
        let problem = "its offset is not `Z` or like `+01:00`";
        refused(&format!("2024-06-03T09:00{offset}"), problem);
    }
    for text in ["", "tomorrow", "1717398000000"] {
        refused(text, form);
    }
}

#[test]
fn what_never_runs_is_refused_at_creation_only() {
    let now = at("2024-01-01T00:00:00Z");
    for never in ["0 9 30 2 *", "0 9 31 4,6,9,11 *", "0 9 31-31 FEB */2"] {
        let invalid = Schedule::parse("cron", never, BERLIN, now).expect_err(never);
        let expected =
            format!("cron expression `{never}`: has no such date, for example `0 9 28 FEB *`");
        assert_eq!(expected, invalid.to_string());
        assert_eq!(None, stored("cron", never, BERLIN).next_after(now, BERLIN));
    }
    // Either day will do.
    assert!(Schedule::parse("cron", "0 9 30 2 MON", BERLIN, now).is_ok());
    stored("once", "1999-01-01T00:00", BERLIN);
    let invalid = Schedule::parse("hourly", "1", BERLIN, now).expect_err("no kind");
    assert_eq!(
        "schedule kind `hourly`: `cron`, `interval` and `once` are known, for example `cron`",
        invalid.to_string()
    );
}

#[test]
fn the_ends_of_time_are_no_slots() {
    let schedule = stored("cron", "* * * * *", BERLIN);
    let end = at("2100-12-31T23:58:30+01:00");
    check("* * * * *", BERLIN, "2100-12-31T23:58:30+01:00", &["12-31 23:59+01:00"]);
    assert_eq!(1, runs(&schedule, end, BERLIN).count());
    // The second two are chrono's own ends.
    for far in
        [i64::MAX, i64::MIN, 8_210_266_876_799_999, -8_334_601_228_800_000, 253_402_300_800_000]
    {
        assert_eq!(None, schedule.next_after(UnixMs(far), BERLIN).filter(|at| at.0 < far));
        for schedule in [
            &schedule,
            &stored("interval", "10m", BERLIN),
            &stored("once", "2024-01-01T00:00", BERLIN),
        ] {
            for planned in [i64::MIN, 0, far] {
                let missed = schedule.missed(UnixMs(planned), UnixMs(far), BERLIN);
                assert!(missed.next.is_none_or(|next| far <= next.0), "{schedule:?} {far}");
            }
        }
        describe(UnixMs(far), UnixMs(0), BERLIN);
        describe(UnixMs(0), UnixMs(far), BERLIN);
    }
    check("0 0 1 1 *", Tz::UTC, "1960-06-01T00:00:00Z", &["01-01 00:00+00:00"]);
}

#[test]
fn described_in_the_zone_with_its_name_and_the_distance() {
    let now = at("2024-06-03T06:00:00+02:00");
    for (next, zone, expected) in [
        ("2024-06-03T09:00:00+02:00", BERLIN, "Mon 2024-06-03 09:00 Europe/Berlin, in 3 h"),
        ("2024-06-03T09:00:15+02:00", BERLIN, "Mon 2024-06-03 09:00:15 Europe/Berlin, in 3 h"),
        (
            "2024-06-05T11:30:00+02:00",
            Tz::Asia__Kathmandu,
            "Wed 2024-06-05 15:15 Asia/Kathmandu, in 2 d 5 h",
        ),
        ("2024-06-03T05:18:00+02:00", BERLIN, "Mon 2024-06-03 05:18 Europe/Berlin, 42 min ago"),
    ] {
        assert_eq!(expected, describe(at(next), now, zone));
    }
}

/// A zone and an instant near a change of its clocks, or anywhere.
fn moment() -> impl Strategy<Value = (Tz, i64)> {
    let near = prop::sample::select(vec![
        (BERLIN, "2024-03-31T01:00:00Z"),
        (BERLIN, "2024-10-27T01:00:00Z"),
        (Tz::America__New_York, "2024-03-10T07:00:00Z"),
        (Tz::America__New_York, "2024-11-03T06:00:00Z"),
        (Tz::Australia__Lord_Howe, "2023-04-01T15:00:00Z"),
        (Tz::Australia__Lord_Howe, "2023-09-30T15:30:00Z"),
        (Tz::America__Sao_Paulo, "2018-02-18T02:00:00Z"),
        (Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),
        (Tz::Africa__Casablanca, "2024-03-10T02:00:00Z"),
        (Tz::Antarctica__Troll, "2024-03-31T01:00:00Z"), // Two hours.
        (Tz::Antarctica__Troll, "2024-10-27T01:00:00Z"),
        (Tz::Pacific__Apia, "2011-12-30T10:00:00Z"), // A day.
        (Tz::Asia__Kathmandu, "2024-06-01T00:00:00Z"),
    ]);
    (near, -30 * HOUR..30 * HOUR).prop_map(|((zone, change), offset)| (zone, at(change).0 + offset))
}

fn expression() -> impl Strategy<Value = String> {
    let field = |choices: &'static [&'static str]| prop::sample::select(choices);
    (
        field(&["*", "0", "30", "*/7", "*/10", "59", "5-20/5,45"]),
        field(&["*", "*", "2", "0", "1-3", "*/2", "0-23", "23,0,1", "1", "*/6", "3"]),
        field(&["*", "*", "*", "27,31", "*/2", "1-15"]),
        field(&["*", "*", "MAR,OCT,NOV,FEB", "*/3"]),
        field(&["*", "*", "*", "SUN", "1-5", "*/3", "7"]),
    )
        .prop_map(|(minute, hour, day, month, weekday)| {
            format!("{minute} {hour} {day} {month} {weekday}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Three days, minute by minute: nothing lost, nothing twice, nothing else.
    #[test]
    fn three_days_are_those_of_a_daemon((zone, start) in moment(), text in expression()) {
        let schedule = stored("cron", &text, zone);
        let end = start + 3 * DAY;
        let found: Vec<i64> = runs(&schedule, UnixMs(start), zone)
            .map(|at| at.0)
            .take_while(|at| *at < end)
            .collect();
        prop_assert!(found.is_sorted_by(|earlier, later| earlier < later));
        prop_assert!(found.iter().all(|at| start < *at && at % MINUTE == 0));
        let (first, last) = (start.div_euclid(1_000), end / 1_000);
        let daemon = Crontab::new(&text).runs(first, last, usize::MAX, zone);
        let daemon: Vec<i64> = daemon.iter().map(|at| at * 1_000).filter(|at| *at < end).collect();
        prop_assert_eq!(daemon, found);
    }

    /// Where no clock is changed (not since 1986), a run is a minute that the fields name.
    #[test]
    fn a_run_fits_its_fields(
        start in 1_000_000_000_000..4_000_000_000_000_i64,
        text in expression(),
    ) {
        let zone = Tz::Asia__Kathmandu;
        let next = stored("cron", &text, zone).next_after(UnixMs(start), zone);
        let next = next.expect("these all run some day");
        prop_assert!(start < next.0);
        prop_assert!(Crontab::new(&text).fits(shown(next.0 / 1_000, zone)));
    }

    /// A later question never has an earlier answer, and none is skipped.
    #[test]
    fn asking_in_between_changes_nothing(
        (zone, start) in moment(),
        text in expression(),
        later in 0..2 * DAY,
    ) {
        let schedule = stored("cron", &text, zone);
        let next = |after| schedule.next_after(UnixMs(after), zone).expect("these all run").0;
        let (first, second) = (next(start), next(start + later));
        prop_assert!(first <= second);
        if start + later < first {
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn h40_an_interval_never_leaves_its_grid(
        period in 1_000..100_000_000_i64,
        planned in 0..2_000_000_000_000_i64,
        late in 0..2_000_000_000_i64,
    ) {
        let schedule = stored("interval", &period.to_string(), BERLIN);
        let now = planned + late;
        let missed = schedule.missed(UnixMs(planned), UnixMs(now), BERLIN);
        let next = missed.next.expect("an interval goes on").0;
        prop_assert!(now < next && next <= now + period);
        prop_assert_eq!(0, (next - planned) % period);
        prop_assert_eq!(now - (next - period) < DAY, missed.run_now);
    }

    /// The short way to "is there a slot to make up for" is the long way's.
    #[test]
    fn h40_missed_is_what_walking_all_slots_says(
        (zone, planned) in moment(),
        text in expression(),
        late in 0..4 * DAY,
    ) {
        let schedule = stored("cron", &text, zone);
        let planned = schedule.next_after(UnixMs(planned), zone).expect("these all run");
        let now = UnixMs(planned.0 + late);
        let mut last = planned;
        while let Some(next) = schedule.next_after(last, zone).filter(|next| *next <= now) {
            last = next;
        }
        let missed = schedule.missed(planned, now, zone);
        prop_assert_eq!(now.0 - last.0 < DAY, missed.run_now);
        prop_assert_eq!(schedule.next_after(last, zone), missed.next);
    }

    #[test]
    fn any_text_is_answered(kind in "cron|interval|once", text in ".{0,40}") {
        if let Err(invalid) = Schedule::parse(&kind, &text, BERLIN, UnixMs(0)) {
            prop_assert!(!invalid.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn any_fields_are_answered(text in r"[0-9*/,@LW?# -]{0,24}") {
        if let Ok(schedule) = Schedule::parse("cron", &text, BERLIN, UnixMs(0)) {
            prop_assert!(schedule.next_after(UnixMs(0), BERLIN).is_some());
        }
    }
}
