//! Runs: one row per life of a sandbox, and the one transaction that records what it said.

use rusqlite::{Connection, Row, named_params};

use super::{
    Error, NewOutbox, OutboxKind, Result, Store, TaskEnd, failed, messages, outbox, sessions,
    task_runs, turn, word_column,
};
use crate::ids::{ChatJid, GroupFolder, OutboxId, RunId, Seq, UnixMs};

/// Whom a run serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// People in a chat.
    Chat,
    /// A schedule.
    Task,
}
word_column!(RunKind { Chat = "chat", Task = "task" });

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A turn is going on.
    Busy,
    /// Its runner waits for follow-ups.
    Idle,
    /// Ended as it should.
    Succeeded,
    /// Ended otherwise.
    Failed,
    /// The program ended before the run did.
    Interrupted,
}
word_column!(RunState {
    Busy = "busy",
    Idle = "idle",
    Succeeded = "succeeded",
    Failed = "failed",
    Interrupted = "interrupted",
});

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read by the model, without those of the cache.
    pub input_tokens: i64,
    /// Tokens written by the model.
    pub output_tokens: i64,
    /// Tokens read from the cache.
    pub cache_read_tokens: i64,
    /// Tokens written to the cache.
    pub cache_write_tokens: i64,
    /// Millionths of a US dollar.
    pub cost_micro_usd: i64,
}

impl From<rust_claw_protocol::Usage> for Usage {
    /// What a hostile runner reports stays within bounds.
    fn from(reported: rust_claw_protocol::Usage) -> Usage {
        let tokens = |n: u64| n.min(TOKENS_MAX).cast_signed();
        #[expect(clippy::cast_possible_truncation, reason = "clamped before")]
        let cost_micro_usd = (reported.cost_usd * 1e6).round().clamp(0.0, 1e12) as i64;
        Usage {
            input_tokens: tokens(reported.input_tokens),
            output_tokens: tokens(reported.output_tokens),
            cache_read_tokens: tokens(reported.cache_read_tokens),
            cache_write_tokens: tokens(reported.cache_write_tokens),
            cost_micro_usd,
        }
    }
}

impl From<crate::credentials::RunUsage> for Usage {
    /// What the credential proxy counted; what it cost nobody told the proxy.
    fn from(counted: crate::credentials::RunUsage) -> Usage {
        let tokens = |n: u64| n.min(TOKENS_MAX).cast_signed();
        Usage {
            input_tokens: tokens(counted.input_tokens),
            output_tokens: tokens(counted.output_tokens),
            cache_read_tokens: tokens(counted.cache_read_tokens),
            cache_write_tokens: tokens(counted.cache_write_tokens),
            cost_micro_usd: 0,
        }
    }
}

/// A trillion tokens, as a million dollars of cost: sums of a few million of these still fit, and
/// no run comes near. `step_run.sql` bounds the sum of one run by the same number.
const TOKENS_MAX: u64 = 1_000_000_000_000;

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Usage) {
        self.input_tokens += more.input_tokens;
        self.output_tokens += more.output_tokens;
        self.cache_read_tokens += more.cache_read_tokens;
        self.cache_write_tokens += more.cache_write_tokens;
        self.cost_micro_usd += more.cost_micro_usd;
    }
}

/// A run that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its group.
    pub folder: GroupFolder,
    /// Whom it serves.
    pub kind: RunKind,
    /// The chat that it answers.
    pub chat: ChatJid,
    /// The task; for [`RunKind::Task`] and only there.
    pub task_id: Option<String>,
    /// What the container's name starts with; see [`NewRun::container_name`].
    pub container_name_prefix: String,
}

impl NewRun {
    /// Name of the run's container: the prefix, `-`, the run's id.
    pub fn container_name(&self, id: RunId) -> String {
        format!("{}-{id}", self.container_name_prefix)
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its key.
    pub id: RunId,
    /// Its group.
    pub folder: GroupFolder,
    /// Whom it serves.
    pub kind: RunKind,
    /// The chat that it answers.
    pub chat: ChatJid,
    /// The task, of [`RunKind::Task`].
    pub task_id: Option<String>,
    /// Name of its container.
    pub container_name: String,
    /// How far it is.
    pub state: RunState,
    /// The last message that it settled.
    pub last_seq: Option<Seq>,
    /// Turns that ended.
    pub turn_count: u32,
    /// What all turns took.
    pub usage: Usage,
    /// Why it failed.
    pub error: Option<String>,
    /// When it started.
    pub started_at: UnixMs,
    /// When its row last changed.
    pub changed_at: UnixMs,
    /// When it ended.
    pub ended_at: Option<UnixMs>,
}

/// What a run did since the last step: one or more frames of its runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// How far it is now: [`RunState::Busy`] or [`RunState::Idle`].
    pub state: RunState,
    /// Session to continue next time (`Some(None)`: none); `None`: as before.
    pub session_id: Option<Option<String>>,
    /// What is to be said.
    pub answers: Vec<NewOutbox>,
    /// The chat and the message up to which these answers, or the success without one, settle it.
    pub settle: Option<(ChatJid, Seq)>,
    /// Turns that ended.
    pub turns: u32,
    /// What they took.
    pub usage: Usage,
    /// The task of the run is done.
    pub task: Option<TaskEnd>,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Keys of the answers that are new; one whose `dedupe_key` was there is not.
    pub queued: Vec<OutboxId>,
}

