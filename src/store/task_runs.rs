//! Runs of tasks: each slot is claimed in one transaction before it runs, and closed together with
//! the last word of its run. So it runs once, whoever looks and whatever crashes.
//!
//! A row of `task_runs` is the claim. While it has no `run_id` it waits, and whoever serves the
//! home takes it up, also after a restart; with one it has begun, and is never begun again.

use chrono_tz::Tz;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{
    NewOutbox, NewRun, Result, RunState, Store, Task, TaskError, TaskState, Usage, all, count,
    failed, outbox, runs, tasks, word_column,
};
use crate::ids::{ChatJid, GroupFolder, RunId, TaskId, TaskRunId, UnixMs};
use crate::limits::{CATCH_UP_MAX, TASK_FAILURES_MAX};
use crate::schedule::Schedule;

/// How far a run of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRunStatus {
    /// Claimed: it waits for its sandbox, or is in it.
    Running,
    /// Done.
    Succeeded,
    /// It went wrong.
    Failed,
    /// The task's script saw nothing to do, or the slot was missed for too long.
    Skipped,
    /// The program ended in the middle.
    Interrupted,
    /// Taken back before it began.
    Withdrawn,
}
word_column!(TaskRunStatus {
    Running = "running",
    Succeeded = "succeeded",
    Failed = "failed",
    Skipped = "skipped",
    Interrupted = "interrupted",
    Withdrawn = "withdrawn",
});

/// Why a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// Its time has come.
    Schedule,
    /// Somebody wants it now.
    Hand,
}
word_column!(AskedBy { Schedule = "schedule", Hand = "hand" });

/// A run of a task that waits for its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its key.
    pub id: TaskRunId,
    /// The task.
    pub task: TaskId,
    /// The task's group.
    pub folder: GroupFolder,
    /// Where the result goes.
    pub chat: ChatJid,
}

/// What [`Store::claim_due`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// What is to run now.
    pub claimed: Vec<Claim>,
    /// Tasks that ran at no time, because their only one was missed for too long.
    pub missed: Vec<TaskId>,
    /// Tasks that cannot run and were paused: which, and why.
    pub paused: Vec<(String, String)>,
    /// There may be more that are due.
    pub more: bool,
}

/// How a run of a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// Not [`TaskRunStatus::Running`].
    pub status: TaskRunStatus,
    /// The beginning of what was said.
    pub result: Option<String>,
    /// Why it went wrong.
    pub error: Option<String>,
}

/// A run of a task, as its history shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRun {
    /// Its key.
    pub id: TaskRunId,
    /// The task.
    pub task: TaskId,
    /// The life of its sandbox, once that has begun.
    pub run: Option<RunId>,
    /// Why it runs.
    pub asked_by: AskedBy,
    /// The slot.
    pub planned_for: UnixMs,
    /// When the slot was claimed.
    pub claimed_at: UnixMs,
    /// When the sandbox was started.
    pub started_at: Option<UnixMs>,
    /// When it was done.
    pub ended_at: Option<UnixMs>,
    /// How far it is.
    pub status: TaskRunStatus,
    /// The beginning of what was said.
    pub result: Option<String>,
    /// Why it went wrong.
    pub error: Option<String>,
    /// What it took.
    pub usage: Usage,
}

/// One active task whose time has come.
struct Due {
    id: TaskId,
    folder: GroupFolder,
    chat: ChatJid,
    kind: String,
    value: String,
    zone: Option<Tz>,
    planned_for: UnixMs,
    has_group: bool,
}

