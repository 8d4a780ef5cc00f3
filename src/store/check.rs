//! Whether the file of the database is sound.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use rusqlite::ErrorCode;

use super::{Result, Store, failed};
use crate::ids::UnixMs;

/// What a look through the database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// All of it is sound.
    Sound,
    /// What could be looked at in the time is.
    SoundSoFar,
    /// It is damaged; where, in `SQLite`'s words.
    Damaged(String),
}

impl Store {
    /// Looks through the database for damage, for at most `time_max`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn check(&self, time_max: Duration) -> Result<Integrity> {
        let handle = self.conn.get_interrupt_handle();
        let (done, waiting) = bounded::<()>(0);
        let found = thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(time_max) == Err(RecvTimeoutError::Timeout) {
                    handle.interrupt();
                }
            });
            let found = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
            drop(done);
            found
        });
        match found {
            Ok(word) if word == "ok" => Ok(Integrity::Sound),
            Ok(damage) => Ok(Integrity::Damaged(damage)),
            Err(error) => match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => Ok(Integrity::SoundSoFar),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Ok(Integrity::Damaged(error.to_string()))
                }
                _ => Err(failed("checking the database")(error)),
            },
        }
    }

    /// When the newest message came in, by the clock of then; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn newest_message_at(&self) -> Result<Option<UnixMs>> {
        let sql = "SELECT received_at_ms FROM messages ORDER BY seq DESC LIMIT 1";
        self.maybe(sql, [], "looking for the newest message", |row| row.get("received_at_ms"))
    }
}
