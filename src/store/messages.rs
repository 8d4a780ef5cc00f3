//! Messages: how they come in, who waits for an answer, what belongs to a prompt.

use std::collections::HashMap;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, named_params, params};

use super::{Group, OtherSenders, Result, Senders, Store, all, chats, count, failed, groups};
use crate::ids::{ChannelKind, ChatJid, GroupFolder, Seq, UnixMs};
use crate::limits::{MESSAGE_BYTES_MAX, PROMPT_BYTES_MAX, PROMPT_MESSAGES_MAX};
use crate::routing::trigger;

/// How stale [`chats::Chat::last_message_at`] may be: without this every message costs a further
/// page of the write-ahead log.
const CHAT_ACTIVITY_RESOLUTION_MS: i64 = 60_000;
/// Of the messages that ask for an answer and are too old for the newest
/// [`PROMPT_MESSAGES_MAX`], how many come along nevertheless.
const OLD_WAKING_MESSAGES_MAX: usize = 16;
/// Page cache of a connection that takes messages in by the batch, in the unit of `PRAGMA
/// cache_size` (negative: KiB). A message goes to the end of its chat in three indexes: with a
/// hundred lively chats, a cache that does not hold all these ends reads six pages for each
/// message, and halves the speed. Where fewer than [`INTAKE_BATCH_MIN`] come at a time nobody
/// notices, and the memory would stay.
const INTAKE_CACHE: i64 = -8192;
/// See [`INTAKE_CACHE`].
const INTAKE_BATCH_MIN: usize = 100;
/// Bytes of a sender's name; the rest is cut off.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// A message as a channel hands it in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct NewMessage {
    /// Where it was said.
    pub chat: ChatJid,
    /// The channel's id of it, unique in its chat: what is handed in again is recognised by it.
    pub id: String,
    /// Address of who said it.
    pub sender: String,
    /// The other address of the same person, if there is one: lists of senders may name either.
    pub sender_alt: Option<String>,
    /// What that one is called.
    pub sender_name: String,
    /// What was said.
    pub text: String,
    /// When, by the sender's clock.
    pub sent_at: UnixMs,
    /// Whether the assistant itself said it; known by the channel, never by the text.
    pub is_from_assistant: bool,
    /// Whether the channel says that the assistant is mentioned.
    pub mentions_assistant: bool,
    /// What the chat is called, if the channel knows.
    pub chat_name: Option<String>,
    /// Whether several people talk in the chat.
    pub is_group: bool,
    /// Whether it is older than our place in the chat: context, never work.
    pub history: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored.
    New {
        /// Its place in the order of arrival.
        seq: Seq,
        /// Whether it asks for an answer.
        wakes: bool,
    },
    /// It was there already.
    Duplicate,
    /// Its chat belongs to no group: the chat was noted, the text was not.
    NotRegistered,
    /// There is no text in it; nothing was stored.
    Empty,
    /// The group drops messages of this sender; the text was not stored.
    SenderDropped,
    /// The database refuses it, for instance for its id; the others of the batch stand.
    Malformed,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// The channel's id of it.
    pub id: String,
    /// Address of who said it.
    pub sender: String,
    /// What that one is called.
    pub sender_name: String,
    /// What was said.
    pub text: String,
    /// When, by the sender's clock.
    pub sent_at: UnixMs,
    /// Whether it asks for an answer.
    pub wakes: bool,
}

/// What a prompt is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order of arrival.
    pub messages: Vec<Message>,
    /// How many more are unsettled, but too old for a bounded prompt.
    pub left_out: usize,
    /// The newest unsettled message: an answer to this batch settles all up to it. Where nothing
    /// is unsettled, the last settled one.
    pub last_seq: Seq,
}

/// A message that asks for an answer, and where.
pub type Woken = (Seq, GroupFolder, ChatJid);

