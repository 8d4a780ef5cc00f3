//! Tasks: what their owners asked for. When they run is in [`super::task_claims`], and what became
//! of it in [`super::task_runs`].

use chrono_tz::Tz;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{ContainerConfig, CorruptRow, Result, Store, TaskError, count, task_runs, word_column};
use crate::config;
use crate::ids::{ChatJid, GroupFolder, TaskId, UnixMs, shown};
use crate::limits::{
    TASK_SHORT_BYTES, TASK_TEXT_BYTES_MAX, TASKS_PER_GROUP_MAX, TASKS_TEXT_BYTES_MAX,
};
use crate::schedule::Schedule;

/// Which conversation a task continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextMode {
    /// The group's, as if a person had written there.
    Group,
    /// None: a new one each time, which is forgotten.
    #[default]
    Isolated,
}
word_column!(ContextMode { Group = "group", Isolated = "isolated" });

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It runs when its time comes.
    Active,
    /// It does not run by itself until it is resumed.
    Paused,
    /// It has run, and has no further slot.
    Completed,
    /// Taken back.
    Cancelled,
}
word_column!(TaskState {
    Active = "active",
    Paused = "paused",
    Completed = "completed",
    Cancelled = "cancelled",
});

/// A task that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// The group in whose sandbox it runs.
    pub folder: GroupFolder,
    /// Where its result goes: a chat of the group.
    pub chat: ChatJid,
    /// What the agent is asked.
    pub prompt: String,
    /// Shell script that decides each time whether the agent is woken.
    pub script: Option<String>,
    /// `cron`, `interval` or `once`.
    pub schedule_kind: String,
    /// See [`Schedule::parse`].
    pub schedule_value: String,
    /// IANA zone of the schedule; `None`: the group's, else the setting `TZ`.
    pub timezone: Option<String>,
    /// Which conversation it continues.
    pub context: ContextMode,
    /// Who asked for it: `cli`, or the folder of the group whose agent did.
    pub created_by: String,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its key.
    pub id: TaskId,
    /// See [`NewTask::folder`].
    pub folder: GroupFolder,
    /// See [`NewTask::chat`].
    pub chat: ChatJid,
    /// See [`NewTask::prompt`].
    pub prompt: String,
    /// See [`NewTask::script`].
    pub script: Option<String>,
    /// See [`NewTask::schedule_kind`].
    pub schedule_kind: String,
    /// See [`NewTask::schedule_value`].
    pub schedule_value: String,
    /// See [`NewTask::timezone`].
    pub timezone: Option<String>,
    /// [`Task::timezone`], else the group's. `None`: the setting's.
    pub zone: Option<Tz>,
    /// See [`NewTask::context`].
    pub context: ContextMode,
    /// How it stands.
    pub state: TaskState,
    /// Why it is paused, where nobody asked for it.
    pub pause_reason: Option<String>,
    /// Its next slot. Of a paused task: the one that it would have had.
    pub next_run: Option<UnixMs>,
    /// Runs that failed since the last that did not.
    pub failure_count: u32,
    /// See [`NewTask::created_by`].
    pub created_by: String,
    /// When it was created.
    pub created_at: UnixMs,
    /// When its owner last changed it.
    pub changed_at: UnixMs,
}

/// What is to be different about a task; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskChange {
    /// See [`NewTask::chat`].
    pub chat: Option<ChatJid>,
    /// See [`NewTask::prompt`].
    pub prompt: Option<String>,
    /// See [`NewTask::script`].
    pub script: Option<Option<String>>,
    /// Kind and value of the schedule. What waits by the old one does not run any more; a task that
    /// was completed is active again.
    pub schedule: Option<(String, String)>,
    /// See [`NewTask::timezone`].
    pub timezone: Option<Option<String>>,
    /// See [`NewTask::context`].
    pub context: Option<ContextMode>,
}

type Checked<T> = std::result::Result<T, TaskError>;

