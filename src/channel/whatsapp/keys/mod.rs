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

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use wacore::store::error::{Result, StoreError};

use crate::store;
use table::Table;

const MIGRATIONS: [&str; 1] = [include_str!("../../../../sql/whatsapp/0001_keys.sql")];

/// The store of one paired device.
pub(super) struct Keys {
    path: PathBuf,
    /// None once it is wiped.
    conn: Mutex<Option<Connection>>,
}

impl Keys {
    /// Opens the database at `path`, or makes it, with mode 0600.
    ///
    /// # Errors
    /// Those of [`store::Store::open`].
    pub(super) fn open(path: &Path) -> store::Result<Arc<Keys>> {
        let conn = store::open(path, &MIGRATIONS)?;
        Ok(Arc::new(Keys { path: path.to_owned(), conn: Mutex::new(Some(conn)) }))
    }

    /// Forgets the device and all its secrets: the next [`Keys::open`] finds nothing. A client that
    /// still has these keys gets errors from then on, and can write nothing into the new ones.
    ///
    /// # Errors
    /// A file that cannot be removed; the device may be there still.
    pub(super) fn wipe(&self) -> std::io::Result<()> {
        // Closed first: a connection that ends later would take the new log for its own.
        drop(self.conn.lock().unwrap_or_else(PoisonError::into_inner).take());
        // The database itself last: until it is gone, all is repeated.
        for end in ["-wal", "-shm", ""] {
            let mut path = self.path.clone().into_os_string();
            path.push(end);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        Ok(())
    }

    fn read<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.with(|conn| work(&Table(conn)))
    }

    /// One transaction that is on the disk when it is done.
    fn write<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.with(|conn| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&Table(&tx))?;
            tx.commit()?;
            Ok(done)
        })
    }

    /// One transaction that a power cut may undo.
    fn note<T>(&self, work: impl FnOnce(&Table<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let level = |level| self.with(|conn| conn.pragma_update(None, "synchronous", level));
        level("NORMAL")?;
        let done = self.write(work);
        level("FULL")?;
        done
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(conn) = conn.as_mut() else {
            return Err(StoreError::Validation("this device is not paired any more".to_owned()));
        };
        work(conn).map_err(|error| StoreError::Database(Box::new(error)))
    }
}

#[cfg(test)]
mod tests;
