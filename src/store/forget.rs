//! Rows that are not kept for ever.

use rusqlite::{Connection, named_params};

use super::{Result, Store, all, count, failed};
use crate::ids::UnixMs;

/// How far a look at all rows has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The last message.
    pub message: i64,
    /// The last row of the outbox.
    pub outbox: i64,
}

/// A row that was looked at.
struct Seen {
    id: i64,
    is_old: bool,
    may_go: bool,
}

impl Store {
    /// Looks at the next `limit` messages, and as many rows of the outbox, and removes those from
    /// before `until` that are settled or sent. Tells how many went, and where to go on; nowhere
    /// once nothing was old any more.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn forget_until(
        &mut self,
        until: UnixMs,
        after: Looked,
        limit: usize,
    ) -> Result<(usize, Option<Looked>)> {
        let doing = "forgetting old messages";
        let tx = self.write(doing)?;
        let forget = || {
            let sql = include_str!("../../sql/query/forgettable_messages.sql");
            let messages = seen(&tx, sql, until, after.message, limit)?;
            let sql = "SELECT id, created_at_ms < :until AS is_old,
                              created_at_ms < :until AND state <> 'pending' AS may_go
                       FROM outbox WHERE id > :after ORDER BY id LIMIT :count_max";
            let outbox = seen(&tx, sql, until, after.outbox, limit)?;
            // The index holds no texts: it has to be told what it was made of.
            let unindex = "INSERT INTO messages_fts (messages_fts, rowid, chat, text)
                           SELECT 'delete', seq, 'c' || hex(chat_jid), text FROM messages
                           WHERE seq = ? AND seq <= (SELECT CAST(value AS INTEGER) FROM state
                                                     WHERE key = 'searchable_seq')";
            let mut gone = 0;
            for row in messages.iter().filter(|row| row.may_go) {
                tx.prepare_cached(unindex)?.execute([row.id])?;
                gone +=
                    tx.prepare_cached("DELETE FROM messages WHERE seq = ?")?.execute([row.id])?;
            }
            for row in outbox.iter().filter(|row| row.may_go) {
                gone += tx.prepare_cached("DELETE FROM outbox WHERE id = ?")?.execute([row.id])?;
            }
            let is_over = !messages.iter().chain(&outbox).any(|row| row.is_old);
            let next = Looked {
                message: messages.last().map_or(after.message, |row| row.id),
                outbox: outbox.last().map_or(after.outbox, |row| row.id),
            };
            rusqlite::Result::Ok((gone, (!is_over).then_some(next)))
        };
        let done = forget().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(done)
    }
}

fn seen(
    conn: &Connection,
    sql: &str,
    until: UnixMs,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Seen>> {
    let params = named_params! { ":until": until, ":after": after, ":count_max": count(limit) };
    all(conn, sql, params, |row| {
        Ok(Seen { id: row.get("id")?, is_old: row.get("is_old")?, may_go: row.get("may_go")? })
    })
}
