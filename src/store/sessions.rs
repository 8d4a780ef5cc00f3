//! The conversation that a group's next run continues.

use rusqlite::{Connection, named_params};

use super::{Result, Store};
use crate::ids::{GroupFolder, UnixMs};

impl Store {
    /// Id of the session that the group's next run continues.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn session(&self, folder: &GroupFolder) -> Result<Option<String>> {
        let sql = "SELECT session_id FROM sessions WHERE folder = ?";
        self.maybe(sql, [folder], "reading a session", |row| row.get("session_id"))
    }
}

/// Remembers the session; nothing happens where the group is gone.
pub(super) fn set(
    conn: &Connection,
    folder: &GroupFolder,
    id: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions (folder, session_id, updated_at_ms)
               SELECT folder, :id, :now FROM groups WHERE folder = :folder
               ON CONFLICT (folder) DO UPDATE SET
                   session_id = excluded.session_id, updated_at_ms = excluded.updated_at_ms
               WHERE session_id IS NOT excluded.session_id";
    conn.prepare_cached(sql)?
        .execute(named_params! { ":folder": folder, ":id": id, ":now": now })
        .map(drop)
}

/// Forgets the session: the next run starts a new one.
pub(super) fn clear(conn: &Connection, folder: &GroupFolder) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM sessions WHERE folder = ?")?.execute([folder]).map(drop)
}
