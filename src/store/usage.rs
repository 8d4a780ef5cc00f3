//! What the model took, summed over runs.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rusqlite::named_params;

use super::{Result, Store, Usage};
use crate::ids::UnixMs;

/// What sums are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// The runs of a group.
    Group,
    /// The runs of a task; those for people in a chat are left out.
    Task,
    /// The runs that started on a day of this zone.
    Day(Tz),
}

/// One sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The folder of the group, the id of the task, or the day.
    pub key: String,
    /// Of a task: the folder of its group.
    pub folder: Option<String>,
    /// Runs.
    pub run_count: i64,
    /// Their turns.
    pub turn_count: i64,
    /// What they took.
    pub usage: Usage,
}

impl Store {
    /// What the runs that started at `since` or later took: by group and by task in the order of
    /// their names, by day in the order of time. Runs that go on count with what is known of them.
    ///
    /// # Errors
    /// [`super::Error::Sqlite`].
    pub fn usage(&self, by: UsageBy, since: UnixMs) -> Result<Vec<UsageRow>> {
        let word = match by {
            UsageBy::Group => "group",
            UsageBy::Task => "task",
            UsageBy::Day(_) => "day",
        };
        let sql = include_str!("../../sql/query/usage.sql");
        let params = named_params! { ":by": word, ":since": since };
        let rows = self.all(sql, params, "summing the usage", |row| {
            let sum = UsageRow {
                key: row.get("key")?,
                folder: Some(row.get("folder")?).filter(|folder: &String| !folder.is_empty()),
                run_count: row.get("runs")?,
                turn_count: row.get("turns")?,
                usage: Usage {
                    input_tokens: row.get("input_tokens")?,
                    output_tokens: row.get("output_tokens")?,
                    cache_read_tokens: row.get("cache_read_tokens")?,
                    cache_write_tokens: row.get("cache_write_tokens")?,
                    cost_micro_usd: row.get("cost_micro_usd")?,
                },
            };
            Ok((row.get::<_, i64>("quarter")?, sum))
        })?;
        Ok(match by {
            UsageBy::Group | UsageBy::Task => rows.into_iter().map(|(_, sum)| sum).collect(),
            UsageBy::Day(zone) => days(rows, zone),
        })
    }
}

fn days(quarters: Vec<(i64, UsageRow)>, zone: Tz) -> Vec<UsageRow> {
    let mut days: BTreeMap<NaiveDate, UsageRow> = BTreeMap::new();
    for (quarter, sum) in quarters {
        let at = chrono::DateTime::from_timestamp(quarter.saturating_mul(900), 0);
        // A time that no calendar holds is a forged one, and no day's.
        let Some(at) = at else { continue };
        let day = at.with_timezone(&zone).date_naive();
        match days.get_mut(&day) {
            Some(row) => {
                row.run_count += sum.run_count;
                row.turn_count += sum.turn_count;
                row.usage += sum.usage;
            }
            None => {
                days.insert(day, UsageRow { key: day.to_string(), ..sum });
            }
        }
    }
    days.into_values().collect()
}
