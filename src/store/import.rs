//! Rows that come from elsewhere, put in as one transaction.

use rusqlite::{ErrorCode, named_params, params};

use super::messages::{NAME_BYTES_MAX, cut};
use super::turn::Write;
use super::{
    NewGroup, NewTask, RegisterError, Result, SET_STATE, Store, TaskState, chats, failed, register,
    sessions,
};
use crate::ids::{ChatJid, GroupFolder, Seq, TaskId, UnixMs};
use crate::limits::MESSAGE_BYTES_MAX;

const DOING: &str = "importing";
/// Page cache of a connection that imports, in the unit of `PRAGMA cache_size` (negative: KiB): the
/// ids of a million messages come in no order, and their index has to be at hand.
const CACHE: i64 = -49_152;

/// What a home holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Groups beside main.
    pub groups: i64,
    /// Messages.
    pub messages: i64,
    /// Tasks.
    pub tasks: i64,
}

/// A message as it was stored elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct OldMessage<'a> {
    /// Where it was said.
    pub chat: &'a ChatJid,
    /// The channel's id of it.
    pub id: &'a str,
    /// Whether it asks for an answer.
    pub wakes: bool,
    /// Whether the assistant said it.
    pub is_from_assistant: bool,
    /// When it was said.
    pub sent_at: UnixMs,
    /// Address of who said it.
    pub sender: &'a str,
    /// What that one is called.
    pub sender_name: &'a str,
    /// What was said.
    pub text: &'a str,
}

/// A task as it was stored elsewhere.
#[derive(Clone, Debug)]
pub struct OldTask {
    /// Its key.
    pub id: TaskId,
    /// What is asked, when, and where.
    pub task: NewTask,
    /// How it stands.
    pub state: TaskState,
    /// Its next slot.
    pub next_run: Option<UnixMs>,
    /// When it was created.
    pub created_at: UnixMs,
}

/// A finished run of a task as it was noted elsewhere.
#[derive(Clone, Debug)]
pub struct OldTaskRun<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// When it began.
    pub began_at: UnixMs,
    /// When it was done.
    pub ended_at: UnixMs,
    /// The beginning of what was said.
    pub result: Option<&'a str>,
    /// Why it went wrong.
    pub error: Option<&'a str>,
}

/// The transaction. Dropped without [`Import::commit`], nothing was changed.
pub struct Import<'a> {
    tx: Write<'a>,
}

impl Store {
    /// What is there beside what the first start makes.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn contents(&self) -> Result<Contents> {
        let sql = "SELECT (SELECT count(*) FROM groups WHERE is_main = 0) AS groups,
                          (SELECT count(*) FROM messages) AS messages,
                          (SELECT count(*) FROM tasks) AS tasks";
        self.one(sql, [], "looking for what is there", |row| {
            Ok(Contents {
                groups: row.get("groups")?,
                messages: row.get("messages")?,
                tasks: row.get("tasks")?,
            })
        })
    }

    /// Begins an import.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn import(&mut self) -> Result<Import<'_>> {
        self.conn.pragma_update(None, "cache_size", CACHE).map_err(failed(DOING))?;
        Ok(Import { tx: self.write(DOING)? })
    }
}

