//! What is to be said, in order, until it is said.

use rusqlite::{Connection, Row, named_params};

use super::{Result, Store, count, failed, word_column};
use crate::ids::{ChannelKind, ChatJid, OutboxId, RunId, Seq, UnixMs};
use crate::limits::{DELIVERY_RETRY_MAX, WHATSAPP_TEXT_BYTES_MAX};
use crate::routing::reply;

/// What `WhatsApp` Web's own message ids begin with; 18 upper-case hexadecimal digits follow.
pub(super) const CHANNEL_MESSAGE_ID_PREFIX: &str = "3EB0";

/// Why something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// The agent's answer.
    Answer,
    /// The agent's tool `send_message`.
    Tool,
    /// A task's result.
    Task,
    /// The program itself has something to say.
    Notice,
}
word_column!(OutboxKind { Answer = "answer", Tool = "tool", Task = "task", Notice = "notice" });

/// How far a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// To be said, or said again.
    Pending,
    /// Said: the other side acknowledged it.
    Sent,
    /// Given up.
    Failed,
}
word_column!(OutboxState { Pending = "pending", Sent = "sent", Failed = "failed" });

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOutbox {
    /// To whom.
    pub jid: ChatJid,
    /// Why.
    pub kind: OutboxKind,
    /// What.
    pub text: String,
    /// What has this key is said once, however often it is handed in.
    pub dedupe_key: String,
}

/// Something said, or to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its key, and its place in the order.
    pub id: OutboxId,
    /// To whom.
    pub jid: ChatJid,
    /// Why.
    pub kind: OutboxKind,
    /// What.
    pub text: String,
    /// The run that said it.
    pub run_id: Option<RunId>,
    /// The chat's cursor when the row was made: what it answers is not newer.
    pub answers_seq: Option<Seq>,
    /// How far it is.
    pub state: OutboxState,
    /// Attempts that failed.
    pub attempt_count: u32,
    /// Not before this.
    pub next_attempt_at: UnixMs,
    /// Id of the message on the channel, chosen before the first attempt: by it the other side
    /// recognises a repeat.
    pub channel_message_id: String,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was queued.
    pub created_at: UnixMs,
    /// When it was said.
    pub sent_at: Option<UnixMs>,
}

impl Store {
    /// Queues something that no step of a run says: a tool's message, a notice. `None`: its
    /// `dedupe_key` was there already. A text that is too long for one message of the channel
    /// becomes several; the id is of the first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn enqueue(&mut self, new: &NewOutbox, now: UnixMs) -> Result<Option<OutboxId>> {
        insert(&self.conn, new, None, now).map_err(failed("queueing a message"))
    }

    /// What this channel is to send now: the oldest pending row of each chat, where it is due.
    /// The rows behind it appear once it is settled, so that the order of a chat holds.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn next_deliveries(
        &self,
        channel: ChannelKind,
        now: UnixMs,
        limit: usize,
    ) -> Result<Vec<OutboxRow>> {
        let sql = include_str!("../../sql/query/next_deliveries.sql");
        let params = named_params! {
            ":channel": channel.as_str(), ":now": now, ":pause_max": pause_max(),
            ":count_max": count(limit),
        };
        self.all(sql, params, "looking for messages to send", from_row)
    }

    /// When the next row of this channel is due; `None` where none is pending.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn next_attempt_at(&self, channel: ChannelKind, now: UnixMs) -> Result<Option<UnixMs>> {
        let sql = include_str!("../../sql/query/next_attempt_at.sql");
        let params = named_params! {
            ":channel": channel.as_str(), ":now": now, ":pause_max": pause_max(),
        };
        self.one(sql, params, "looking for the next message to send", |row| row.get(0))
    }

    /// The other side has it. Tells whether it was still pending.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn mark_sent(&mut self, id: OutboxId, now: UnixMs) -> Result<bool> {
        let sql = "UPDATE outbox SET state = 'sent', sent_at_ms = ?, error = NULL
                   WHERE id = ? AND state = 'pending'";
        Ok(self.change(sql, (now, id), "marking a message as sent")? == 1)
    }

    /// It may not go out before `next_attempt`; nothing failed.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn postpone(&mut self, id: OutboxId, next_attempt: UnixMs) -> Result<()> {
        let sql = "UPDATE outbox SET next_attempt_at_ms = ? WHERE id = ? AND state = 'pending'";
        self.change(sql, (next_attempt, id), "putting off a message").map(drop)
    }

    /// An attempt failed; the next is due at `next_attempt`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn mark_attempt_failed(
        &mut self,
        id: OutboxId,
        error: &str,
        next_attempt: UnixMs,
    ) -> Result<()> {
        let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, error = ?,
                       next_attempt_at_ms = ?
                   WHERE id = ? AND state = 'pending'";
        self.change(sql, (error, next_attempt, id), "noting a failed attempt").map(drop)
    }

    /// No attempt can succeed: the row is given up, what stands behind it goes on.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn mark_failed_for_good(&mut self, id: OutboxId, error: &str) -> Result<()> {
        let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, error = ?,
                       state = 'failed'
                   WHERE id = ? AND state = 'pending'";
        self.change(sql, (error, id), "giving up a message").map(drop)
    }

    /// What was queued for a chat after `after`, whatever its state, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn outbox_after(
        &self,
        chat: &ChatJid,
        after: OutboxId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT * FROM outbox WHERE jid = ? AND id > ? ORDER BY id LIMIT ?";
        self.all(sql, (chat, after, count(limit)), "reading messages of a chat", from_row)
    }

    /// What a run said after `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn outbox_of_run(&self, run: RunId, after: OutboxId) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT * FROM outbox WHERE id > ? AND run_id = ? ORDER BY id";
        self.all(sql, (after, run), "reading messages of a run", from_row)
    }

    /// The newest row of all; zero where there is none.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn newest_outbox_id(&self) -> Result<OutboxId> {
        let sql = "SELECT coalesce(max(id), 0) FROM outbox";
        self.one(sql, [], "looking for the newest message to send", |row| row.get(0))
    }

    /// What a channel has not sent yet, after `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn pending_outbox(
        &self,
        channel: ChannelKind,
        after: OutboxId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT * FROM outbox
                   WHERE channel = ? AND id > ? AND state = 'pending' ORDER BY id LIMIT ?";
        let params = (channel.as_str(), after, count(limit));
        self.all(sql, params, "reading messages to send", from_row)
    }

    /// What was queued for a chat and reached nobody yet, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn unsent_of_chat(&self, chat: &ChatJid, limit: usize) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT * FROM outbox INDEXED BY outbox_pending
                   WHERE channel = ? AND jid = ? AND state = 'pending' ORDER BY id LIMIT ?";
        let params = (chat.channel().as_str(), chat, count(limit));
        self.all(sql, params, "reading messages to send", from_row)
    }

    /// Per channel that has any: how many rows are pending.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn outbox_depth(&self) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT channel, count(*) AS depth FROM outbox
                   WHERE state = 'pending' GROUP BY channel ORDER BY channel";
        let row = |row: &Row<'_>| Ok((row.get("channel")?, row.get("depth")?));
        self.all(sql, [], "counting messages to send", row)
    }
}