impl Task {
    /// The zone of its schedule, where `default` is the setting `TZ`.
    pub fn zone_or(&self, default: Tz) -> Tz {
        self.zone.unwrap_or(default)
    }

    /// Its prompt on one short line, by which a person knows it.
    pub fn title(&self) -> String {
        const CHARS_MAX: usize = 60;
        let line = self.prompt.lines().map(str::trim).find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        let mut title = shown(&line.chars().take(CHARS_MAX).collect::<String>());
        if CHARS_MAX < line.chars().count() {
            title.push('…');
        }
        title
    }
}

impl Store {
    /// Creates a task. `default` is the zone where neither the task nor its group has one.
    ///
    /// # Errors
    /// [`TaskError`]; nothing was changed then.
    pub fn create_task(&mut self, new: &NewTask, default: Tz, now: UnixMs) -> Checked<Task> {
        let tx = self.write("creating a task")?;
        let next = check(&tx, new, default, now)?;
        let sql = "SELECT count(*) FROM tasks WHERE folder = ? AND state IN ('active', 'paused')";
        let count: i64 = tx.prepare_cached(sql)?.query_row([&new.folder], |row| row.get(0))?;
        if TASKS_PER_GROUP_MAX <= count {
            return Err(TaskError::TooMany { folder: new.folder.clone() });
        }
        let id = TaskId::random();
        tx.prepare_cached(include_str!("../../sql/query/insert_task.sql"))?.execute(
            named_params! {
                ":id": id,
                ":folder": new.folder,
                ":chat": new.chat,
                ":next_run": next,
                ":schedule_kind": new.schedule_kind,
                ":schedule_value": new.schedule_value.trim(),
                ":timezone": new.timezone,
                ":context_mode": new.context,
                ":created_by": new.created_by,
                ":now": now,
                ":prompt": new.prompt,
                ":script": new.script,
            },
        )?;
        let task = by_id(&tx, &id)?;
        check_total(&tx, &task)?;
        tx.commit()?;
        Ok(task)
    }

    /// The one task whose id begins with `prefix`; with `within`, among those of that group. An id
    /// that is there in full wins.
    ///
    /// # Errors
    /// [`TaskError::Id`], [`TaskError::NoSuchTask`], [`TaskError::Ambiguous`],
    /// [`TaskError::Store`].
    pub fn task(&self, prefix: &str, within: Option<&GroupFolder>) -> Checked<Task> {
        let prefix = TaskId::new(prefix.trim())?;
        // `{` is the character after `z`, the last that an id can have.
        let sql = "SELECT id FROM tasks
                   WHERE id >= :prefix AND id < :prefix || '{'
                     AND (:folder IS NULL OR folder = :folder)
                   ORDER BY id LIMIT 2";
        let params = named_params! { ":prefix": prefix, ":folder": within };
        let mut found: Vec<TaskId> =
            self.all(sql, params, "looking for a task", |row| row.get("id"))?;
        match (found.pop(), found.pop()) {
            (None, _) => Err(TaskError::NoSuchTask { id: prefix }),
            (Some(second), Some(first)) if first != prefix => {
                Err(TaskError::Ambiguous { prefix, first, second })
            }
            (Some(id), None) | (Some(_), Some(id)) => by_id(&self.conn, &id),
        }
    }

