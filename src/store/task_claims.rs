//! Claiming tasks: a slot belongs to whoever makes its row in `task_runs`, in the transaction that
//! moves the task on to its next slot. A row without `run_id` waits, and whoever serves the home
//! takes it up, also after a restart.

use chrono_tz::Tz;
use rusqlite::{Connection, Row, named_params};

use super::task_runs::{MISSED, task_ended};
use super::{
    Result, Store, TaskError, TaskRunStatus, TaskState, all, count, failed, tasks, word_column,
};
use crate::ids::{ChatJid, GroupFolder, TaskId, TaskRunId, UnixMs};
use crate::schedule::Schedule;

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
}

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
