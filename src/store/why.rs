//! The path of one message, as far as it is written down.

use rusqlite::Row;

use super::{OutboxRow, Result, Run, RunState, Store, outbox, runs};
use crate::ids::{ChatJid, Seq, UnixMs};

/// A stored message without its text's meaning: what is asked of it is where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// Where it was said.
    pub chat: ChatJid,
    /// The channel's id of it.
    pub id: String,
    /// Address of who said it.
    pub sender: String,
    /// What that one is called.
    pub sender_name: String,
    /// What was said; for the question whether it calls the assistant, never to be shown.
    pub text: String,
    /// When, by the sender's clock.
    pub sent_at: UnixMs,
    /// When it was stored.
    pub received_at: UnixMs,
    /// Whether it asks for an answer.
    pub wakes: bool,
    /// Whether the assistant said it itself.
    pub is_from_assistant: bool,
}

/// Where a message went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Runs that may have had it and ended without having settled it, oldest first.
    pub attempts: Vec<Run>,
    /// The run that settled it, or that works at it.
    pub run: Option<Run>,
    /// What was said then.
    pub said: Vec<OutboxRow>,
    /// When it was given up, and why.
    pub given_up: Option<(i64, String, UnixMs)>,
}

/// Of the runs and words of one message, so many are shown.
const ROWS_MAX: i64 = 50;

impl Store {
    /// The messages that `which` may mean, two at most: `last`, a place in the order of arrival, or
    /// the beginning of a channel's id. An id that is meant exactly is found alone.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn find_messages(&self, which: &str) -> Result<Vec<Stored>> {
        let doing = "looking for a message";
        if which == "last" {
            let sql =
                "SELECT * FROM messages WHERE is_from_assistant = 0 ORDER BY seq DESC LIMIT 1";
            return self.all(sql, [], doing, from_row);
        }
        if let Ok(seq) = which.parse::<i64>() {
            let found = self.all("SELECT * FROM messages WHERE seq = ?", [seq], doing, from_row)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // By way of the chats, since the index of ids begins with the chat.
        let sql = "SELECT m.* FROM chats c CROSS JOIN messages m
                   WHERE m.chat_jid = c.jid AND m.id >= ?1 AND m.id < ?1 || char(0x10FFFF)
                   ORDER BY m.id <> ?1, m.seq LIMIT 2";
        let mut found = self.all(sql, [which], doing, from_row)?;
        if found.first().is_some_and(|first| first.id == which) {
            found.truncate(1);
        }
        Ok(found)
    }

    /// Where the message went.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn path_of(&self, message: &Stored) -> Result<Path> {
        let sql = "SELECT * FROM runs WHERE chat_jid = ? AND kind = 'chat'
                     AND (ended_at_ms IS NULL OR ended_at_ms >= ?) ORDER BY id LIMIT ?";
        let params = (&message.chat, message.received_at, ROWS_MAX);
        let mut attempts = self.all(sql, params, "listing runs of a message", runs::from_row)?;
        let settled = |run: &Run| run.last_seq.is_some_and(|last| message.seq <= last);
        let is_alive = |run: &Run| matches!(run.state, RunState::Busy);
        let place = attempts.iter().position(settled).or(attempts.iter().position(is_alive));
        let run = place.and_then(|place| attempts.drain(place..).next());
        attempts.retain(|run| matches!(run.state, RunState::Failed | RunState::Interrupted));
        let said = match run.as_ref().filter(|run| settled(run)) {
            None => Vec::new(),
            Some(run) => {
                let sql = "SELECT * FROM outbox WHERE jid = ?1 AND run_id = ?2 AND answers_seq =
                             (SELECT min(answers_seq) FROM outbox
                              WHERE jid = ?1 AND run_id = ?2 AND answers_seq >= ?3)
                           ORDER BY id LIMIT ?4";
                let params = (&message.chat, run.id, message.seq, ROWS_MAX);
                self.all(sql, params, "listing answers to a message", outbox::from_row)?
            }
        };
        let sql = "SELECT id, error, created_at_ms FROM dead_letters
                   WHERE chat_jid = ? AND ? BETWEEN first_seq AND last_seq AND state = 'open'
                   ORDER BY id DESC LIMIT 1";
        let params = (&message.chat, message.seq);
        let given_up = self.maybe(sql, params, "looking for a dead letter", |row| {
            Ok((row.get("id")?, row.get("error")?, row.get("created_at_ms")?))
        })?;
        Ok(Path { attempts, run, said, given_up })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: row.get("seq")?,
        chat: row.get("chat_jid")?,
        id: row.get("id")?,
        sender: row.get("sender")?,
        sender_name: row.get("sender_name")?,
        text: row.get("text")?,
        sent_at: row.get("sent_at_ms")?,
        received_at: row.get("received_at_ms")?,
        wakes: row.get("wakes")?,
        is_from_assistant: row.get("is_from_assistant")?,
    })
}