    /// All tasks but the cancelled, of one group or of all: the next to run first; and the rows
    /// that cannot be used, to be reported.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn tasks(&self, within: Option<&GroupFolder>) -> Result<(Vec<Task>, Vec<CorruptRow>)> {
        let sql = listing("t.*, g.container_config", within.is_some());
        let rows = self.all(&sql, [within], "listing tasks", |row| {
            Ok(from_row(row).map_err(|error| corrupt(row, &error)))
        })?;
        let (mut tasks, mut problems) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(task) => tasks.push(task),
                Err(problem) => problems.push(problem),
            }
        }
        Ok((tasks, problems))
    }

    /// The active tasks whose slots come next; those that cannot be read are left out.
    ///
    /// # Errors
    /// [`Error::Sqlite`](super::Error::Sqlite).
    pub fn next_tasks(&self, limit: usize) -> Result<Vec<Task>> {
        let sql = "SELECT t.*, g.container_config
                   FROM tasks t INDEXED BY tasks_due LEFT JOIN groups g USING (folder)
                   WHERE t.state = 'active' AND t.next_run_ms IS NOT NULL
                   ORDER BY t.next_run_ms LIMIT ?";
        let tasks =
            self.all(sql, [count(limit)], "listing next tasks", |row| Ok(from_row(row).ok()))?;
        Ok(tasks.into_iter().flatten().collect())
    }

    /// Changes a task.
    ///
    /// # Errors
    /// [`TaskError`], above all [`TaskError::Ended`] where it is cancelled; nothing was changed
    /// then.
    pub fn update_task(
        &mut self,
        id: &TaskId,
        change: TaskChange,
        default: Tz,
        now: UnixMs,
    ) -> Checked<Task> {
        let tx = self.write("changing a task")?;
        let task = alive(&tx, id)?;
        let has_new_times = change.schedule.is_some() || change.timezone.is_some();
        let (schedule_kind, schedule_value) =
            change.schedule.unwrap_or((task.schedule_kind, task.schedule_value));
        let new = NewTask {
            folder: task.folder,
            chat: change.chat.unwrap_or(task.chat),
            prompt: change.prompt.unwrap_or(task.prompt),
            script: change.script.unwrap_or(task.script),
            schedule_kind,
            schedule_value,
            timezone: change.timezone.unwrap_or(task.timezone),
            context: change.context.unwrap_or(task.context),
            created_by: task.created_by,
        };
        check_texts(&new)?;
        let (mut state, mut next) = (task.state, task.next_run);
        if has_new_times {
            next = Some(check(&tx, &new, default, now)?);
            if state == TaskState::Completed {
                state = TaskState::Active;
            }
            task_runs::withdraw(&tx, id, "its schedule was changed", now)?;
        } else {
            check_chat(&tx, &new)?;
        }
        tx.prepare_cached(include_str!("../../sql/query/update_task.sql"))?.execute(
            named_params! {
                ":id": id,
                ":chat": new.chat,
                ":state": state,
                ":next_run": next,
                ":schedule_kind": new.schedule_kind,
                ":schedule_value": new.schedule_value.trim(),
                ":timezone": new.timezone,
                ":context_mode": new.context,
                ":now": now,
                ":prompt": new.prompt,
                ":script": new.script,
            },
        )?;
        let task = by_id(&tx, id)?;
        check_total(&tx, &task)?;
        tx.commit()?;
        Ok(task)
    }

    /// Pauses a task; what waits of it does not run, what runs goes on. A task that is paused
    /// already stays so.
    ///
    /// # Errors
    /// [`TaskError::NoSuchTask`], [`TaskError::Ended`], [`TaskError::Store`].
    pub fn pause_task(&mut self, id: &TaskId, now: UnixMs) -> Checked<Task> {
        self.end_or_pause(id, TaskState::Paused, now)
    }

    /// Takes a task back; what waits of it does not run, what runs goes on.
    ///
    /// # Errors
    /// [`TaskError::NoSuchTask`], [`TaskError::Ended`], [`TaskError::Store`].
    pub fn cancel_task(&mut self, id: &TaskId, now: UnixMs) -> Checked<Task> {
        self.end_or_pause(id, TaskState::Cancelled, now)
    }

    fn end_or_pause(&mut self, id: &TaskId, state: TaskState, now: UnixMs) -> Checked<Task> {
        let tx = self.write("changing a task")?;
        let task = alive(&tx, id)?;
        if state == TaskState::Paused && task.state == TaskState::Completed {
            return Err(TaskError::Ended { id: id.clone(), state: task.state });
        }
        let sql = "UPDATE tasks SET state = :state, changed_at_ms = :now, pause_reason = NULL,
                       next_run_ms = CASE :state WHEN 'paused' THEN next_run_ms END
                   WHERE id = :id";
        let params = named_params! { ":id": id, ":state": state, ":now": now };
        tx.prepare_cached(sql)?.execute(params)?;
        let why = format!("the task was {}", state.as_str());
        task_runs::withdraw(&tx, id, &why, now)?;
        let task = by_id(&tx, id)?;
        tx.commit()?;
        Ok(task)
    }

    /// Lets a paused task run again, at its first slot after `now`; its failures are forgotten. A
    /// task that is active already stays as it is.
    ///
    /// # Errors
    /// [`TaskError::Ended`], [`TaskError::NoSuchGroup`], [`TaskError::Schedule`] where no slot is
    /// left.
    pub fn resume_task(&mut self, id: &TaskId, default: Tz, now: UnixMs) -> Checked<Task> {
        let tx = self.write("resuming a task")?;
        let task = alive(&tx, id)?;
        match task.state {
            TaskState::Active => return Ok(task),
            TaskState::Paused => {}
            state => return Err(TaskError::Ended { id: id.clone(), state }),
        }
        group_config(&tx, &task.folder)?;
        let zone = task.zone_or(default);
        // Refuses where nothing is left; an interval keeps its grid.
        let schedule = Schedule::parse(&task.schedule_kind, &task.schedule_value, zone, now)?;
        let next = match task.next_run {
            Some(planned) if planned <= now => schedule.missed(planned, now, zone).next,
            Some(planned) => Some(planned),
            None => schedule.next_after(now, zone),
        };
        let sql = "UPDATE tasks SET state = 'active', next_run_ms = :next, pause_reason = NULL,
                       failure_count = 0, changed_at_ms = :now
                   WHERE id = :id";
        let params = named_params! { ":id": id, ":next": next, ":now": now };
        tx.prepare_cached(sql)?.execute(params)?;
        let task = by_id(&tx, id)?;
        tx.commit()?;
        Ok(task)
    }
}