impl Store {
    /// When the next active task is due; in the past where it is already.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn next_due_at(&self) -> Result<Option<UnixMs>> {
        let sql = "SELECT min(next_run_ms) FROM tasks INDEXED BY tasks_due WHERE state = 'active'";
        self.one(sql, [], "looking for the next task", |row| row.get(0))
    }

    /// Claims what is due, at most `limit`, and moves each task on to its next slot: one
    /// transaction. A task whose earlier run lives loses this slot. One whose group is gone, or
    /// whose row cannot be used, is paused, with one row in its history.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn claim_due(&mut self, default: Tz, now: UnixMs, limit: usize) -> Result<Claims> {
        let doing = "claiming tasks";
        let tx = self.write(doing)?;
        let claims = claim_due(&tx, default, now, limit).map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(claims)
    }

    /// Claims a task that is to run now, whatever its schedule says and also where it is paused.
    ///
    /// # Errors
    /// [`TaskError::Running`] where it runs already; [`TaskError::Ended`],
    /// [`TaskError::NoSuchGroup`], [`TaskError::NoSuchTask`], [`TaskError::Store`].
    pub fn claim_now(&mut self, id: &TaskId, now: UnixMs) -> std::result::Result<Claim, TaskError> {
        let tx = self.write("claiming a task")?;
        let task = tasks::by_id(&tx, id)?;
        if task.state == TaskState::Cancelled {
            return Err(TaskError::Ended { id: id.clone(), state: task.state });
        }
        tasks::group_config(&tx, &task.folder)?;
        let claimed = claim(&tx, id, AskedBy::Hand, now, now)?;
        let claimed = claimed.ok_or_else(|| TaskError::Running { id: id.clone() })?;
        tx.commit()?;
        Ok(Claim { id: claimed, task: task.id, folder: task.folder, chat: task.chat })
    }

    /// Runs that wait for their sandbox, made after `after`, oldest first. One whose task cannot be
    /// read is left out; [`Store::tasks`] reports that.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn waiting_task_runs(&self, after: TaskRunId, limit: usize) -> Result<Vec<Claim>> {
        let sql = "SELECT tr.id, tr.task_id, t.folder, t.chat_jid
                   FROM task_runs tr INDEXED BY task_runs_waiting JOIN tasks t ON t.id = tr.task_id
                   WHERE tr.status = 'running' AND tr.run_id IS NULL AND tr.id > ?
                   ORDER BY tr.id LIMIT ?";
        let rows = self.all(sql, (after, count(limit)), "listing waiting tasks", |row| {
            Ok(claim_from_row(row).ok())
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The newest run of all tasks.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn newest_task_run(&self) -> Result<TaskRunId> {
        let sql = "SELECT coalesce(max(id), 0) FROM task_runs";
        self.one(sql, [], "looking for the newest run of a task", |row| row.get(0))
    }

    /// Tasks of which a waiting run was taken back at or after `since`, and none waits or runs now.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn withdrawn_since(&self, since: UnixMs) -> Result<Vec<(GroupFolder, TaskId)>> {
        let sql = "SELECT t.folder, t.id
                   FROM task_runs tr INDEXED BY task_runs_withdrawn JOIN tasks t ON t.id = tr.task_id
                   WHERE tr.status = 'withdrawn' AND tr.ended_at_ms >= ?
                     AND NOT EXISTS (SELECT 1 FROM task_runs live
                                     WHERE live.task_id = t.id AND live.status = 'running')";
        self.all(sql, [since], "listing withdrawn tasks", |row| {
            Ok((row.get("folder")?, row.get("id")?))
        })
    }

    /// The waiting run of a task, and the task; `None` where it was taken back.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub fn waiting_task(
        &self,
        id: &TaskId,
    ) -> std::result::Result<Option<(TaskRun, Task)>, TaskError> {
        let sql = "SELECT id FROM task_runs INDEXED BY task_runs_live
                   WHERE task_id = ? AND status = 'running' AND run_id IS NULL";
        let tx = self.read("looking for a waiting task")?;
        let waiting = tx.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
        let Some(waiting) = waiting else { return Ok(None) };
        let run = history(&tx, Some(waiting), None, 1)?.pop();
        run.map(|run| Ok((run, tasks::by_id(&tx, id)?))).transpose()
    }

    /// Begins a waiting run: notes the run of its sandbox and joins the two, in one transaction.
    /// `None`: it was taken back, or begun already, so nothing is to start.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn start_task_run(
        &mut self,
        id: TaskRunId,
        run: &NewRun,
        now: UnixMs,
    ) -> Result<Option<RunId>> {
        let doing = "noting the run of a task";
        let tx = self.write(doing)?;
        let started = || {
            let run = runs::start(&tx, run, now)?;
            let sql = "UPDATE task_runs SET run_id = ?
                       WHERE id = ? AND status = 'running' AND run_id IS NULL";
            rusqlite::Result::Ok((tx.prepare_cached(sql)?.execute((run, id))? == 1).then_some(run))
        };
        let Some(run) = started().map_err(failed(doing))? else { return Ok(None) };
        tx.commit().map_err(failed(doing))?;
        Ok(Some(run))
    }

    /// Ends the run of a task's sandbox, and the run of the task unless its last answer did that
    /// already; only then `notice` is said.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn end_task_run(
        &mut self,
        run: RunId,
        state: RunState,
        end: &TaskEnd,
        notice: Option<&NewOutbox>,
        now: UnixMs,
    ) -> Result<()> {
        let doing = "noting the end of a task";
        let tx = self.write(doing)?;
        let ended = || {
            if finish(&tx, run, end, now)?
                && let Some(notice) = notice
            {
                outbox::insert(&tx, notice, Some(run), now)?;
            }
            runs::end(&tx, run, state, end.error.as_deref(), now)
        };
        ended().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))
    }

    /// The sandbox of this run did not come to be, which is nobody's failure: the task waits again.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn return_task_run(
        &mut self,
        run: RunId,
        state: RunState,
        error: Option<&str>,
        now: UnixMs,
    ) -> Result<()> {
        let doing = "returning a task";
        let tx = self.write(doing)?;
        let returned = || {
            let sql = "UPDATE task_runs SET run_id = NULL WHERE run_id = ? AND status = 'running'";
            tx.prepare_cached(sql)?.execute([run])?;
            runs::end(&tx, run, state, error, now)
        };
        returned().map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))
    }

    /// Ends the live run of a task that nobody follows any more, and its sandbox's; `notice` says
    /// what is to be said, given the task before.
    ///
    /// # Errors
    /// [`TaskError::NoSuchTask`], [`TaskError::Store`].
    pub fn fail_task(
        &mut self,
        id: &TaskId,
        error: &str,
        now: UnixMs,
        notice: impl FnOnce(&Task) -> Option<NewOutbox>,
    ) -> std::result::Result<(), TaskError> {
        let tx = self.write("noting the failure of a task")?;
        let sql = "SELECT id, run_id FROM task_runs INDEXED BY task_runs_live
                   WHERE task_id = ? AND status = 'running'";
        let live: Option<(i64, Option<RunId>)> = tx
            .prepare_cached(sql)?
            .query_row([id], |row| Ok((row.get("id")?, row.get("run_id")?)))
            .optional()?;
        let Some((key, run)) = live else { return Ok(()) };
        let notice = notice(&tasks::by_id(&tx, id)?);
        let (status, error) = (TaskRunStatus::Failed, Some(error.to_owned()));
        let end = TaskEnd { status, result: None, error };
        close(&tx, "id = :key", key, &end, now)?;
        if let Some(run) = run {
            runs::end(&tx, run, RunState::Failed, end.error.as_deref(), now)?;
        }
        if let Some(notice) = notice {
            outbox::insert(&tx, &notice, run, now)?;
        }
        Ok(tx.commit()?)
    }

    /// Takes a waiting run back. Tells whether it still waited.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn withdraw_task_run(&mut self, id: TaskRunId, why: &str, now: UnixMs) -> Result<bool> {
        let doing = "withdrawing a task";
        let tx = self.write(doing)?;
        let end = withdrawn(why);
        let waited = close(&tx, "id = :key AND run_id IS NULL", id.0, &end, now);
        let waited = waited.map_err(failed(doing))?;
        tx.commit().map_err(failed(doing))?;
        Ok(waited)
    }

    /// At start, when no run can be alive: ends those that an earlier life of the program left in
    /// mid-run, and those that wait for a slot that is no longer to be made up for. `notice` says
    /// for each what is to be said. What still waits is taken up by [`Store::waiting_task_runs`].
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub fn close_left_over_tasks(
        &mut self,
        now: UnixMs,
        notice: impl Fn(&Task, TaskRunStatus) -> Option<NewOutbox>,
    ) -> std::result::Result<Vec<(Task, TaskRunStatus)>, TaskError> {
        let tx = self.write("ending left-over tasks")?;
        // A later slot that has come meanwhile makes up for all before it.
        let sql = "SELECT tr.id, tr.task_id, tr.run_id IS NOT NULL AS has_begun
                   FROM task_runs tr INDEXED BY task_runs_live JOIN tasks t ON t.id = tr.task_id
                   WHERE tr.status = 'running'
                     AND (tr.run_id IS NOT NULL OR tr.planned_for_ms <= :horizon
                          OR tr.asked_by = 'schedule' AND t.next_run_ms <= :now)
                   ORDER BY tr.id";
        let horizon = UnixMs(now.0.saturating_sub(UnixMs(0).plus(CATCH_UP_MAX).0));
        let params = named_params! { ":horizon": horizon, ":now": now };
        let left: Vec<(i64, TaskId, bool)> = all(&tx, sql, params, |row| {
            Ok((row.get("id")?, row.get("task_id")?, row.get("has_begun")?))
        })?;
        let mut closed = Vec::new();
        for (key, id, has_begun) in left {
            let (status, error) = if has_begun {
                (TaskRunStatus::Interrupted, "the program ended in the middle")
            } else {
                (TaskRunStatus::Skipped, MISSED)
            };
            let end = TaskEnd { status, result: None, error: Some(error.to_owned()) };
            close(&tx, "id = :key", key, &end, now)?;
            let task = tasks::by_id(&tx, &id)?;
            if let Some(notice) = notice(&task, status) {
                outbox::insert(&tx, &notice, None, now)?;
            }
            closed.push((task, status));
        }
        tx.commit()?;
        Ok(closed)
    }

    /// One run of a task.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn task_run(&self, id: TaskRunId) -> Result<Option<TaskRun>> {
        let found = history(&self.conn, Some(id), None, 1);
        Ok(found.map_err(failed("reading the run of a task"))?.pop())
    }

    /// The runs of a task, newest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite), [`Error::Corrupt`](super::Error::Corrupt).
    pub fn task_history(&self, id: &TaskId, limit: usize) -> Result<Vec<TaskRun>> {
        let found = history(&self.conn, None, Some(id), limit);
        found.map_err(failed("reading the history of a task"))
    }
}