impl Store {
    /// Notes a run before it starts.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn start_run(&mut self, run: &NewRun, now: UnixMs) -> Result<RunId> {
        let doing = "noting a run";
        let tx = self.write(doing)?;
        let id = start(&tx, run, now).map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(id)
    }

    /// Records what a run did, all or nothing: its answers, the cursor past what they answer, the
    /// session, the end of its task, its own row. A cursor only moves forward; an answer whose
    /// `dedupe_key` is there already was said already, which is no error.
    ///
    /// # Errors
    /// [`Error::RunEnded`], [`Error::Sqlite`]: nothing was recorded, so what the run answered is
    /// still pending.
    pub fn record(&mut self, run: RunId, step: &RunStep, now: UnixMs) -> Result<Recorded> {
        let doing = "recording an answer";
        let tx = self.write(doing)?;
        let recorded = record(&tx, run, step, now).map_err(failed(doing))?;
        let recorded = recorded.ok_or(Error::RunEnded { run })?;
        tx.commit().map_err(failed(doing))?;
        Ok(recorded)
    }

    /// Notes the end of a run; nothing changes where it has ended already. `state` is one of the
    /// last three of [`RunState`].
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn end_run(
        &mut self,
        run: RunId,
        state: RunState,
        error: Option<&str>,
        now: UnixMs,
    ) -> Result<()> {
        let _turn = turn::take();
        end(&self.conn, run, state, error, now).map_err(failed("noting the end of a run"))
    }

    /// At start, when no run can be alive: ends those that an earlier life of the program left,
    /// and tells which they were.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Corrupt`].
    pub fn interrupt_left_over(&mut self, now: UnixMs) -> Result<Vec<Run>> {
        let sql = "UPDATE runs SET state = 'interrupted', changed_at_ms = :now, ended_at_ms = :now
                   WHERE state IN ('busy', 'idle') RETURNING *";
        self.all(sql, named_params! { ":now": now }, "ending left-over runs", from_row)
    }

    /// Runs that have not ended, oldest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Corrupt`].
    pub fn alive_runs(&self) -> Result<Vec<Run>> {
        let sql = "SELECT * FROM runs WHERE state IN ('busy', 'idle') ORDER BY id";
        self.all(sql, [], "listing runs", from_row)
    }
}

/// Runs of one chat that failed one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many, up to the asked-for bound.
    pub count: u32,
    /// When the last one ended.
    pub last_at: UnixMs,
    /// Why it failed.
    pub error: String,
}

impl Store {
    /// The failures since the last run for people in this chat that did not fail; `None` where the
    /// last one did not. Counts at most `count_max`.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Corrupt`].
    pub fn failures_in_a_row(&self, chat: &ChatJid, count_max: u32) -> Result<Option<Failures>> {
        let sql =
            "SELECT * FROM runs WHERE chat_jid = ? AND kind = 'chat' AND ended_at_ms IS NOT NULL
                   ORDER BY id DESC LIMIT ?";
        let runs = self.all(sql, (chat, count_max), "listing failed runs", from_row)?;
        let mut failed = runs.into_iter().take_while(|run| run.state == RunState::Failed);
        let Some(last) = failed.next() else { return Ok(None) };
        Ok(Some(Failures {
            count: u32::try_from(failed.count() + 1).unwrap_or(count_max),
            last_at: last.changed_at,
            error: last.error.unwrap_or_default(),
        }))
    }
}

pub(super) fn start(conn: &Connection, run: &NewRun, now: UnixMs) -> rusqlite::Result<RunId> {
    conn.prepare_cached(include_str!("../../sql/query/insert_run.sql"))?.execute(
        named_params! {
            ":folder": run.folder,
            ":kind": run.kind,
            ":chat": run.chat,
            ":task_id": run.task_id,
            ":container_name": run.container_name_prefix,
            ":now": now,
        },
    )?;
    let id = RunId(conn.last_insert_rowid());
    conn.prepare_cached("UPDATE runs SET container_name = ? WHERE id = ?")?
        .execute((run.container_name(id), id))?;
    Ok(id)
}