impl Store {
    /// Commits a batch, in which each message stands alone: tells for each what became of it.
    /// Text is kept only of chats that belong to a group, own messages are known by flag or id,
    /// and whether a message asks for an answer is decided here, in the same transaction as the
    /// group's policy is read.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite): nothing of the batch was stored.
    pub fn accept(
        &mut self,
        batch: &[NewMessage],
        assistant_name: &str,
        now: UnixMs,
    ) -> Result<Vec<Accepted>> {
        let doing = "storing messages";
        if INTAKE_BATCH_MIN <= batch.len() && !self.takes_in_batches {
            self.conn.pragma_update(None, "cache_size", INTAKE_CACHE).map_err(failed(doing))?;
            self.takes_in_batches = true;
        }
        let tx = self.write(doing)?;
        let mut chats = HashMap::new();
        let accepted = batch
            .iter()
            .map(|message| accept(&tx, &mut chats, message, assistant_name, now))
            .collect::<rusqlite::Result<_>>()
            .map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(accepted)
    }

    /// Chats where somebody waits for an answer, longest first. For the start; later
    /// [`Store::woken_since`] tells the news.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn pending_chats(&self) -> Result<Vec<(GroupFolder, ChatJid)>> {
        let sql = include_str!("../../sql/query/pending_chats.sql");
        let rows = self.all(sql, [], "listing pending chats", |row| {
            // A group or chat with an impossible name is reported by `groups`, not served.
            Ok(row.get("folder").and_then(|folder| Ok((folder, row.get("jid")?))).ok())
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The newest message of all; zero where there is none.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn newest_seq(&self) -> Result<Seq> {
        let sql = "SELECT coalesce(max(seq), 0) FROM messages";
        self.one(sql, [], "looking for the newest message", |row| row.get(0))
    }

    /// Of the next `limit` messages after `seen`, those that ask for an answer and are not
    /// settled, oldest first; and the last one that was looked at, to go on from.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn woken_since(&self, seen: Seq, limit: usize) -> Result<(Vec<Woken>, Seq)> {
        let sql = include_str!("../../sql/query/arrived_since.sql");
        let params = named_params! { ":seen": seen, ":count_max": count(limit) };
        let mut scanned = seen;
        let rows = self.all(sql, params, "looking for new messages", |row| {
            scanned = row.get("seq")?;
            // Impossible names are left out as in `pending_chats`; a NULL folder does not wake.
            Ok(row
                .get("folder")
                .and_then(|folder| Ok((scanned, folder, row.get("chat_jid")?)))
                .ok())
        })?;
        Ok((rows.into_iter().flatten().collect(), scanned))
    }

    /// What a prompt for this chat is made of: the newest unsettled messages, or those after
    /// `after` where a run has the others already. Bounded by [`PROMPT_MESSAGES_MAX`] and
    /// [`PROMPT_BYTES_MAX`] (the message that crosses it included); the newest messages that ask
    /// for an answer come along even if they are older than that.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn unsettled(&self, chat: &ChatJid, after: Option<Seq>) -> Result<Batch> {
        let doing = "reading unsettled messages";
        // One state for all queries: no message may fall between the count and the list.
        let tx = self.read(doing)?;
        unsettled(&tx, chat, after).map_err(failed(doing))
    }

    /// Whether somebody waits for an answer in this chat since `after`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn has_waking_after(&self, chat: &ChatJid, after: Seq) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY messages_waking
                                  WHERE chat_jid = ? AND wakes = 1 AND seq > ?)";
        self.one(sql, (chat, after), "looking for a waiting message", |row| row.get(0))
    }

    /// Up to where everything in this chat is settled; `None` if it belongs to no group.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn cursor(&self, chat: &ChatJid) -> Result<Option<Seq>> {
        cursor(&self.conn, chat).map_err(failed("reading a cursor"))
    }

    /// Nobody waits any more for an answer to this message; it stays as context. Tells whether
    /// somebody did.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn withdraw(&mut self, chat: &ChatJid, seq: Seq) -> Result<bool> {
        let sql = "UPDATE messages SET wakes = 0 WHERE seq = ? AND chat_jid = ? AND wakes = 1";
        Ok(self.change(sql, (seq, chat), "withdrawing a message")? == 1)
    }
}