/// Why a slot is not made up for.
const MISSED: &str = "the program was not running when it was due";
/// Why a slot is passed over.
const OVERLAPS: &str = "the run before it had not ended";

fn claim_due(
    conn: &Connection,
    default: Tz,
    now: UnixMs,
    limit: usize,
) -> rusqlite::Result<Claims> {
    let sql = include_str!("../../sql/query/tasks_due.sql");
    let params = named_params! { ":now": now, ":count_max": count(limit) };
    let rows: Vec<(String, rusqlite::Result<Due>)> =
        all(conn, sql, params, |row| Ok((row.get("id")?, due_from_row(row))))?;
    let mut claims = Claims { more: rows.len() == limit, ..Claims::default() };
    for (key, row) in rows {
        match row {
            Ok(due) => claim_one(conn, due, default, now, &mut claims)?,
            Err(error) => {
                let why = format!("its row is corrupt: {error}");
                pause(conn, &key, &why)?;
                claims.paused.push((crate::ids::shown(&key), why));
            }
        }
    }
    Ok(claims)
}

fn claim_one(
    conn: &Connection,
    due: Due,
    default: Tz,
    now: UnixMs,
    claims: &mut Claims,
) -> rusqlite::Result<()> {
    let zone = due.zone.unwrap_or(default);
    let schedule = if due.has_group {
        Schedule::stored(&due.kind, &due.value, zone).map_err(|invalid| invalid.to_string())
    } else {
        Err(format!("its group `{}` is gone", due.folder))
    };
    let schedule = match schedule {
        Ok(schedule) => schedule,
        Err(why) => {
            pause(conn, due.id.as_str(), &why)?;
            log_row(conn, &due, TaskRunStatus::Failed, &why, now)?;
            claims.paused.push((due.id.to_string(), why));
            return Ok(());
        }
    };
    let missed = schedule.missed(due.planned_for, now, zone);
    conn.prepare_cached("UPDATE tasks SET next_run_ms = ? WHERE id = ?")?
        .execute((missed.next, &due.id))?;
    if missed.run_now {
        match claim(conn, &due.id, AskedBy::Schedule, due.planned_for, now)? {
            Some(id) => {
                claims.claimed.push(Claim { id, task: due.id, folder: due.folder, chat: due.chat });
            }
            None => log_row(conn, &due, TaskRunStatus::Skipped, OVERLAPS, now)?,
        }
    } else {
        log_row(conn, &due, TaskRunStatus::Skipped, MISSED, now)?;
        if missed.next.is_none() {
            task_ended(conn, &due.id, TaskRunStatus::Skipped)?;
            claims.missed.push(due.id);
        }
    }
    Ok(())
}

