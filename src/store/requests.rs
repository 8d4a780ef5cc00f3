//! What agents ask for: their messages, and a note of every other request, so that each is done
//! once, whatever crashes.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::{NewOutbox, OutboxKind, Result, Store, count, failed, outbox};
use crate::ids::{ChatJid, GroupFolder, OutboxId, RunId, UnixMs};
use crate::limits::RETENTION_STEP_MAX;

/// A message that an agent sends by tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolMessage {
    /// To whom.
    pub jid: ChatJid,
    /// What.
    pub text: String,
    /// What has this key is said once.
    pub dedupe_key: String,
    /// The agent did not wait for our response, so that the answer of its turn may have come before
    /// this: with the same text, it is that answer.
    pub may_echo: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It is in the outbox.
    New(OutboxId),
    /// It was there already.
    Before(OutboxId),
    /// The answer of its turn says the same.
    Echo(OutboxId),
}

impl Queued {
    /// The row of the outbox.
    pub fn id(self) -> OutboxId {
        match self {
            Queued::New(id) | Queued::Before(id) | Queued::Echo(id) => id,
        }
    }
}

/// What is known of a request that is about to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is new, and noted now.
    New,
    /// It was done, with this response.
    Done(String),
    /// It was begun and did not come to its end: it may have been done or not.
    CutShort,
}

impl Store {
    /// Queues what the agent of a group says by tool, all or nothing. It belongs to the group's
    /// run that lives, whose answer with the same text is then no second message.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn enqueue_tool(
        &mut self,
        folder: &GroupFolder,
        batch: &[ToolMessage],
        now: UnixMs,
    ) -> Result<Vec<Queued>> {
        let doing = "queueing a tool's message";
        let tx = self.write(doing)?;
        let queued = || {
            let sql = "SELECT max(id) FROM runs INDEXED BY runs_alive
                       WHERE state IN ('busy', 'idle') AND folder = ?";
            let run = tx.prepare_cached(sql)?.query_row([folder], |row| row.get(0))?;
            batch
                .iter()
                .map(|message| enqueue(&tx, run, message, now))
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let queued = queued().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(queued)
    }

    /// Notes a request before it is done.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn begin_request(&mut self, folder: &GroupFolder, key: &str, now: UnixMs) -> Result<Begun> {
        let sql = "INSERT INTO requests (folder, key, at_ms) VALUES (?, ?, ?)
                   ON CONFLICT (folder, key) DO NOTHING";
        if self.change(sql, (folder, key, now), "noting a request")? == 1 {
            return Ok(Begun::New);
        }
        let sql = "SELECT response FROM requests WHERE folder = ? AND key = ?";
        let response: Option<String> =
            self.one(sql, (folder, key), "looking for a request", |row| row.get(0))?;
        Ok(response.map_or(Begun::CutShort, Begun::Done))
    }

    /// Notes that a request is done.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn end_request(&mut self, folder: &GroupFolder, key: &str, response: &str) -> Result<()> {
        let sql = "UPDATE requests SET response = ? WHERE folder = ? AND key = ?";
        self.change(sql, (response, folder, key), "noting a response").map(drop)
    }

    /// Forgets a request: nothing of it was done, or nobody can repeat it.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn forget_request(&mut self, folder: &GroupFolder, key: &str) -> Result<()> {
        let sql = "DELETE FROM requests WHERE folder = ? AND key = ?";
        self.change(sql, (folder, key), "forgetting a request").map(drop)
    }

    /// Forgets requests that came before `before`, so many that others can write in between. Tells
    /// whether there may be more.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn forget_old_requests(&mut self, before: UnixMs) -> Result<bool> {
        let sql = "DELETE FROM requests WHERE (folder, key) IN
                       (SELECT folder, key FROM requests INDEXED BY requests_by_age
                        WHERE at_ms < ? LIMIT ?)";
        let params = (before, count(RETENTION_STEP_MAX));
        Ok(self.change(sql, params, "forgetting old requests")? == RETENTION_STEP_MAX)
    }
}

/// How long after an answer a tool's message with the same text is taken for its echo.
const ECHO_MS_MAX: i64 = 2_000;

fn enqueue(
    conn: &Connection,
    run: Option<RunId>,
    message: &ToolMessage,
    now: UnixMs,
) -> rusqlite::Result<Queued> {
    if message.may_echo {
        let sql = "SELECT max(id) FROM outbox INDEXED BY outbox_by_chat
                   WHERE jid = :jid AND run_id = :run AND kind IN ('answer', 'task')
                     AND text = :text AND created_at_ms >= :since";
        let mut said = conn.prepare_cached(sql)?;
        let since = UnixMs(now.0 - ECHO_MS_MAX);
        let mut find = |part: &str| {
            let params = named_params! {
                ":jid": message.jid, ":run": run, ":text": part, ":since": since,
            };
            said.query_row(params, |row| row.get::<_, Option<OutboxId>>(0))
        };
        let parts = outbox::parts(&message.jid, &message.text);
        let ids = parts.into_iter().map(&mut find).collect::<rusqlite::Result<Option<Vec<_>>>>()?;
        if let Some(id) = ids.and_then(|ids| ids.first().copied()) {
            return Ok(Queued::Echo(id));
        }
    }
    let new = NewOutbox {
        jid: message.jid.clone(),
        kind: OutboxKind::Tool,
        text: message.text.clone(),
        dedupe_key: message.dedupe_key.clone(),
    };
    if let Some(id) = outbox::insert(conn, &new, run, now)? {
        return Ok(Queued::New(id));
    }
    let sql = "SELECT id FROM outbox WHERE dedupe_key = ?";
    let before = conn.prepare_cached(sql)?.query_row([&new.dedupe_key], |row| row.get(0));
    Ok(Queued::Before(before.optional()?.unwrap_or_default()))
}