impl Import<'_> {
    /// Puts a group in, or the chat of one that is there: main, or one with several chats.
    ///
    /// # Errors
    /// [`RegisterError`]; the transaction can go on.
    pub fn group(
        &self,
        new: &NewGroup,
        added_at: UnixMs,
    ) -> std::result::Result<(), RegisterError> {
        register::import(&self.tx, new, added_at)
    }

    /// Notes a chat.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn chat(
        &self,
        jid: &ChatJid,
        name: Option<&str>,
        is_group: bool,
        at: UnixMs,
    ) -> Result<()> {
        let name = name.map(|name| cut(name, NAME_BYTES_MAX));
        chats::upsert(&self.tx, jid, name, is_group, at).map_err(failed(DOING))
    }

    /// Puts a message behind all others; `None` where it cannot be stored or is there already.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn message(&self, message: &OldMessage<'_>) -> Result<Option<Seq>> {
        let insert = || {
            self.tx.prepare_cached(include_str!("../../sql/query/insert_message.sql"))?.execute(
                params![
                    message.chat,
                    message.id,
                    message.wakes,
                    message.is_from_assistant,
                    message.sent_at,
                    message.sent_at,
                    cut(message.sender, NAME_BYTES_MAX),
                    cut(message.sender_name, NAME_BYTES_MAX),
                    cut(message.text, MESSAGE_BYTES_MAX),
                ],
            )
        };
        match insert() {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(Seq(self.tx.last_insert_rowid()))),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(None)
            }
            Err(error) => Err(failed(DOING)(error)),
        }
    }

    /// The newest message of a chat that was said up to `at`; zero where there is none.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn last_until(&self, chat: &ChatJid, at: UnixMs) -> Result<Seq> {
        let sql = "SELECT coalesce(max(seq), 0) FROM messages
                   WHERE chat_jid = ? AND sent_at_ms <= ?";
        self.tx.query_row(sql, (chat, at), |row| row.get(0)).map_err(failed(DOING))
    }

    /// All messages of a group's chat up to `seq` are settled. A cursor never goes back.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn settle(&self, chat: &ChatJid, seq: Seq) -> Result<()> {
        let sql = "UPDATE group_chats SET cursor_seq = max(cursor_seq, ?) WHERE jid = ?";
        self.tx.execute(sql, (seq, chat)).map(drop).map_err(failed(DOING))
    }

    /// The session that the group's next run continues.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn session(&self, folder: &GroupFolder, id: &str, now: UnixMs) -> Result<()> {
        sessions::set(&self.tx, folder, id, now).map_err(failed(DOING))
    }

    /// Puts a task in; false where its id is taken.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn task(&self, old: &OldTask) -> Result<bool> {
        let sql = "INSERT INTO tasks (id, folder, chat_jid, state, next_run_ms, schedule_kind,
                       schedule_value, context_mode, created_by, created_at_ms, changed_at_ms,
                       prompt)
                   VALUES (:id, :folder, :chat, :state, :next_run, :schedule_kind, :schedule_value,
                       :context_mode, :created_by, :created_at, :created_at, :prompt)
                   ON CONFLICT (id) DO NOTHING";
        let insert = || {
            self.tx.prepare_cached(sql)?.execute(named_params! {
                ":id": old.id,
                ":folder": old.task.folder,
                ":chat": old.task.chat,
                ":state": old.state,
                ":next_run": old.next_run,
                ":schedule_kind": old.task.schedule_kind,
                ":schedule_value": old.task.schedule_value.trim(),
                ":context_mode": old.task.context,
                ":created_by": old.task.created_by,
                ":created_at": old.created_at,
                ":prompt": old.task.prompt,
            })
        };
        Ok(insert().map_err(failed(DOING))? == 1)
    }

    /// Notes a run of a task; false where there is no such task.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn task_run(&self, old: &OldTaskRun<'_>) -> Result<bool> {
        let sql = "INSERT INTO task_runs (task_id, asked_by, planned_for_ms, claimed_at_ms,
                       ended_at_ms, status, result, error)
                   SELECT id, 'schedule', :began_at, :began_at, :ended_at,
                       iif(:error IS NULL, 'succeeded', 'failed'), :result, :error
                   FROM tasks WHERE id = :task";
        let insert = || {
            self.tx.prepare_cached(sql)?.execute(named_params! {
                ":task": old.task,
                ":began_at": old.began_at,
                ":ended_at": old.ended_at,
                ":result": old.result,
                ":error": old.error,
            })
        };
        Ok(insert().map_err(failed(DOING))? == 1)
    }

    /// Makes it true, together with a value of `state`.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite): nothing was changed.
    pub fn commit(self, state: [&str; 2]) -> Result<()> {
        self.tx.execute(SET_STATE, state).map_err(failed(DOING))?;
        self.tx.commit().map_err(failed(DOING))
    }
}
