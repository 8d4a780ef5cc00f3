//! Our answers against those of two other implementations, kept in `tests/data`.
//!
//! 2,200 expressions, 6 zones, starts around changes of the clock, 4 runs each. Where the two
//! agree with each other, so do we, but for the differences listed in [`DELIBERATE`]. Where they
//! do not, the rule of [the module](super) decides, as played by [the daemon](Crontab).

use std::collections::BTreeMap;
use std::iter::successors;

use chrono::{MappedLocalTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use super::Schedule;
use super::oracle::{Crontab, shown};
use crate::ids::UnixMs;

const EXPRESSIONS: &str = include_str!("../../tests/data/next-run-expressions.txt");
const STARTS: &str = include_str!("../../tests/data/next-run-starts.tsv");
const CRON_PARSER: &str = include_str!("../../tests/data/next-run-cron-parser.tsv");
const CRONITER: &str = include_str!("../../tests/data/next-run-croniter.tsv");
/// Starts per expression and zone.
const TURNS: usize = 2;

/// Every way in which one of the two differs from us, and how often.
const DIFFERENCES: [(&str, Difference, u32); 8] = [
    ("cron-parser", Difference::NoAnswer, 130),
    ("cron-parser", Difference::EitherDay, 1_198),
    ("cron-parser", Difference::GapByTheHour, 479),
    ("cron-parser", Difference::FoldAgain, 211),
    ("cron-parser", Difference::HalfAnHour, 66),
    ("croniter", Difference::GapBySecond, 15),
    ("croniter", Difference::FoldAgain, 421),
    ("croniter", Difference::HalfAnHour, 2),
];
/// Of 26,400 questions, those on which all three agree.
const AGREED: u32 = 24_106;
/// Those on which the two agree, and we differ: asked in the middle of a fold's second pass they
/// do not know of the first (211), and they lose a slot of a fold of half an hour (2).
const DELIBERATE: [(Difference, u32); 2] =
    [(Difference::FoldAgain, 211), (Difference::HalfAnHour, 2)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// It has no answer: an error of its own, not of the expression.
    NoAnswer,
    /// It runs on days that fit either day field though one of them starts with a star. cron's
    /// `find_jobs` then wants both. (`croniter` does too, by a switch.)
    EitherDay,
    /// What a gap swallows, it runs an hour later, minute by minute, or not at all, and we at the
    /// gap's end. cron(8): "those jobs which would have run in the time that was skipped will be
    /// run soon after the change".
    GapByTheHour,
    /// As we do, but at the expression's second. crontab(5) has no seconds.
    GapBySecond,
    /// It runs again what ran in a fold's first pass. cron(8): "those jobs that fall into the
    /// repeated time will not be re-run".
    FoldAgain,
    /// It loses or skips slots of every hour where clocks change by half an hour.
    HalfAnHour,
}

struct Question<'a> {
    text: &'a str,
    cron: Crontab,
    zone: Tz,
    start: i64,
    ours: Vec<i64>,
}