/// The first row of the text: a long one takes several, each a message of its own, in order.
/// `None`: the key was there already.
pub(super) fn insert(
    conn: &Connection,
    new: &NewOutbox,
    run: Option<RunId>,
    now: UnixMs,
) -> rusqlite::Result<Option<OutboxId>> {
    let mut statement = conn.prepare_cached(include_str!("../../sql/query/insert_outbox.sql"))?;
    let mut first = None;
    for (part, text) in parts(&new.jid, &new.text).into_iter().enumerate() {
        let key = match part {
            0 => new.dedupe_key.clone(),
            part => format!("{}/{}", new.dedupe_key, part + 1),
        };
        let inserted = statement.execute(named_params! {
            ":jid": new.jid,
            ":channel": new.jid.channel().as_str(),
            ":kind": new.kind,
            ":text": text,
            ":dedupe_key": key,
            ":run": run,
            ":now": now,
            ":channel_message_id": new_channel_message_id(),
        })?;
        match (part, inserted) {
            (0, 0) => return Ok(None),
            (0, _) => first = Some(OutboxId(conn.last_insert_rowid())),
            _ => {}
        }
    }
    Ok(first)
}

/// Longer than any pause before a next attempt, in milliseconds.
fn pause_max() -> i64 {
    UnixMs(0).plus(2 * DELIVERY_RETRY_MAX).0
}

/// How the text goes out: in one message, or in several where the channel takes no long ones.
pub(super) fn parts<'a>(jid: &ChatJid, text: &'a str) -> Vec<&'a str> {
    if jid.channel() == ChannelKind::Whatsapp && WHATSAPP_TEXT_BYTES_MAX < text.len() {
        let parts = reply::split_text(text, WHATSAPP_TEXT_BYTES_MAX);
        // Of nothing but white space nothing would be left.
        return if parts.is_empty() { vec![""] } else { parts };
    }
    vec![text]
}

fn new_channel_message_id() -> String {
    format!("{CHANNEL_MESSAGE_ID_PREFIX}{}", random_hex::<9>())
}

/// `BYTES` random bytes as upper-case hexadecimal digits.
///
/// # Panics
/// Before the system has gathered its first random bytes, at boot.
pub fn random_hex<const BYTES: usize>() -> String {
    use std::fmt::Write;
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).expect("the system gives random bytes once it has booted");
    random.iter().fold(String::with_capacity(2 * BYTES), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a string takes all");
        text
    })
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        id: row.get("id")?,
        jid: row.get("jid")?,
        kind: row.get("kind")?,
        text: row.get("text")?,
        run_id: row.get("run_id")?,
        answers_seq: row.get("answers_seq")?,
        state: row.get("state")?,
        attempt_count: row.get("attempt_count")?,
        next_attempt_at: row.get("next_attempt_at_ms")?,
        channel_message_id: row.get("channel_message_id")?,
        error: row.get("error")?,
        created_at: row.get("created_at_ms")?,
        sent_at: row.get("sent_at_ms")?,
    })
}
