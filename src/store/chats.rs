//! Chats that were seen, whether or not they belong to a group.

use rusqlite::{Connection, Row, named_params};

use super::{Result, Store, failed};
use crate::ids::{ChatJid, GroupFolder, UnixMs};

/// A chat that the program has heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Its address.
    pub jid: ChatJid,
    /// What people call it.
    pub name: Option<String>,
    /// Whether several people talk there.
    pub is_group: bool,
    /// When something was last said there, to the minute.
    pub last_message_at: Option<UnixMs>,
    /// The group that it belongs to.
    pub folder: Option<GroupFolder>,
}

impl Store {
    /// Notes that the chat exists, what it is called, and that it was active at `at`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn upsert_chat(
        &mut self,
        jid: &ChatJid,
        name: Option<&str>,
        is_group: bool,
        at: UnixMs,
    ) -> Result<()> {
        upsert(&self.conn, jid, name, is_group, at).map_err(failed("noting a chat"))
    }

    /// Notes that these groups exist and what they are called, in one transaction. When something
    /// was said there stays as it is.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn name_groups(&mut self, names: &[(ChatJid, String)]) -> Result<()> {
        let doing = "naming the groups";
        let sql = "INSERT INTO chats (jid, name, is_group) VALUES (?, ?, 1)
                   ON CONFLICT (jid) DO UPDATE SET name = excluded.name, is_group = 1
                   WHERE name IS NOT excluded.name OR is_group = 0";
        let tx = self.write(doing)?;
        for (jid, name) in names {
            let run = || tx.prepare_cached(sql)?.execute((jid, name));
            run().map_err(failed(doing))?;
        }
        tx.commit().map_err(failed(doing))
    }

    /// Whether something was said since then in a group whose name nobody has told.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn has_nameless_group_since(&self, since: UnixMs) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM chats WHERE is_group = 1 AND name IS NULL
                   AND jid LIKE '%@g.us' AND last_message_at_ms > ?)";
        self.one(sql, [since], "looking for groups without a name", |row| row.get(0))
    }

    /// All chats, the latest active first; rows with an impossible address are left out.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn all_chats(&self) -> Result<Vec<Chat>> {
        let sql = "SELECT c.jid, c.name, c.is_group, c.last_message_at_ms, gc.folder
                   FROM chats c LEFT JOIN group_chats gc ON gc.jid = c.jid
                   ORDER BY c.last_message_at_ms DESC, c.jid";
        let chats = self.all(sql, [], "listing the chats", |row| Ok(from_row(row).ok()))?;
        Ok(chats.into_iter().flatten().collect())
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Chat> {
    Ok(Chat {
        jid: row.get("jid")?,
        name: row.get("name")?,
        is_group: row.get("is_group")?,
        last_message_at: row.get("last_message_at_ms")?,
        folder: row.get("folder")?,
    })
}

pub(super) fn upsert(
    conn: &Connection,
    jid: &ChatJid,
    name: Option<&str>,
    is_group: bool,
    at: UnixMs,
) -> rusqlite::Result<()> {
    conn.prepare_cached(include_str!("../../sql/query/upsert_chat.sql"))?
        .execute(named_params! { ":jid": jid, ":name": name, ":is_group": is_group, ":at": at })
        .map(drop)
}
