//! What `status` shows beside what others ask for too.

use super::{Result, Store, count};
use crate::ids::{UnixMs, shown};

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
