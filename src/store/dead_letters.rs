//! What was given up after the last retry, until a person retries or drops it.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{NewOutbox, Result, Signal, Store, failed, messages, outbox, runs};
use crate::ids::{ChatJid, GroupFolder, Seq, UnixMs};

/// Messages of a chat that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its key.
    pub id: i64,
    /// The group.
    pub folder: GroupFolder,
    /// The chat.
    pub chat: ChatJid,
    /// The oldest of the messages.
    pub first_seq: Seq,
    /// The newest of them.
    pub last_seq: Seq,
    /// Runs that failed over them.
    pub attempt_count: u32,
    /// Why the last one failed.
    pub error: String,
    /// When they were given up.
    pub created_at: UnixMs,
}

impl Store {
    /// Gives up what is pending in a chat: a dead letter for it, the cursor past it, and the one
    /// notice that says so, all or nothing. `None`, and nothing happens, where nobody waits.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn give_up(
        &mut self,
        chat: &ChatJid,
        folder: &GroupFolder,
        attempts: u32,
        error: &str,
        notice: Option<&NewOutbox>,
        now: UnixMs,
    ) -> Result<Option<i64>> {
        let doing = "giving up messages";
        let tx = self.write(doing)?;
        let letter = give_up(&tx, chat, folder, attempts, error, now).map_err(failed(doing))?;
        if let (Some(_), Some(notice)) = (letter, notice) {
            outbox::insert(&tx, notice, None, now).map_err(failed(doing))?;
        }
        tx.commit().map_err(failed(doing))?;
        Ok(letter)
    }

    /// Dead letters that nobody has dealt with, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let sql = "SELECT * FROM dead_letters WHERE state = 'open' ORDER BY id";
        self.all(sql, [], "listing dead letters", from_row)
    }

    /// Makes the messages of a dead letter pending again. A cursor never moves back, so they
    /// arrive anew: their order stays, their sequence numbers become the newest. Returns what was
    /// retried; `None` where no such letter is open.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn retry_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>> {
        let doing = "retrying a dead letter";
        let tx = self.write(doing)?;
        let letter = retry(&tx, id).map_err(failed(doing))?;
        Signal::RetryNow.give(&tx).map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(letter)
    }

    /// Closes a dead letter; its messages stay unanswered. Tells whether it was open.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn drop_dead_letter(&mut self, id: i64) -> Result<bool> {
        let closed = close(&self.conn, id, "dropped");
        Ok(closed.map_err(failed("dropping a dead letter"))?.is_some())
    }
}

fn give_up(
    conn: &Connection,
    chat: &ChatJid,
    folder: &GroupFolder,
    attempts: u32,
    error: &str,
    now: UnixMs,
) -> rusqlite::Result<Option<i64>> {
    let Some(cursor) = messages::cursor(conn, chat)? else {
        return Ok(None);
    };
    let ends = conn
        .prepare_cached(include_str!("../../sql/query/unsettled_ends.sql"))?
        .query_row(named_params! { ":chat": chat, ":cursor": cursor }, |row| {
            Ok((row.get("first_seq")?, row.get("last_seq")?, row.get("somebody_waits")?))
        })?;
    let (Some(first), Some(last), true): (Option<Seq>, Option<Seq>, bool) = ends else {
        return Ok(None);
    };
    let sql = "INSERT INTO dead_letters
                   (folder, chat_jid, first_seq, last_seq, attempt_count, error, created_at_ms)
               VALUES (:folder, :chat, :first, :last, :attempts, :error, :now)";
    conn.prepare_cached(sql)?.execute(named_params! {
        ":folder": folder,
        ":chat": chat,
        ":first": first,
        ":last": last,
        ":attempts": attempts,
        ":error": error,
        ":now": now,
    })?;
    let id = conn.last_insert_rowid();
    runs::move_cursor(conn, chat, last)?;
    Ok(Some(id))
}

fn retry(conn: &Connection, id: i64) -> rusqlite::Result<Option<DeadLetter>> {
    let Some(letter) = close(conn, id, "retried")? else {
        return Ok(None);
    };
    // The sequence table knows of deleted messages too. It is told of the new numbers, so that
    // the next message comes after them.
    let newest: Seq = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'messages'")?
        .query_row([], |row| row.get(0))?;
    let moved_by = newest.0 + 1 - letter.first_seq.0;
    let sql = "UPDATE messages SET seq = seq + :moved_by
               WHERE chat_jid = :chat AND is_from_assistant = 0
                 AND seq BETWEEN :first AND :last";
    conn.prepare_cached(sql)?.execute(named_params! {
        ":moved_by": moved_by,
        ":chat": letter.chat,
        ":first": letter.first_seq,
        ":last": letter.last_seq,
    })?;
    conn.prepare_cached("UPDATE sqlite_sequence SET seq = ? WHERE name = 'messages'")?
        .execute([Seq(letter.last_seq.0 + moved_by)])?;
    Ok(Some(letter))
}

fn close(conn: &Connection, id: i64, state: &str) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = "UPDATE dead_letters SET state = ? WHERE id = ? AND state = 'open' RETURNING *";
    conn.prepare_cached(sql)?.query_row((state, id), from_row).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get("id")?,
        folder: row.get("folder")?,
        chat: row.get("chat_jid")?,
        first_seq: row.get("first_seq")?,
        last_seq: row.get("last_seq")?,
        attempt_count: row.get("attempt_count")?,
        error: row.get("error")?,
        created_at: row.get("created_at_ms")?,
    })
}