/// `None`: an earlier run lives.
fn claim(
    conn: &Connection,
    task: &TaskId,
    asked_by: AskedBy,
    planned_for: UnixMs,
    now: UnixMs,
) -> rusqlite::Result<Option<TaskRunId>> {
    let sql = include_str!("../../sql/query/claim_task.sql");
    let claimed = conn.prepare_cached(sql)?.execute(named_params! {
        ":task": task, ":asked_by": asked_by, ":planned_for": planned_for, ":now": now,
    })?;
    Ok((claimed == 1).then(|| TaskRunId(conn.last_insert_rowid())))
}

fn pause(conn: &Connection, key: &str, why: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE tasks SET state = 'paused', pause_reason = ? WHERE id = ?";
    conn.prepare_cached(sql)?.execute((why, key)).map(drop)
}

/// A row in the history of something that never began.
fn log_row(
    conn: &Connection,
    due: &Due,
    status: TaskRunStatus,
    error: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO task_runs (task_id, asked_by, planned_for_ms, claimed_at_ms,
                                      ended_at_ms, status, error)
               VALUES (:task, 'schedule', :planned_for, :now, :now, :status, :error)";
    let params = named_params! {
        ":task": due.id, ":planned_for": due.planned_for, ":now": now, ":status": status,
        ":error": error,
    };
    conn.prepare_cached(sql)?.execute(params).map(drop)
}

