//! Runs of tasks: each slot is claimed in one transaction before it runs, and closed together with
//! the last word of its run. So it runs once, whoever looks and whatever crashes.
//!
//! While a row of `task_runs` has no `run_id` it waits; with one it has begun, and is never begun
//! again.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{
    AskedBy, NewOutbox, NewRun, Result, RunState, Store, Task, TaskError, Usage, all, count,
    failed, outbox, runs, tasks, word_column,
};
use crate::ids::{GroupFolder, RunId, TaskId, TaskRunId, UnixMs};
use crate::limits::{CATCH_UP_MAX, TASK_FAILURES_MAX};

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

impl Store {
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

    /// Takes a waiting run back. Tells whether it still waited. A slot of the schedule has not been
    /// then: the task is due again.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn withdraw_task_run(&mut self, id: TaskRunId, why: &str, now: UnixMs) -> Result<bool> {
        let doing = "withdrawing a task";
        let tx = self.write(doing)?;
        let end = withdrawn(why);
        let sql = include_str!("../../sql/query/give_back_slot.sql");
        tx.execute(sql, [id.0]).map_err(failed(doing))?;
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
pub(super) const MISSED: &str = "the program was not running when it was due";

/// Takes back what waits of a task.
pub(super) fn withdraw(
    conn: &Connection,
    task: &TaskId,
    why: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    take_back(conn, "task_id = ?1", task.as_str(), why, now)
}

/// Takes back what waits of the tasks of a group.
pub(super) fn withdraw_all(
    conn: &Connection,
    folder: &GroupFolder,
    why: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let which = "task_id IN (SELECT id FROM tasks WHERE folder = ?1)";
    take_back(conn, which, folder.as_str(), why, now)
}

fn take_back(
    conn: &Connection,
    which: &'static str,
    key: &str,
    why: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE task_runs INDEXED BY task_runs_live
         SET status = 'withdrawn', error = ?2, ended_at_ms = ?3
         WHERE {which} AND status = 'running' AND run_id IS NULL"
    );
    conn.prepare_cached(&sql)?.execute((key, why, now)).map(drop)
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

/// What the end of a run means for its task.
pub(super) fn task_ended(
    conn: &Connection,
    task: &TaskId,
    status: TaskRunStatus,
) -> rusqlite::Result<()> {
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
