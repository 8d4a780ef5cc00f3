//! Copies of a database: made while others write, and looked at before they are trusted.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Error, Result, open};
use crate::ids::GroupFolder;

/// Rows of each table, by its name. What a search needs is left out: it is made anew.
pub type Counts = std::collections::BTreeMap<String, i64>;

/// Copies the database at `from`, as it is at this moment, into the new file `to`.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::Sqlite`]: for instance a disk that is full.
pub fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let conn = open_read_only(from)?;
    let to = to.to_string_lossy();
    // Into a file of its own, so that it needs no log beside it.
    conn.execute("VACUUM INTO ?", [&to])
        .map(drop)
        .map_err(|source| Error::Sqlite { doing: "copying the database", source })
}

/// Checks the whole of a database and counts its rows; the schema may be an older one.
///
/// # Errors
/// [`Error::Unreadable`]: it is damaged, or none; [`Error::SchemaTooNew`].
pub fn verify_database(path: &Path, is_ours: bool) -> Result<Counts> {
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    let conn = open_read_only(path)?;
    let verify = || {
        let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'
                      AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'messages_fts%'";
        let mut counts = Counts::new();
        for table in super::all(&conn, tables, [], |row| row.get::<_, String>(0))? {
            let quoted = table.replace('"', "\"\"");
            let sql = format!("SELECT count(*) FROM \"{quoted}\"");
            counts.insert(table, conn.query_row(&sql, [], |row| row.get(0))?);
        }
        rusqlite::Result::Ok((verdict, counts))
    };
    let (verdict, counts) = verify().map_err(|error: rusqlite::Error| unreadable(error.into()))?;
    if verdict != "ok" {
        return Err(unreadable(verdict.into()));
    }
    if is_ours {
        open::check_schema(&conn)?;
        let foreign = "SELECT count(*) FROM sqlite_schema WHERE type IN ('trigger', 'view')";
        let foreign: i64 = conn
            .query_row(foreign, [], |row| row.get(0))
            .map_err(|error| unreadable(error.into()))?;
        if 0 < foreign {
            return Err(unreadable("it has triggers or views, which are not ours".into()));
        }
        let folders =
            super::all(&conn, "SELECT folder FROM groups", [], |row| row.get::<_, GroupFolder>(0));
        folders.map_err(|error| unreadable(error.into()))?;
    }
    Ok(counts)
}

fn open_read_only(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let unreadable =
        |error: rusqlite::Error| Error::Unreadable { path: path.to_owned(), source: error.into() };
    let conn = Connection::open_with_flags(path, flags).map_err(unreadable)?;
    conn.busy_timeout(crate::limits::DATABASE_BUSY_MAX).map_err(unreadable)?;
    conn.query_row("SELECT 1 FROM sqlite_schema", [], |_| Ok(())).optional().map_err(unreadable)?;
    Ok(conn)
}