pub(super) fn cursor(conn: &Connection, chat: &ChatJid) -> rusqlite::Result<Option<Seq>> {
    conn.prepare_cached("SELECT cursor_seq FROM group_chats WHERE jid = ?")?
        .query_row([chat], |row| row.get("cursor_seq"))
        .optional()
}

/// What a transaction knows of a chat.
#[derive(Default)]
struct KnownChat {
    name: Option<String>,
    is_group: bool,
    last_message_at: Option<UnixMs>,
    /// `Err`: it has a group whose row is corrupt.
    group: Option<rusqlite::Result<Group>>,
}

fn accept<'a>(
    conn: &Connection,
    chats: &mut HashMap<&'a ChatJid, KnownChat>,
    message: &'a NewMessage,
    assistant_name: &str,
    now: UnixMs,
) -> rusqlite::Result<Accepted> {
    if message.text.trim().is_empty() {
        return Ok(Accepted::Empty);
    }
    if !chats.contains_key(&message.chat) {
        chats.insert(&message.chat, known_chat(conn, &message.chat)?);
    }
    let chat = chats.get_mut(&message.chat).expect("it was just put there");
    note_activity(conn, chat, message)?;
    let Some(group) = &chat.group else {
        return Ok(Accepted::NotRegistered);
    };
    let is_from_assistant = message.is_from_assistant || said_by_us(conn, &message.id)?;
    let senders = match group {
        Ok(group) => group.config.senders.as_ref(),
        Err(_) => None,
    };
    // At the terminal sits who rules over the list.
    let is_anybody = is_from_assistant || message.chat.channel() == ChannelKind::Local;
    let is_allowed = |list: &Senders| {
        list.allows(&message.sender)
            || message.sender_alt.as_ref().is_some_and(|other| list.allows(other))
    };
    let stranger_to = senders.filter(|list| !is_anybody && !is_allowed(list));
    if stranger_to.is_some_and(|list| list.others == OtherSenders::Drop) {
        return Ok(Accepted::SenderDropped);
    }
    let wakes = match group {
        _ if is_from_assistant || message.history || stranger_to.is_some() => false,
        // Whoever types at the terminal is the owner, and means the assistant.
        Ok(_) if message.chat.channel() == ChannelKind::Local => true,
        Ok(group) => {
            calls(group, &message.text, message.mentions_assistant, assistant_name).is_some()
        }
        // It cannot run before its row is mended, and we do not know whom it answers.
        Err(_) => false,
    };
    // By place, not by name: this is the one statement whose speed shows.
    let inserted =
        conn.prepare_cached(include_str!("../../sql/query/insert_message.sql"))?.execute(params![
            message.chat,
            message.id,
            wakes,
            is_from_assistant,
            message.sent_at,
            now,
            cut(&message.sender, NAME_BYTES_MAX),
            cut(&message.sender_name, NAME_BYTES_MAX),
            cut(&message.text, MESSAGE_BYTES_MAX),
        ]);
    match inserted {
        Ok(0) => Ok(Accepted::Duplicate),
        Ok(_) => Ok(Accepted::New { seq: Seq(conn.last_insert_rowid()), wakes }),
        // Undoes this statement alone.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Accepted::Malformed)
        }
        Err(error) => Err(error),
    }
}

/// Why a message is meant for the assistant; `None`: it is not.
pub fn calls(
    group: &Group,
    text: &str,
    mentions_assistant: bool,
    assistant_name: &str,
) -> Option<&'static str> {
    let name = group.trigger_name.as_deref().unwrap_or(assistant_name);
    let reasons = [
        (group.is_main, "main answers every message"),
        (!group.requires_trigger, "the group answers every message"),
        (mentions_assistant, "it mentions the assistant"),
    ];
    let found = reasons.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason);
    found.or_else(|| trigger::wakes(text, name).then_some("it begins with the assistant's name"))
}

