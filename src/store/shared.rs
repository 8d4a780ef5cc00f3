//! One connection for many threads, none of which waits for the disk while it holds it.
//!
//! `SQLite` waits for the disk within a commit, when nobody else can write. With many runs at a time
//! they would mostly wait for each other's disk. So this connection commits without waiting, lets
//! the next one write, and only then waits: once for all that have committed by then, which is
//! called group commit. Source: `synchronous` in sqlite.org/pragma.html.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Error, Result, Store, failed};

/// One connection for all workers: only one can write at a time anyway, and what one has read or
/// prepared need not be read and prepared fifty times.
pub struct SharedStore {
    store: Mutex<Store>,
    /// The write-ahead log. It stays the same file while a connection is open.
    log: File,
    /// How often [`SharedStore::durably`] has committed.
    committed: AtomicU64,
    /// How many of these commits are on the disk. Held by who waits for it, on behalf of all.
    durable: Mutex<u64>,
}

impl SharedStore {
    /// Shares `store`.
    ///
    /// # Errors
    /// [`Error::Unreadable`]: its write-ahead log cannot be opened. [`Error::Sqlite`].
    pub fn new(store: Store) -> Result<SharedStore> {
        let log = store.log()?;
        let set = store.conn.pragma_update(None, "synchronous", "NORMAL");
        set.map_err(failed("preparing the database"))?;
        Ok(SharedStore {
            store: Mutex::new(store),
            log,
            committed: AtomicU64::new(0),
            durable: Mutex::new(0),
        })
    }

    /// The connection, for one statement or one transaction: nobody may hold it while it waits for
    /// anything else. A crash of the program does not undo what is committed, a power cut can: good
    /// for notes about runs, which the next start sees to anyway. A thread that panicked has rolled
    /// its transaction back.
    pub fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`; what it committed, and what anybody committed before, outlives a power cut when
    /// this returns.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Sync`].
    pub fn durably<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Store) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut store = self.lock();
        let done = work(&mut store)?;
        let number = self.committed.fetch_add(1, Ordering::Relaxed) + 1;
        drop(store);
        self.wait_for_disk(number)?;
        Ok(done)
    }

    /// Returns when the commit of that number is on the disk.
    fn wait_for_disk(&self, number: u64) -> Result<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if *durable < number {
            // Who has counted has committed before, under the lock that orders both.
            let committed = self.committed.load(Ordering::Relaxed);
            self.log.sync_data().map_err(|source| Error::Sync { source })?;
            *durable = committed;
        }
        Ok(())
    }
}

impl Store {
    /// Returns when all that was committed, by whichever connection, outlives a power cut: before
    /// anything leaves the machine that the next start would not know of.
    ///
    /// # Errors
    /// [`Error::Unreadable`]: the write-ahead log cannot be opened. [`Error::Sync`].
    pub fn wait_for_disk(&self) -> Result<()> {
        self.log()?.sync_data().map_err(|source| Error::Sync { source })
    }

    fn log(&self) -> Result<File> {
        let path = PathBuf::from(format!("{}-wal", self.conn.path().unwrap_or_default()));
        File::open(&path).map_err(|source| Error::Unreadable { path, source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn shared(folder: &tempfile::TempDir) -> SharedStore {
        let store = Store::open(&folder.path().join("messages.db")).expect("it is new");
        SharedStore::new(store).expect("it has a log")
    }

    #[test]
    fn what_was_done_durably_is_on_the_disk_and_one_wait_serves_all_before_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shared = shared(&folder);
        shared.lock().set_state("note", "1").expect("no fault");
        assert_eq!(0, *shared.durable.lock().expect("nobody panicked"), "a note waits for nothing");
        thread::scope(|scope| {
            for number in 0..8 {
                let (shared, key) = (&shared, number.to_string());
                scope.spawn(move || shared.durably(|store| store.set_state(&key, "1")));
            }
        });
        assert_eq!(8, *shared.durable.lock().expect("nobody panicked"));
        // One that somebody else has waited for.
        shared.wait_for_disk(8).expect("nothing to do");
        let again = Store::open(&folder.path().join("messages.db")).expect("it can be opened");
        assert_eq!(Some("1"), again.get_state("7").expect("no fault").as_deref());
    }

    #[test]
    fn a_failure_counts_as_no_commit_and_the_next_one_can_work() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shared = shared(&folder);
        let failed = shared.durably(|store| store.change("nonsense", [], "failing"));
        assert!(failed.is_err());
        assert_eq!(0, shared.committed.load(Ordering::Relaxed));
        shared.durably(|store| store.set_state("a", "1")).expect("no fault");
    }

    #[test]
    fn the_connection_leaves_waiting_to_us_and_others_do_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shared = shared(&folder);
        let level = |store: &Store| -> i64 {
            store.conn.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("no fault")
        };
        assert_eq!(1, level(&shared.lock()), "NORMAL");
        let other = Store::open(&folder.path().join("messages.db")).expect("it can be opened");
        assert_eq!(2, level(&other), "FULL");
    }
}
