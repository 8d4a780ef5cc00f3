//! The database of a `NanoClaw` of February 2026, read and never written. What it says is somebody
//! else's: every column may hold anything.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};

/// Largest row that is read. `WhatsApp` ends at 65,536 characters.
const ROW_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// Where `SQLite`'s header says whether changes go to a log beside the file, and the value for it.
/// Source: sqlite.org/fileformat.html, section 1.3.
const LOG_MODE_AT: usize = 19;
const LOG_MODE_WAL: u8 = 2;
/// Beginning of every database's file.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OldError {
    /// Somebody writes it just now.
    #[error("`{}` is being written: stop NanoClaw and try again", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Changes lie beside it, which only a program that may write can take in.
    #[error(
        "`{}` is not empty, so NanoClaw runs or did not end well: stop it, or start and stop it \
         once, and try again",
        path.display()
    )]
    Unclean {
        /// The file beside it.
        path: PathBuf,
    },
    /// It is a database, but of something else.
    #[error("`{}` is not a database of NanoClaw: {why}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is not as it should be.
        why: String,
    },
    /// It cannot be opened, or is damaged.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The open database. It stays as it is found for as long as this lives.
#[derive(Debug)]
pub struct OldDatabase {
    conn: Connection,
    path: PathBuf,
}

/// A row, whose columns are read by their place in the query.
pub struct OldRow<'a>(&'a Row<'a>);

impl OldRow<'_> {
    /// The text in this column; `None` for anything else.
    pub fn text(&self, column: usize) -> Option<&str> {
        match self.0.get_ref(column) {
            Ok(ValueRef::Text(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number in this column; `None` for anything else.
    pub fn number(&self, column: usize) -> Option<i64> {
        match self.0.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Some(number),
            _ => None,
        }
    }
}

impl OldDatabase {
    /// Opens the database at `path`, of which no part may be a symbolic link, and whose first
    /// bytes are `head`.
    ///
    /// # Errors
    /// [`OldError`].
    pub fn open(path: &Path, head: &[u8]) -> Result<OldDatabase, OldError> {
        let unreadable = |source| OldError::Unreadable { path: path.to_owned(), source };
        if !head.starts_with(MAGIC) {
            return Err(unreadable("it is no SQLite database".into()));
        }
        for suffix in ["-wal", "-journal"] {
            let mut beside = path.as_os_str().to_owned();
            beside.push(suffix);
            if std::fs::symlink_metadata(&beside).is_ok_and(|found| 0 < found.len()) {
                return Err(OldError::Unclean { path: beside.into() });
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // With a log, even a reader would make files beside the database, unless nobody writes.
        let opened = if head.get(LOG_MODE_AT) == Some(&LOG_MODE_WAL) {
            let uri = format!("file:{}?immutable=1", escaped(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(path, flags)
        };
        let conn = opened.map_err(|error| unreadable(error.into()))?;
        let old = OldDatabase { conn, path: path.to_owned() };
        old.prepare().map_err(|error| old.failed(error))?;
        Ok(old)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.conn.busy_timeout(std::time::Duration::ZERO)?;
        self.conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, ROW_BYTES_MAX)?;
        // Nothing that the file defines is ever run.
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        ] {
            self.conn.set_db_config(config, on)?;
        }
        // From here on all queries see one state.
        self.conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// [`OldError::Unreadable`].
    pub fn has_table(&self, table: &str) -> Result<bool, OldError> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE name = ? AND type = 'table'
                   AND sql NOT LIKE 'CREATE VIRTUAL%'";
        let found = self.conn.query_row(sql, [table], |_| Ok(())).optional();
        Ok(found.map_err(|error| self.failed(error))?.is_some())
    }

    /// Shows `visit` the `columns` of all rows of a table that is there, ordered by `order`. A
    /// column that an older version does not have is NULL.
    ///
    /// # Errors
    /// [`OldError`], as the error of `visit`, or whatever `visit` returns.
    pub fn rows<E: From<OldError>>(
        &self,
        table: &'static str,
        columns: &[&str],
        order: &'static str,
        mut visit: impl FnMut(&OldRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| self.failed(error);
        let known = self.columns(table).map_err(failed)?;
        let columns: Vec<&str> = columns
            .iter()
            .map(|column| if known.iter().any(|known| known == column) { column } else { "NULL" })
            .collect();
        let sql = format!("SELECT {} FROM {table} ORDER BY {order}", columns.join(", "));
        let mut statement = self.conn.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            visit(&OldRow(row))?;
        }
        Ok(())
    }

    fn columns(&self, table: &str) -> rusqlite::Result<Vec<String>> {
        super::all(&self.conn, "SELECT name FROM pragma_table_info(?)", [table], |row| row.get(0))
    }

    fn failed(&self, error: rusqlite::Error) -> OldError {
        let path = self.path.clone();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OldError::Busy { path },
            _ => OldError::Unreadable { path, source: error.into() },
        }
    }
}

/// A path as part of a URI. Source: sqlite.org/uri.html, section 3.1.
fn escaped(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