fn known_chat(conn: &Connection, chat: &ChatJid) -> rusqlite::Result<KnownChat> {
    let known = conn
        .prepare_cached(include_str!("../../sql/query/chat_policy.sql"))?
        .query_row(named_params! { ":chat": chat }, |row| {
            let folder: Option<String> = row.get("folder")?;
            Ok(KnownChat {
                name: row.get("chat_name")?,
                is_group: row.get("is_group")?,
                last_message_at: row.get("last_message_at_ms")?,
                group: folder.map(|_| groups::from_row(row)),
            })
        })
        .optional()?;
    Ok(known.unwrap_or_default())
}

/// Writes only what is worth a write.
fn note_activity(
    conn: &Connection,
    chat: &mut KnownChat,
    message: &NewMessage,
) -> rusqlite::Result<()> {
    let at = message.sent_at;
    let is_fresh =
        chat.last_message_at.is_some_and(|last| at.0 < last.0 + CHAT_ACTIVITY_RESOLUTION_MS);
    let is_named = message.chat_name.is_none() || chat.name == message.chat_name;
    if is_fresh && is_named && chat.is_group == message.is_group {
        return Ok(());
    }
    chats::upsert(conn, &message.chat, message.chat_name.as_deref(), message.is_group, at)?;
    if message.chat_name.is_some() {
        chat.name.clone_from(&message.chat_name);
    }
    chat.is_group = message.is_group;
    chat.last_message_at = chat.last_message_at.max(Some(at));
    Ok(())
}

/// Whether the message is the echo of one from our outbox.
fn said_by_us(conn: &Connection, id: &str) -> rusqlite::Result<bool> {
    if !id.starts_with(super::outbox::CHANNEL_MESSAGE_ID_PREFIX) {
        return Ok(false);
    }
    conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE channel_message_id = ?)")?
        .query_row([id], |row| row.get(0))
}

/// The longest beginning of `text` of at most `bytes_max` bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=bytes_max.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

fn unsettled(conn: &Connection, chat: &ChatJid, after: Option<Seq>) -> rusqlite::Result<Batch> {
    let Some(floor) = cursor(conn, chat)?.max(after) else {
        return Ok(Batch::default());
    };
    let mut messages = Vec::new();
    let mut bytes = 0;
    let mut newest = conn.prepare_cached(include_str!("../../sql/query/unsettled.sql"))?;
    let mut rows = newest.query(named_params! {
        ":chat": chat, ":floor": floor, ":count_max": count(PROMPT_MESSAGES_MAX),
    })?;
    while bytes <= PROMPT_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let message = from_row(row)?;
        bytes += message.text.len();
        messages.push(message);
    }
    let (Some(last), Some(oldest)) = (messages.first(), messages.last()) else {
        return Ok(Batch { last_seq: floor, ..Batch::default() });
    };
    let (last_seq, oldest) = (last.seq, oldest.seq);
    messages.extend(all(
        conn,
        include_str!("../../sql/query/unsettled_waking.sql"),
        named_params! {
            ":chat": chat, ":floor": floor, ":below": oldest,
            ":count_max": count(OLD_WAKING_MESSAGES_MAX),
        },
        from_row,
    )?);
    messages.reverse();
    let sql = "SELECT count(*) FROM messages INDEXED BY messages_by_chat
               WHERE chat_jid = ? AND is_from_assistant = 0 AND seq > ? AND seq < ?";
    let older: i64 =
        conn.prepare_cached(sql)?.query_row((chat, floor, oldest), |row| row.get(0))?;
    let left_out = usize::try_from(older).unwrap_or(0)
        - messages.iter().filter(|message| message.seq < oldest).count();
    Ok(Batch { messages, left_out, last_seq })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: row.get("seq")?,
        id: row.get("id")?,
        sender: row.get("sender")?,
        sender_name: row.get("sender_name")?,
        text: row.get("text")?,
        sent_at: row.get("sent_at_ms")?,
        wakes: row.get("wakes")?,
    })
}