/// Checks all of a task; its first slot.
fn check(conn: &Connection, new: &NewTask, default: Tz, now: UnixMs) -> Checked<UnixMs> {
    check_texts(new)?;
    let group = group_config(conn, &new.folder)?;
    check_chat(conn, new)?;
    let own = new
        .timezone
        .as_deref()
        .map(|name| config::timezone(name).map_err(|_| TaskError::Timezone { text: shown(name) }));
    let zone = own.transpose()?.or(group.zone()).unwrap_or(default);
    let schedule = Schedule::parse(&new.schedule_kind, &new.schedule_value, zone, now)?;
    Ok(schedule.next_after(now, zone).expect("a parsed schedule has a slot after now"))
}

fn check_texts(new: &NewTask) -> Checked<()> {
    let texts = [
        ("prompt", Some(&new.prompt), "Remind us to water the plants"),
        ("script", new.script.as_ref(), "echo '{\"wakeAgent\":true}'"),
    ];
    for (field, text, example) in texts {
        let Some(text) = text else { continue };
        let problem = if text.trim().is_empty() {
            "empty".to_owned()
        } else if TASK_TEXT_BYTES_MAX < text.len() {
            format!("longer than {TASK_TEXT_BYTES_MAX} bytes")
        } else {
            continue;
        };
        return Err(TaskError::Text { field, problem, example });
    }
    Ok(())
}

/// Who lists tasks holds their texts. Short ones are bounded by their number.
fn check_total(conn: &Connection, task: &Task) -> Checked<()> {
    if task.prompt.len() + task.script.as_ref().map_or(0, String::len) <= TASK_SHORT_BYTES {
        return Ok(());
    }
    let sql = "SELECT sum(octet_length(prompt) + coalesce(octet_length(script), 0))
               FROM tasks WHERE folder = ? AND state <> 'cancelled'";
    let total: i64 = conn.prepare_cached(sql)?.query_row([&task.folder], |row| row.get(0))?;
    if TASKS_TEXT_BYTES_MAX < total {
        return Err(TaskError::TooMuchText { folder: task.folder.clone() });
    }
    Ok(())
}

