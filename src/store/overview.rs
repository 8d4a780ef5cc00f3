//! What `status` and the snapshots show, beside what others ask for too.

use super::{Result, Store, count};
use crate::ids::{GroupFolder, UnixMs, shown};

/// A task as its row says it, whether or not it can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskOutline {
    /// Its key.
    pub id: String,
    /// Whose it is.
    pub folder: String,
    /// What the agent is asked.
    pub prompt: String,
    /// `cron`, `interval` or `once`.
    pub schedule_kind: String,
    /// When, as it was given.
    pub schedule_value: String,
    /// A [`TaskState`](super::TaskState).
    pub state: String,
    /// Its next slot.
    pub next_run: Option<UnixMs>,
}

/// Something that failed lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// `run`, or `message`: one that was not delivered.
    pub what: String,
    /// Its key.
    pub id: i64,
    /// The group or chat.
    pub about: String,
    /// Why, on one line.
    pub error: String,
    /// When.
    pub at: UnixMs,
}

impl Store {
    /// The first `limit` of [`Store::tasks`], in the same order, at a fraction of the price; of
    /// prompts the first 1000 characters.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn task_outlines(
        &self,
        within: Option<&GroupFolder>,
        limit: usize,
    ) -> Result<Vec<TaskOutline>> {
        let sql = super::tasks::listing(
            "t.id, t.folder, substr(t.prompt, 1, 1000), t.schedule_kind, t.schedule_value, t.state, t.next_run_ms",
            within.is_some(),
        ) + " LIMIT ?2";
        let rows = self.all(&sql, (within, count(limit)), "listing tasks", |row| {
            // One that cannot be read is reported by the other.
            Ok(outline(row).ok())
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The newest failures among the latest few hundred runs and messages, newest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn last_errors(&self, limit: usize) -> Result<Vec<Failed>> {
        let sql = include_str!("../../sql/query/last_errors.sql");
        self.all(sql, [count(limit)], "listing errors", |row| {
            let error: String = row.get("error")?;
            Ok(Failed {
                what: row.get("what")?,
                id: row.get("id")?,
                about: row.get("about")?,
                error: shown(&error),
                at: row.get("at_ms")?,
            })
        })
    }
}

fn outline(row: &rusqlite::Row<'_>) -> rusqlite::Result<TaskOutline> {
    Ok(TaskOutline {
        id: row.get(0)?,
        folder: row.get(1)?,
        prompt: row.get(2)?,
        schedule_kind: row.get(3)?,
        schedule_value: row.get(4)?,
        state: row.get(5)?,
        next_run: row.get(6)?,
    })
}
