//! Rows that are not kept for ever.

use rusqlite::named_params;

use super::{Result, Store, all, count, failed};
use crate::ids::{Seq, UnixMs};

impl Store {
    /// Removes at most `limit` messages that came in before `until` and are settled, and as many
    /// rows of the outbox that were sent before then. Tells how many rows went; zero: none is left.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn forget_until(&mut self, until: UnixMs, limit: usize) -> Result<usize> {
        let doing = "forgetting old messages";
        let tx = self.write(doing)?;
        let forget = || {
            let mut gone = 0;
            let sql = include_str!("../../sql/query/forgettable.sql");
            let params = named_params! { ":until": until, ":count_max": count(limit) };
            let old: Vec<Seq> = all(&tx, sql, params, |row| row.get("seq"))?;
            // The index holds no texts: it has to be told what it was made of.
            let unindex = "INSERT INTO messages_fts (messages_fts, rowid, chat, text)
                           SELECT 'delete', seq, 'c' || hex(chat_jid), text FROM messages
                           WHERE seq = ? AND seq <= (SELECT CAST(value AS INTEGER) FROM state
                                                     WHERE key = 'searchable_seq')";
            for seq in &old {
                tx.prepare_cached(unindex)?.execute([seq])?;
                gone += tx.prepare_cached("DELETE FROM messages WHERE seq = ?")?.execute([seq])?;
            }
            let sql = "DELETE FROM outbox WHERE id IN
                           (SELECT id FROM outbox WHERE state <> 'pending' AND created_at_ms < ?
                            ORDER BY id LIMIT ?)";
            gone += tx.prepare_cached(sql)?.execute((until, count(limit)))?;
            rusqlite::Result::Ok(gone)
        };
        let gone = forget().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(gone)
    }
}