/// Takes back what waits of a task.
pub(super) fn withdraw(
    conn: &Connection,
    task: &TaskId,
    why: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let sql = "UPDATE task_runs INDEXED BY task_runs_live
               SET status = 'withdrawn', error = ?, ended_at_ms = ?
               WHERE task_id = ? AND status = 'running' AND run_id IS NULL";
    conn.prepare_cached(sql)?.execute((why, now, task)).map(drop)
}

fn withdrawn(why: &str) -> TaskEnd {
    TaskEnd { status: TaskRunStatus::Withdrawn, result: None, error: Some(why.to_owned()) }
}

/// Ends the run of a task whose sandbox is `run`. Tells whether it had not ended before.
pub(super) fn finish(
    conn: &Connection,
    run: RunId,
    end: &TaskEnd,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    close(conn, "run_id = :key", run.0, end, now)
}

/// Ends the running row that `which` names, with what that means for its task.
fn close(
    conn: &Connection,
    which: &'static str,
    key: i64,
    end: &TaskEnd,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    let sql = format!(
        "UPDATE task_runs SET status = :status, ended_at_ms = :now, result = :result, error = :error
         WHERE {which} AND status = 'running' RETURNING task_id"
    );
    let params = named_params! {
        ":key": key, ":status": end.status, ":now": now, ":result": end.result,
        ":error": end.error,
    };
    let task = conn.prepare_cached(&sql)?.query_row(params, |row| row.get(0)).optional()?;
    let Some(task) = task else { return Ok(false) };
    task_ended(conn, &task, end.status)?;
    Ok(true)
}

fn task_ended(conn: &Connection, task: &TaskId, status: TaskRunStatus) -> rusqlite::Result<()> {
    let before: u32 = conn
        .prepare_cached("SELECT failure_count FROM tasks WHERE id = ?")?
        .query_row([task], |row| row.get(0))?;
    let failure_count = match status {
        TaskRunStatus::Failed => before + 1,
        TaskRunStatus::Succeeded | TaskRunStatus::Skipped => 0,
        _ => before,
    };
    conn.prepare_cached(include_str!("../../sql/query/task_ended.sql"))?
        .execute(named_params! {
            ":task": task,
            ":failure_count": failure_count,
            ":failures_max": TASK_FAILURES_MAX,
            ":pause_reason": format!("it failed {failure_count} times in a row"),
        })
        .map(drop)
}

fn history(
    conn: &Connection,
    id: Option<TaskRunId>,
    task: Option<&TaskId>,
    limit: usize,
) -> rusqlite::Result<Vec<TaskRun>> {
    let sql = match id {
        Some(_) => concat!(
            include_str!("../../sql/query/task_history.sql"),
            "WHERE tr.id = :id AND :task IS NULL LIMIT :count_max"
        ),
        None => concat!(
            include_str!("../../sql/query/task_history.sql"),
            "WHERE tr.task_id = :task AND :id IS NULL ORDER BY tr.id DESC LIMIT :count_max"
        ),
    };
    let params = named_params! { ":id": id, ":task": task, ":count_max": count(limit) };
    all(conn, sql, params, from_row)
}

fn due_from_row(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due {
        id: row.get("id")?,
        folder: row.get("folder")?,
        chat: row.get("chat_jid")?,
        kind: row.get("schedule_kind")?,
        value: row.get("schedule_value")?,
        zone: tasks::zone(row)?,
        planned_for: row.get("next_run_ms")?,
        has_group: row.get("has_group")?,
    })
}

fn claim_from_row(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        id: row.get("id")?,
        task: row.get("task_id")?,
        folder: row.get("folder")?,
        chat: row.get("chat_jid")?,
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<TaskRun> {
    let run: Option<RunId> = row.get("run_id")?;
    Ok(TaskRun {
        id: row.get("id")?,
        task: row.get("task_id")?,
        run,
        asked_by: row.get("asked_by")?,
        planned_for: row.get("planned_for_ms")?,
        claimed_at: row.get("claimed_at_ms")?,
        started_at: row.get("started_at_ms")?,
        ended_at: row.get("ended_at_ms")?,
        status: row.get("status")?,
        result: row.get("result")?,
        error: row.get("error")?,
        usage: run.map(|_| runs::usage(row)).transpose()?.unwrap_or_default(),
    })
}
