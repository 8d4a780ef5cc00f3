//! The only SQL on the home's database: chats, messages, groups, sessions, runs, tasks, outbox,
//! dead letters. (`WhatsApp`'s keys are in a database of their own.)
//!
//! One [`Store`] is one connection, so one per thread; the workers have a [`SharedStore`]. `SQLite`
//! is the bus: whoever accepts something commits it here first and rings the
//! [doorbell](crate::doorbell) second.
//!
//! The invariant is in [`Store::record`]: the rows of an answer and the move of the cursor past
//! the messages that it answers are one transaction. Nothing else may move a cursor, but
//! [`Store::give_up`], which leaves a dead letter instead.

mod chats;
mod check;
mod copy;
mod dead_letters;
mod error;
mod forget;
mod group_config;
mod groups;
mod import;
mod messages;
mod nanoclaw;
mod open;
mod outbox;
mod overview;
mod register;
mod requests;
mod runs;
mod search;
mod sessions;
mod shared;
mod task_claims;
mod task_error;
mod task_runs;
mod tasks;
mod turn;
mod usage;
mod why;

pub use chats::Chat;
pub use check::Integrity;
pub use copy::{Counts, copy_database, verify_database};
pub use dead_letters::DeadLetter;
pub use error::{CorruptRow, Error, Result};
pub use forget::Looked;
pub use group_config::{AdditionalMount, ContainerConfig, Network, OtherSenders, Senders};
pub use groups::Group;
pub use import::{Contents, Import, OldMessage, OldTask, OldTaskRun};
pub use messages::{Accepted, Batch, Message, NewMessage, Woken, calls};
pub use nanoclaw::{OldDatabase, OldError, OldRow};
pub use outbox::{NewOutbox, OutboxKind, OutboxRow, OutboxState, random_hex};
pub use overview::{Failed, TaskOutline};
pub use register::{NewGroup, RegisterError, Registered};
pub use requests::{Begun, Queued, ToolMessage};
pub use runs::{Failures, NewRun, Recorded, Run, RunKind, RunState, RunStep, Usage};
pub use search::Found;
pub use shared::SharedStore;
pub use task_claims::{AskedBy, Claim, Claims};
pub use task_error::TaskError;
pub use task_runs::{TaskEnd, TaskRun, TaskRunStatus};
pub use tasks::{ContextMode, NewTask, Task, TaskChange, TaskState};
pub use usage::{UsageBy, UsageRow};
pub use why::{Path, Stored};

#[cfg(feature = "whatsapp")]
pub(crate) use open::open;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use error::failed;
use turn::Write;

/// One connection to the database of a home.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    /// Whether this connection has stored messages by the batch: then it has a larger cache.
    takes_in_batches: bool,
}

/// What another process tells the daemon beside its messages and tasks, in the transaction that
/// makes it true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A group was removed.
    GroupRemoved,
    /// A person says that what failed is mended.
    RetryNow,
}

impl Signal {
    fn key(self) -> &'static str {
        match self {
            Signal::GroupRemoved => "signal_group_removed",
            Signal::RetryNow => "signal_retry_now",
        }
    }

    /// Gives it.
    fn give(self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO state (key, value) VALUES (?, '1') ON CONFLICT (key)
                   DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)";
        conn.prepare_cached(sql)?.execute([self.key()]).map(drop)
    }
}

impl Store {
    /// A number that changes with every commit of another connection: the cheapest question
    /// whether anything can be new.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn data_version(&self) -> Result<i64> {
        self.one("PRAGMA data_version", [], "asking for the data version", |row| row.get(0))
    }

    /// A value that outlives the program.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn get_state(&self, key: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM state WHERE key = ?";
        self.maybe(sql, [key], "reading the state", |row| row.get("value"))
    }

    /// Keeps `value` under `key`.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn set_state(&mut self, key: &str, value: &str) -> Result<()> {
        self.change(SET_STATE, [key, value], "writing the state").map(drop)
    }

    /// Takes a value away; `None`: there was none.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn take_state(&mut self, key: &str) -> Result<Option<String>> {
        // Looked at first: it is asked for at every ring of a bell, and rarely there.
        let Some(value) = self.get_state(key)? else { return Ok(None) };
        let taken = self.change(
            "DELETE FROM state WHERE key = ? AND value = ?",
            [key, &value],
            "taking a value of the state",
        )?;
        Ok((taken == 1).then_some(value))
    }

    /// Keeps several at once: one commit.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn set_states(&mut self, all: &[(&str, &str)]) -> Result<()> {
        let doing = "writing the state";
        let tx = self.write(doing)?;
        for state in all {
            tx.prepare_cached(SET_STATE)
                .and_then(|mut statement| statement.execute(*state))
                .map_err(failed(doing))?;
        }
        tx.commit().map_err(failed(doing))
    }

    /// How often `signal` was given, ever: whoever remembers the number sees that it was again.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn signal_count(&self, signal: Signal) -> Result<i64> {
        let sql = "SELECT CAST(value AS INTEGER) AS given FROM state WHERE key = ?";
        let given = self.maybe(sql, [signal.key()], "reading a signal", |row| row.get("given"))?;
        Ok(given.unwrap_or(0))
    }

    /// Takes the write lock at once, so that nothing read inside can be stale when it is used.
    fn write(&mut self, doing: &'static str) -> Result<Write<'_>> {
        let turn = turn::take();
        let begun = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        Ok(Write::new(begun.map_err(failed(doing))?, turn))
    }

    /// Several queries that see one state of the database.
    fn read(&self, doing: &'static str) -> Result<Transaction<'_>> {
        self.conn.unchecked_transaction().map_err(failed(doing))
    }

    /// One statement that changes something, in a transaction of its own; tells how many rows.
    fn change(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        doing: &'static str,
    ) -> Result<usize> {
        let run = || {
            let mut statement = self.conn.prepare_cached(sql)?;
            let _turn = turn::take();
            statement.execute(params)
        };
        run().map_err(failed(doing))
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        doing: &'static str,
        from_row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let run = || self.conn.prepare_cached(sql)?.query_row(params, from_row);
        run().map_err(failed(doing))
    }

    fn maybe<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        doing: &'static str,
        from_row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let run = || self.conn.prepare_cached(sql)?.query_row(params, from_row).optional();
        run().map_err(failed(doing))
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        doing: &'static str,
        from_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        all(&self.conn, sql, params, from_row).map_err(failed(doing))
    }
}

const SET_STATE: &str = "INSERT INTO state (key, value) VALUES (?, ?)
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    from_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, from_row)?.collect()
}

/// A limit as `SQLite` wants it.
fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A column of words that stand for the variants of an enum; an unknown word is an error.
macro_rules! word_column {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $name {
            /// As stored.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(
                value: rusqlite::types::ValueRef<'_>,
            ) -> rusqlite::types::FromSqlResult<$name> {
                match value.as_str()? {
                    $($word => Ok($name::$variant),)*
                    _ => Err(rusqlite::types::FromSqlError::InvalidType),
                }
            }
        }
    };
}
use word_column;

#[cfg(test)]
mod tests;
