//! What the protocol library keeps: the device's identity, sessions, keys, mappings.
//!
//! One connection behind a lock: the library's tasks share it, and each call is over within
//! milliseconds. Each method is one transaction. What secrecy rests on (identity, sessions, keys)
//! waits for the disk; the rest outlives a crash of the program, and is taken along by the next
//! that waits.

mod device;
mod protocol;
mod signal;
mod table;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use wacore::store::error::{Result, StoreError};

use crate::store;
use table::{ALL, Table};

const MIGRATIONS: [&str; 1] = [include_str!("../../../../sql/whatsapp/0001_keys.sql")];

/// Which device's keys these are: random bytes, new with each pairing.
const OWNER: &str = "owner";

/// The store of one paired device.
pub(super) struct Keys {
    conn: Mutex<Connection>,
    owner: Vec<u8>,
    /// A message was opened that is not on the disk: neither may be the keys that moved on with it.
    is_spent: AtomicBool,
}

impl Keys {
    /// Opens the database at `path`, or makes it, with mode 0600.
    ///
    /// # Errors
    /// Those of [`store::Store::open`].
    pub(super) fn open(path: &Path) -> store::Result<Arc<Keys>> {
        let conn = store::open(path, &MIGRATIONS)?;
        let unusable = |error: rusqlite::Error| store::Error::Unreadable {
            path: path.to_owned(),
            source: error.into(),
        };
        // What is deleted is overwritten.
        conn.pragma_update(None, "secure_delete", true).map_err(unusable)?;
        let table = Table(&conn);
        let owner = store::random_hex::<16>();
        let add = "INSERT OR IGNORE INTO entry (kind, scope, key, value, at)
                   VALUES (?, '', x'', ?, 0)";
        table.0.execute(add, (OWNER, owner.as_bytes())).map_err(unusable)?;
        let owner: Option<Vec<u8>> = table.get(OWNER, ALL, "").map_err(unusable)?;
        let owner = owner.unwrap_or_default();
        Ok(Arc::new(Keys { conn: Mutex::new(conn), owner, is_spent: AtomicBool::new(false) }))
    }

    /// Forgets the device and all its secrets: the next [`Keys::open`] finds nothing. Whoever has
    /// the same keys open, here or in a client that is not gone yet, gets errors where it writes.
    ///
    /// # Errors
    /// The database; the device is there still, then.
    pub(super) fn wipe(&self) -> Result<()> {
        self.write(|table| table.0.execute("DELETE FROM entry", []).map(drop))?;
        // The log has them too.
        self.with(|conn| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    fn read<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.with(|conn| work(&Table(conn)))
    }

    /// Lets nothing more be written: a client that has opened what it could not keep must not
    /// leave keys behind with which it cannot be opened again. Whoever has it makes another client.
    pub(super) fn spend(&self) {
        self.is_spent.store(true, Ordering::Release);
    }

    /// Whether [`Keys::spend`] was called.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Acquire)
    }

    /// One transaction that is on the disk when it is done.
    fn write<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.change("FULL", work)
    }

    /// One transaction that a power cut may undo.
    fn note<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.change("NORMAL", work)
    }

    fn change<T>(
        &self,
        level: &str,
        work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        if self.is_spent() {
            return Err(StoreError::Validation("a message could not be kept".to_owned()));
        }
        let done = self.with(|conn| {
            conn.pragma_update(None, "synchronous", level)?;
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Keys that are written after a wipe would be taken for those of the next device.
            if Table(&tx).get::<Vec<u8>>(OWNER, ALL, "")?.as_ref() != Some(&self.owner) {
                return Ok(None);
            }
            let done = work(&Table(&tx))?;
            tx.commit()?;
            Ok(Some(done))
        })?;
        done.ok_or_else(|| StoreError::Validation("this device is not paired any more".to_owned()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut conn).map_err(|error| StoreError::Database(Box::new(error)))
    }
}

#[cfg(test)]
mod tests;