fn check_chat(conn: &Connection, new: &NewTask) -> Checked<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM group_chats WHERE jid = ? AND folder = ?)";
    if !conn.prepare_cached(sql)?.query_row((&new.chat, &new.folder), |row| row.get(0))? {
        let (chat, folder) = (new.chat.clone(), new.folder.clone());
        return Err(TaskError::NotOfGroup { chat, folder });
    }
    Ok(())
}

pub(super) fn group_config(conn: &Connection, folder: &GroupFolder) -> Checked<ContainerConfig> {
    let sql = "SELECT container_config FROM groups WHERE folder = ?";
    let config = conn.prepare_cached(sql)?.query_row([folder], |row| row.get(0)).optional()?;
    let config: String = config.ok_or(TaskError::NoSuchGroup { folder: folder.clone() })?;
    // Whoever starts the sandbox reports what is wrong with it; here it is about the zone alone.
    Ok(serde_json::from_str(&config).unwrap_or_default())
}

/// The task, if it is not cancelled.
fn alive(conn: &Connection, id: &TaskId) -> Checked<Task> {
    let task = by_id(conn, id)?;
    match task.state {
        TaskState::Cancelled => Err(TaskError::Ended { id: id.clone(), state: task.state }),
        _ => Ok(task),
    }
}

pub(super) fn by_id(conn: &Connection, id: &TaskId) -> Checked<Task> {
    let sql = "SELECT t.*, g.container_config FROM tasks t LEFT JOIN groups g USING (folder)
               WHERE t.id = ?";
    let task = conn.prepare_cached(sql)?.query_row([id], from_row).optional()?;
    task.ok_or_else(|| TaskError::NoSuchTask { id: id.clone() })
}

fn corrupt(row: &Row<'_>, error: &rusqlite::Error) -> CorruptRow {
    let key = row.get::<_, String>("id").unwrap_or_default();
    CorruptRow { table: "tasks", key: shown(&key), problem: error.to_string() }
}

/// The zone of a row that has `timezone` and the group's `container_config`.
pub(super) fn zone(row: &Row<'_>) -> rusqlite::Result<Option<Tz>> {
    let own: Option<String> = row.get("timezone")?;
    if let Some(zone) = own.as_deref().and_then(|name| config::timezone(name).ok()) {
        return Ok(Some(zone));
    }
    let group: Option<String> = row.get("container_config")?;
    let group: Option<ContainerConfig> = group.and_then(|json| serde_json::from_str(&json).ok());
    Ok(group.and_then(|config| config.zone()))
}

/// The query for `columns` of all tasks but the cancelled, of the group `?1` or of all.
pub(super) fn listing(columns: &str, is_of_group: bool) -> String {
    // A condition that allows for both would keep the index out.
    let within = if is_of_group { "t.folder = ?1" } else { "?1 IS NULL" };
    format!(
        "SELECT {columns} FROM tasks t LEFT JOIN groups g USING (folder)
         WHERE t.state <> 'cancelled' AND {within}
         ORDER BY t.state = 'completed', t.state, t.next_run_ms, t.created_at_ms, t.id"
    )
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get("id")?,
        folder: row.get("folder")?,
        chat: row.get("chat_jid")?,
        prompt: row.get("prompt")?,
        script: row.get("script")?,
        schedule_kind: row.get("schedule_kind")?,
        schedule_value: row.get("schedule_value")?,
        timezone: row.get("timezone")?,
        zone: zone(row)?,
        context: row.get("context_mode")?,
        state: row.get("state")?,
        pause_reason: row.get("pause_reason")?,
        next_run: row.get("next_run_ms")?,
        failure_count: row.get("failure_count")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at_ms")?,
        changed_at: row.get("changed_at_ms")?,
    })
}
