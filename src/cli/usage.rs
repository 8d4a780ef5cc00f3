//! `usage`: what the model took.

use argh::{ArgsInfo, FromArgs};
use chrono::{NaiveDate, NaiveTime, TimeZone};
use serde_json::json;

use super::{Error, out};
use crate::home::Home;
use crate::ids::{UnixMs, shown};
use crate::store::{Usage, UsageBy, UsageRow};

/// Show what the model took: tokens, and what they cost as the agent's program reckons.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "usage")]
pub(super) struct UsageCommand {
    /// sums by group, task or day (default: group)
    #[argh(option, default = "String::from(\"group\")", arg_name = "group|task|day")]
    by: String,
    /// runs that started on this day or later, like 2026-02-19
    #[argh(option, arg_name = "date")]
    since: Option<String>,
    /// one JSON array
    #[argh(switch)]
    json: bool,
}

impl UsageCommand {
    /// # Errors
    /// A word or date that is none; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let by = match self.by.as_str() {
            "group" => UsageBy::Group,
            "task" => UsageBy::Task,
            "day" => UsageBy::Day(settings.timezone),
            word => {
                let word = shown(word);
                return Err(Error::Refused(format!("--by `{word}`: allowed: group, task, day")));
            }
        };
        let since = match self.since.as_deref() {
            Some(text) => midnight(text, settings.timezone)?,
            None => UnixMs(0),
        };
        let rows = super::store_with_main(home)?.usage(by, since)?;
        if self.json {
            let rows: Vec<_> = rows.iter().map(|row| object(&self.by, row)).collect();
            return out::json(&rows.into());
        }
        let heads = ["runs", "turns", "input", "output", "cache read", "cache write", "cost USD"];
        let mut table = vec![vec![self.by.clone()]];
        table[0].extend(heads.map(str::to_owned));
        let mut sum = UsageRow {
            key: "total".to_owned(),
            folder: None,
            run_count: 0,
            turn_count: 0,
            usage: Usage::default(),
        };
        for row in rows {
            sum.run_count += row.run_count;
            sum.turn_count += row.turn_count;
            sum.usage += row.usage;
            table.push(cells(&row));
        }
        table.push(cells(&sum));
        out::table(&table).iter().try_for_each(|row| out::line(row))
    }
}

/// When today began.
pub(super) fn today(now: UnixMs, zone: chrono_tz::Tz) -> UnixMs {
    let day = zone.timestamp_millis_opt(now.0).earliest().map(|at| at.date_naive().to_string());
    day.and_then(|day| midnight(&day, zone).ok()).unwrap_or(now)
}

/// The beginning of a day of `zone`; of a day without a midnight, its first hour.
fn midnight(text: &str, zone: chrono_tz::Tz) -> Result<UnixMs, Error> {
    let found = text.parse::<NaiveDate>().ok().and_then(|day| {
        (0..24).find_map(|hour| {
            let at = day.and_time(NaiveTime::from_hms_opt(hour, 0, 0)?);
            zone.from_local_datetime(&at).earliest()
        })
    });
    match found {
        Some(at) => Ok(UnixMs(at.timestamp_millis())),
        None => Err(Error::Refused(format!(
            "--since `{}`: allowed: a date like 2026-02-19",
            shown(text)
        ))),
    }
}

fn cells(row: &UsageRow) -> Vec<String> {
    let name = match &row.folder {
        Some(folder) => format!("{} ({folder})", row.key),
        None => row.key.clone(),
    };
    let usage = &row.usage;
    let mut cells = vec![out::harmless(&name)];
    cells.extend(
        [
            row.run_count,
            row.turn_count,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
        ]
        .map(|number| number.to_string()),
    );
    let micros = usage.cost_micro_usd;
    // Cents are too coarse for a short answer.
    cells.push(format!("{}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100));
    cells
}

fn object(by: &str, row: &UsageRow) -> serde_json::Value {
    let mut object = json!({
        "runs": row.run_count,
        "turns": row.turn_count,
        "input_tokens": row.usage.input_tokens,
        "output_tokens": row.usage.output_tokens,
        "cache_read_tokens": row.usage.cache_read_tokens,
        "cache_write_tokens": row.usage.cache_write_tokens,
        "cost_micro_usd": row.usage.cost_micro_usd,
    });
    object[by] = row.key.clone().into();
    if let Some(folder) = &row.folder {
        object["group"] = folder.clone().into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_when_its_zone_says() {
        let check = |text: &str, zone: chrono_tz::Tz, expected: Option<i64>| {
            assert_eq!(expected, midnight(text, zone).ok().map(|at| at.0), "{text}");
        };
        check("1970-01-02", chrono_tz::UTC, Some(86_400_000));
        check("2023-11-15", chrono_tz::Asia::Kathmandu, Some(1_699_985_700_000));
        // Clocks went from 23:59 to 1:00.
        check("2018-11-04", chrono_tz::America::Sao_Paulo, Some(1_541_300_400_000));
        check("yesterday", chrono_tz::UTC, None);
    }
}