pub(super) fn end(
    conn: &Connection,
    run: RunId,
    state: RunState,
    error: Option<&str>,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET state = :state, error = :error, changed_at_ms = :now,
                   ended_at_ms = :now
               WHERE id = :run AND state IN ('busy', 'idle')";
    let params = named_params! { ":state": state, ":error": error, ":now": now, ":run": run };
    conn.prepare_cached(sql)?.execute(params).map(drop)
}

/// `None` where the run has ended.
fn record(
    conn: &Connection,
    run: RunId,
    step: &RunStep,
    now: UnixMs,
) -> rusqlite::Result<Option<Recorded>> {
    let said_by_tool = said_by_tool(conn, run, &step.answers)?;
    let mut settled_from = None;
    if let Some((chat, seq)) = &step.settle {
        settled_from = messages::cursor(conn, chat)?.map(|cursor| Seq(cursor.0 + 1));
        move_cursor(conn, chat, *seq)?;
    }
    let stepped = conn.prepare_cached(include_str!("../../sql/query/step_run.sql"))?.execute(
        named_params! {
            ":run": run,
            ":state": step.state,
            ":settled_from": settled_from,
            ":settled_to": step.settle.as_ref().map(|(_, seq)| seq),
            ":turns": step.turns,
            ":input_tokens": step.usage.input_tokens,
            ":output_tokens": step.usage.output_tokens,
            ":cache_read_tokens": step.usage.cache_read_tokens,
            ":cache_write_tokens": step.usage.cache_write_tokens,
            ":cost_micro_usd": step.usage.cost_micro_usd,
            ":now": now,
        },
    )?;
    if stepped == 0 {
        return Ok(None);
    }
    if let Some(session_id) = &step.session_id {
        let folder = conn
            .prepare_cached("SELECT folder FROM runs WHERE id = ?")?
            .query_row([run], |row| row.get("folder"))?;
        match session_id {
            Some(id) => sessions::set(conn, &folder, id, now)?,
            None => sessions::clear(conn, &folder)?,
        }
    }
    let mut recorded = Recorded::default();
    for (answer, is_said) in step.answers.iter().zip(said_by_tool) {
        if !is_said {
            recorded.queued.extend(outbox::insert(conn, answer, Some(run), now)?);
        }
    }
    if let Some(end) = &step.task {
        task_runs::finish(conn, run, end, now)?;
    }
    Ok(Some(recorded))
}

/// For each answer, whether the agent has sent the same text into the same chat by tool in the turn
/// that goes on: then the answer is only its echo.
fn said_by_tool(
    conn: &Connection,
    run: RunId,
    answers: &[NewOutbox],
) -> rusqlite::Result<Vec<bool>> {
    let sql = "SELECT EXISTS (
                   SELECT 1 FROM outbox o INDEXED BY outbox_by_tool JOIN runs r ON r.id = o.run_id
                   WHERE o.run_id = :run AND o.kind = 'tool' AND o.id > r.turn_outbox_id
                     AND o.jid = :jid AND o.text = :text)";
    let mut said = conn.prepare_cached(sql)?;
    answers
        .iter()
        .map(|answer| {
            if answer.kind == OutboxKind::Notice {
                return Ok(false);
            }
            for part in outbox::parts(&answer.jid, &answer.text) {
                let params = named_params! { ":run": run, ":jid": answer.jid, ":text": part };
                if !said.query_row(params, |row| row.get(0))? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .collect()
}

/// Forward only: what is settled stays so.
pub(super) fn move_cursor(conn: &Connection, chat: &ChatJid, seq: Seq) -> rusqlite::Result<()> {
    let sql = "UPDATE group_chats SET cursor_seq = :seq WHERE jid = :chat AND cursor_seq < :seq";
    conn.prepare_cached(sql)?.execute(named_params! { ":seq": seq, ":chat": chat }).map(drop)
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get("id")?,
        folder: row.get("folder")?,
        kind: row.get("kind")?,
        chat: row.get("chat_jid")?,
        task_id: row.get("task_id")?,
        container_name: row.get("container_name")?,
        state: row.get("state")?,
        last_seq: row.get("last_seq")?,
        turn_count: row.get("turn_count")?,
        usage: usage(row)?,
        error: row.get("error")?,
        started_at: row.get("started_at_ms")?,
        changed_at: row.get("changed_at_ms")?,
        ended_at: row.get("ended_at_ms")?,
    })
}

pub(super) fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        input_tokens: row.get("input_tokens")?,
        output_tokens: row.get("output_tokens")?,
        cache_read_tokens: row.get("cache_read_tokens")?,
        cache_write_tokens: row.get("cache_write_tokens")?,
        cost_micro_usd: row.get("cost_micro_usd")?,
    })
}