#[test]
fn two_references_agree_but_for_listed_differences() {
    let zones: Vec<(Tz, Vec<i64>)> = STARTS.lines().map(zone).collect();
    let (mut agreed, mut deliberate, mut differences) = (0, BTreeMap::new(), BTreeMap::new());
    let lines = EXPRESSIONS.lines().zip(CRON_PARSER.lines().zip(CRONITER.lines()));
    for (index, (text, (cron_parser, croniter))) in lines.enumerate() {
        for (column, cells) in cron_parser.split('\t').zip(croniter.split('\t')).enumerate() {
            let (zone, starts) = &zones[column / TURNS];
            let start = starts[(TURNS * index + column % TURNS) % starts.len()];
            let question = ask(text, *zone, start);
            let answers = [answer(start, cells.0), answer(start, cells.1)];
            if answers.iter().all(|runs| *runs == question.ours) {
                agreed += 1;
                continue;
            }
            question.check_against_daemon();
            for (name, runs) in ["cron-parser", "croniter"].iter().zip(&answers) {
                if *runs != question.ours {
                    let difference = question.difference(name, runs);
                    *differences.entry((*name, difference)).or_insert(0) += 1;
                    if *name == "croniter" && answers[0] == answers[1] {
                        *deliberate.entry(difference).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    let listed = DIFFERENCES.map(|(name, difference, count)| ((name, difference), count));
    assert_eq!(BTreeMap::from(listed), differences);
    assert_eq!(BTreeMap::from(DELIBERATE), deliberate);
    assert_eq!(AGREED, agreed);
}

fn zone(line: &str) -> (Tz, Vec<i64>) {
    let mut cells = line.split('\t');
    let name = cells.next().expect("a zone");
    let start = |text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ").expect("a start");
    let starts = cells.map(|text| start(text).and_utc().timestamp()).collect();
    (name.parse().expect("a zone's name"), starts)
}

/// The instants that the cell tells by their distances, in minutes or, with an `s`, seconds.
fn answer(start: i64, cell: &str) -> Vec<i64> {
    if cell.starts_with('!') {
        return Vec::new();
    }
    let seconds = |text: &str| match text.strip_suffix('s') {
        Some(seconds) => seconds.parse::<i64>().expect("seconds"),
        None => text.parse::<i64>().expect("minutes") * 60,
    };
    let sum = |at: &mut i64, distance| {
        *at += distance;
        Some(*at)
    };
    cell.split(',').map(seconds).scan(start, sum).collect()
}

fn ask(text: &str, zone: Tz, start: i64) -> Question<'_> {
    let schedule = Schedule::stored("cron", text, zone).expect(text);
    let first = Some(UnixMs(start * 1_000));
    let runs = successors(first, |at| schedule.next_after(*at, zone)).skip(1);
    let ours = runs.take(4).map(|at| at.0 / 1_000).collect();
    Question { text, cron: Crontab::new(text), zone, start, ours }
}

impl Question<'_> {
    fn check_against_daemon(&self) {
        let Question { text, cron, zone, start, ours } = self;
        // The references give no answer to a date that never comes; the daemon waits for ever.
        let end = ours.last().map_or(start + 20 * 366 * 86_400, |last| last + 1);
        let end = end.max(start + 1);
        assert_eq!(cron.runs(*start, end, 4, *zone), *ours, "`{text}` {zone} from {start}");
    }

    fn difference(&self, reference: &str, runs: &[i64]) -> Difference {
        let is_made_up = |at: &i64| !self.cron.fits(shown(*at, self.zone));
        let has_seconds = self.text.split(' ').count() == 6;
        if runs.is_empty() {
            Difference::NoAnswer
        } else if reference == "cron-parser" && self.has_starred_day() {
            Difference::EitherDay
        } else if !self.cron.is_every_hour() && runs.iter().any(|at| self.is_second_pass(*at)) {
            Difference::FoldAgain
        } else if reference == "cron-parser" && self.ours.iter().chain(runs).any(is_made_up) {
            Difference::GapByTheHour
        } else if reference == "croniter" && has_seconds && self.ours.iter().any(is_made_up) {
            Difference::GapBySecond
        } else if self.zone == Tz::Australia__Lord_Howe {
            Difference::HalfAnHour
        } else {
            panic!(
                "`{}` {} from {}: {reference} has {runs:?}, not {:?}",
                self.text, self.zone, self.start, self.ours
            )
        }
    }

    /// Both day fields are restricted, one of them by a star with a step.
    fn has_starred_day(&self) -> bool {
        let fields: Vec<&str> = self.text.split(' ').rev().collect();
        let days = [fields[2], fields[0]];
        !days.contains(&"*") && days.iter().any(|field| field.starts_with('*'))
    }

    fn is_second_pass(&self, at: i64) -> bool {
        match self.zone.from_local_datetime(&shown(at, self.zone)) {
            MappedLocalTime::Ambiguous(_, second) => second.timestamp() == at,
            _ => false,
        }
    }
}
