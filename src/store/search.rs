//! Full text search in stored messages. The index follows the messages at some distance, in
//! bounded steps, so that to store them stays cheap.

use std::fmt::Write as _;

use rusqlite::{Row, named_params};

use super::{Result, Store, count, failed};
use crate::ids::{ChatJid, GroupFolder, Seq, UnixMs};

/// Key in `state`: up to here messages can be found.
const SEARCHABLE: &str = "searchable_seq";

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it was said.
    pub chat: ChatJid,
    /// The group of that chat.
    pub folder: GroupFolder,
    /// Who said it.
    pub sender_name: String,
    /// When, by the sender's clock.
    pub sent_at: UnixMs,
    /// What was said.
    pub text: String,
}

impl Store {
    /// Takes the next messages into the index, at most `limit`, in one transaction. Tells how many.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn index_messages(&mut self, limit: usize) -> Result<usize> {
        let doing = "indexing messages";
        // Most often there is nothing to do, and no need for the write lock to see that.
        if self.searchable()? >= self.newest_seq()? {
            return Ok(0);
        }
        let tx = self.write(doing)?;
        let indexed = || {
            let sql = include_str!("../../sql/query/index_messages.sql");
            let indexed = tx
                .prepare_cached(sql)?
                .execute(named_params! { ":key": SEARCHABLE, ":count_max": count(limit) })?;
            let sql = "INSERT INTO state (key, value)
                       SELECT :key, max(rowid) FROM messages_fts WHERE true
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            tx.prepare_cached(sql)?.execute(named_params! { ":key": SEARCHABLE })?;
            rusqlite::Result::Ok(indexed)
        };
        let indexed = indexed().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(indexed)
    }

    /// Messages that hold every word of `query`, or words that begin so, the newest first: of the
    /// chats of one group, or of all. `None`: there is no word in `query`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn search(
        &self,
        query: &str,
        within: Option<&GroupFolder>,
        limit: usize,
    ) -> Result<Option<Vec<Found>>> {
        let chats = within.map(|folder| self.chats_of_group(folder)).transpose()?;
        if chats.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Some(Vec::new()));
        }
        let Some(pattern) = pattern(query, chats.as_deref()) else { return Ok(None) };
        let sql = include_str!("../../sql/query/search_messages.sql");
        let params = named_params! { ":pattern": pattern, ":count_max": count(limit) };
        self.all(sql, params, "searching messages", from_row).map(Some)
    }

    fn searchable(&self) -> Result<Seq> {
        let seq = self.get_state(SEARCHABLE)?.and_then(|text| text.parse().ok());
        Ok(Seq(seq.unwrap_or_default()))
    }
}

/// In the language of FTS5: every word of `query`, as it begins, and one of `chats`.
fn pattern(query: &str, chats: Option<&[ChatJid]>) -> Option<String> {
    // Quoted, a word means only itself; one without a letter or digit would mean nothing at all.
    let words: Vec<String> = query
        .split_whitespace()
        .filter(|word| word.contains(char::is_alphanumeric))
        .map(|word| format!("\"{}\"*", word.replace('"', " ")))
        .collect();
    if words.is_empty() {
        return None;
    }
    let mut pattern = format!("text : ({})", words.join(" AND "));
    if let Some(chats) = chats {
        let chats: Vec<String> = chats.iter().map(|jid| format!("\"{}\"", token(jid))).collect();
        write!(pattern, " AND chat : ({})", chats.join(" OR ")).expect("a string takes all");
    }
    Some(pattern)
}

/// The word that stands for a chat, as `index_messages.sql` makes it.
fn token(jid: &ChatJid) -> String {
    jid.as_str().bytes().fold("c".to_owned(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a string takes all");
        text
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        chat: row.get("chat_jid")?,
        folder: row.get("folder")?,
        sender_name: row.get("sender_name")?,
        sent_at: row.get("sent_at_ms")?,
        text: row.get("text")?,
    })
}
