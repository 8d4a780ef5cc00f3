//! Groups, and the chats through which they are reached.

use rusqlite::Row;

use super::{ContainerConfig, CorruptRow, Result, Store};
use crate::ids::{ChatJid, GroupFolder, UnixMs, shown};

/// A group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its folder, which is its key.
    pub folder: GroupFolder,
    /// What people call it.
    pub name: String,
    /// Name that wakes the assistant there, without the `@`; `None`: the assistant's own.
    pub trigger_name: Option<String>,
    /// Whether only messages with the trigger ask for an answer. Main answers all, whatever this
    /// says.
    pub requires_trigger: bool,
    /// Whether it is the owner's own group, which manages the others.
    pub is_main: bool,
    /// What it sets for its own sandbox.
    pub config: ContainerConfig,
    /// When it was registered.
    pub added_at: UnixMs,
}

impl Store {
    /// All groups, main first, then by folder; and the rows that cannot be used, to be reported.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn groups(&self) -> Result<(Vec<Group>, Vec<CorruptRow>)> {
        let sql = "SELECT * FROM groups ORDER BY is_main DESC, folder";
        let rows = self.all(sql, [], "listing the groups", |row| {
            Ok(from_row(row).map_err(|error| corrupt("groups", "folder", row, &error)))
        })?;
        let sql = "SELECT * FROM group_chats ORDER BY jid";
        let chats = self.all(sql, [], "listing the groups' chats", |row| {
            let usable = row.get("jid").and_then(|_: ChatJid| row.get("folder"));
            Ok(usable
                .map(|_: GroupFolder| ())
                .map_err(|error| corrupt("group_chats", "jid", row, &error)))
        })?;
        let (mut groups, mut problems) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(group) => groups.push(group),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(chats.into_iter().filter_map(std::result::Result::err));
        Ok((groups, problems))
    }

    /// The group with this folder.
    ///
    /// # Errors
    /// [`Error::Corrupt`](super::Error::Corrupt) where its row cannot be used,
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn group(&self, folder: &GroupFolder) -> Result<Option<Group>> {
        let sql = "SELECT * FROM groups WHERE folder = ?";
        self.maybe(sql, [folder], "reading a group", from_row)
    }

    /// The group that this chat belongs to.
    ///
    /// # Errors
    /// [`Error::Corrupt`](super::Error::Corrupt) where its row cannot be used,
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn group_of_chat(&self, jid: &ChatJid) -> Result<Option<Group>> {
        let sql = "SELECT g.* FROM group_chats gc JOIN groups g ON g.folder = gc.folder
                   WHERE gc.jid = ?";
        self.maybe(sql, [jid], "reading the group of a chat", from_row)
    }

    /// The chats through which a group is reached, in the order in which they came to it.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn chats_of_group(&self, folder: &GroupFolder) -> Result<Vec<ChatJid>> {
        let sql = "SELECT jid FROM group_chats WHERE folder = ? ORDER BY added_at_ms, rowid";
        self.all(sql, [folder], "listing the chats of a group", |row| row.get("jid"))
    }
}

fn corrupt(
    table: &'static str,
    key_column: &str,
    row: &Row<'_>,
    error: &rusqlite::Error,
) -> CorruptRow {
    let key = row.get::<_, String>(key_column).unwrap_or_default();
    CorruptRow { table, key: shown(&key), problem: error.to_string() }
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Group> {
    let config: String = row.get("container_config")?;
    let config = serde_json::from_str(&config).map_err(|error| {
        let column = row.as_ref().column_index("container_config").unwrap_or_default();
        let text = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, text, error.into())
    })?;
    Ok(Group {
        folder: row.get("folder")?,
        name: row.get("name")?,
        trigger_name: row.get("trigger_name")?,
        requires_trigger: flag(row, "requires_trigger")?,
        is_main: flag(row, "is_main")?,
        config,
        added_at: row.get("added_at_ms")?,
    })
}

/// A boolean in the strict sense: a row that says `7` does not make a group main.
fn flag(row: &Row<'_>, column: &str) -> rusqlite::Result<bool> {
    match row.get(column)? {
        0_i64 => Ok(false),
        1 => Ok(true),
        other => {
            let column = row.as_ref().column_index(column)?;
            Err(rusqlite::Error::IntegralValueOutOfRange(column, other))
        }
    }
}
