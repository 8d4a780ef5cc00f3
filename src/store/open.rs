//! Opens the database and brings it to the newest schema.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{Error, Result, Store, failed, turn};
use crate::limits::DATABASE_BUSY_MAX;

/// Element `n` leads from schema `n` to `n + 1`. Released ones never change.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../sql/migrations/0001_core.sql"),
    include_str!("../../sql/migrations/0002_tasks.sql"),
    include_str!("../../sql/migrations/0003_requests.sql"),
];
/// The schema that this program works with: `PRAGMA user_version`.
#[cfg(test)]
pub(super) const KNOWN: i64 = known(&MIGRATIONS);

/// Prepared statements kept per connection: more than any thread uses.
const STATEMENTS_MAX: usize = 64;

/// Between two attempts at a database that others prepare.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

impl Store {
    /// Opens the database at `path`; makes it (mode 0600) or brings it to the newest schema where
    /// needed, in one transaction.
    ///
    /// # Errors
    /// [`Error::SchemaTooNew`] and [`Error::Foreign`] leave the file as it is; [`Error::Unreadable`] where it cannot be
    /// opened or is no database; [`Error::Sqlite`] where another process holds it for too long.
    pub fn open(path: &Path) -> Result<Store> {
        Ok(Store { conn: open(path, &MIGRATIONS)?, takes_in_batches: false })
    }
}

/// A connection to the database at `path`, as [`Store::open`] says; `migrations` are all there are,
/// oldest first.
pub(crate) fn open(path: &Path, migrations: &'static [&'static str]) -> Result<Connection> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let bytes = make(path).map_err(|error| unreadable(error.into()))?;
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if 0 < bytes {
        // A connection that may write changes the file just by switching to WAL.
        let found = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|mut conn| {
                conn.busy_handler(Some(turn::wait_for_others))?;
                let found = user_version(&conn)?;
                // Only a file that another program made has tables and no schema of ours.
                Ok((found, found == 0 && conn.table_exists(None, "registered_groups")?))
            });
        let (found, is_foreign) = found.map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => failed("opening the database")(error),
            _ => unreadable(error.into()),
        })?;
        if is_foreign {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        missing(found, migrations)?;
    }
    let mut conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| unreadable(error.into()))?;
    prepare_in_turn(&mut conn).map_err(failed("preparing the database"))?;
    migrate(&mut conn, migrations)?;
    Ok(conn)
}

fn migrate(conn: &mut Connection, migrations: &'static [&'static str]) -> Result<()> {
    let failed = || failed("bringing the database to the newest schema");
    if missing(user_version(conn).map_err(failed())?, migrations)?.is_empty() {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    // Asked again: another process may have done it meanwhile.
    for sql in missing(user_version(&tx).map_err(failed())?, migrations)? {
        tx.execute_batch(sql).map_err(failed())?;
    }
    tx.pragma_update(None, "user_version", known(migrations)).map_err(failed())?;
    tx.commit().map_err(failed())
}

/// Makes the file where there is none, for its mode: `SQLite` gives the same to the files that it
/// puts beside. Tells its size.
///
/// One that is there must not be opened: closing any descriptor of a file gives up all locks that
/// this process has on it (fcntl(2)), and then another process that closes the database takes
/// itself for the last one and removes the log under us. Source: sqlite.org/howtocorrupt.html.
fn make(path: &Path) -> std::io::Result<u64> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(std::fs::metadata(path)?.len())
        }
        Err(error) => Err(error),
    }
}

/// `SQLite` does not wait where two switch a new database to WAL at once, so we do.
fn prepare_in_turn(conn: &mut Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + DATABASE_BUSY_MAX;
    loop {
        match prepare(conn) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
}

fn prepare(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_handler(Some(turn::wait_for_others))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Without this a plan depends on the values bound, so that every join is planned anew for
    // each of them. Source: sqlite.org/queryplanner-ng.html, section 3.1.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // WAL: readers never wait for a writer. FULL: what is committed outlives a power cut. A small
    // cache: every worker has a connection, and with many groups each fills its cache. A connection
    // that takes messages in asks for a larger one. The log (16 MB of it) is brought in seldom, as
    // who commits waits for that, and a page that was written often is brought in once.
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -512;
         PRAGMA wal_autocheckpoint = 4000;",
    )
}

fn user_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// That this program can bring the database to its schema.
pub(super) fn check_schema(conn: &Connection) -> Result<()> {
    let found = user_version(conn).map_err(failed("reading the schema"))?;
    missing(found, &MIGRATIONS).map(drop)
}

/// The migrations that a database of schema `found` lacks.
fn missing(found: i64, migrations: &'static [&'static str]) -> Result<&'static [&'static str]> {
    usize::try_from(found)
        .ok()
        .and_then(|found| migrations.get(found..))
        .ok_or(Error::SchemaTooNew { found, known: known(migrations) })
}

#[expect(clippy::cast_possible_wrap, reason = "a handful of files")]
const fn known(migrations: &[&str]) -> i64 {
    migrations.len() as i64
}
