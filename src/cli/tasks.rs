//! Tasks: what is to run when, and what became of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::{Error, out};
use crate::doorbell::Doorbell;
use crate::home::Home;
use crate::ids::{ChatJid, GroupFolder, UnixMs};
use crate::limits::TASK_TEXT_BYTES_MAX;
use crate::schedule::{describe, duration};
use crate::store::{ContextMode, NewTask, Store, Task, TaskChange, TaskError, TaskRun, TaskState};

/// Let the agent do something later, or again and again: one of --cron, --every and --at says when.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "schedule-task",
    example = "rust-claw schedule-task --cron '0 9 * * MON' --prompt 'Sum up the week'"
)]
pub(super) struct ScheduleCommand {
    /// the group in whose sandbox it runs (default: main)
    #[argh(option, arg_name = "folder", default = "\"main\".to_owned()")]
    group: String,
    /// what the agent is asked
    #[argh(option, arg_name = "text")]
    prompt: String,
    /// crontab expression, like '*/10 8-17 * * MON-FRI' or @daily
    #[argh(option, arg_name = "expr")]
    cron: Option<String>,
    /// interval, like 10m or 1h30m
    #[argh(option, arg_name = "interval")]
    every: Option<String>,
    /// once: 2030-01-31T09:00, by the task's clock unless it has an offset
    #[argh(option, arg_name = "time")]
    at: Option<String>,
    /// zone of the schedule, like Europe/Berlin (default: the group's, else TZ)
    #[argh(option, arg_name = "zone")]
    timezone: Option<String>,
    /// conversation that it continues: isolated (none, the default) or group
    #[argh(option, arg_name = "mode")]
    context: Option<String>,
    /// shell script that decides each time whether the agent is woken
    #[argh(option, arg_name = "file")]
    script: Option<PathBuf>,
    /// where its result goes (default: the group's first chat, else its terminal)
    #[argh(option, arg_name = "jid")]
    chat: Option<String>,
}

impl ScheduleCommand {
    /// # Errors
    /// A value that cannot be used, with its field and an example.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut tasks = Tasks::open(home)?;
        let folder = GroupFolder::new(&self.group)?;
        let chat = match &self.chat {
            Some(jid) => ChatJid::new(jid)?,
            None => default_chat(&tasks.store, &folder)?,
        };
        let (schedule_kind, schedule_value) = schedule(self.cron, self.every, self.at)?
            .ok_or_else(|| {
                let need = "say when: --cron '0 9 * * *', --every 10m or --at 2030-01-31T09:00";
                Error::Refused(need.to_owned())
            })?;
        let new = NewTask {
            folder,
            chat,
            prompt: self.prompt,
            script: self.script.as_deref().map(script).transpose()?,
            schedule_kind,
            schedule_value,
            timezone: self.timezone,
            context: self.context.as_deref().map(context).transpose()?.unwrap_or_default(),
            created_by: "cli".to_owned(),
        };
        let task = tasks.store.create_task(&new, tasks.zone, tasks.now)?;
        tasks.changed(&task)
    }
}

/// Change a task; what is not named stays.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "update-task")]
pub(super) struct UpdateCommand {
    /// what the agent is asked
    #[argh(option, arg_name = "text")]
    prompt: Option<String>,
    /// crontab expression
    #[argh(option, arg_name = "expr")]
    cron: Option<String>,
    /// interval, like 10m or 1h30m
    #[argh(option, arg_name = "interval")]
    every: Option<String>,
    /// once, like 2030-01-31T09:00
    #[argh(option, arg_name = "time")]
    at: Option<String>,
    /// zone of the schedule; empty: the group's, else TZ
    #[argh(option, arg_name = "zone")]
    timezone: Option<String>,
    /// conversation that it continues: isolated or group
    #[argh(option, arg_name = "mode")]
    context: Option<String>,
    /// shell script that decides whether the agent is woken; empty: none
    #[argh(option, arg_name = "file")]
    script: Option<PathBuf>,
    /// where its result goes
    #[argh(option, arg_name = "jid")]
    chat: Option<String>,
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

impl UpdateCommand {
    /// # Errors
    /// No such task; a value that cannot be used, with its field and an example.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut tasks = Tasks::open(home)?;
        let id = tasks.store.task(&self.id, None)?.id;
        let change = TaskChange {
            chat: self.chat.as_deref().map(ChatJid::new).transpose()?,
            prompt: self.prompt,
            script: match self.script {
                Some(path) if path.as_os_str().is_empty() => Some(None),
                path => path.as_deref().map(script).transpose()?.map(Some),
            },
            schedule: schedule(self.cron, self.every, self.at)?,
            timezone: self.timezone.map(|zone| (!zone.is_empty()).then_some(zone)),
            context: self.context.as_deref().map(context).transpose()?,
        };
        if change == TaskChange::default() {
            let need = "nothing to change: for example --prompt TEXT or --cron '0 9 * * *'";
            return Err(Error::Refused(need.to_owned()));
        }
        let task = tasks.store.update_task(&id, change, tasks.zone, tasks.now)?;
        tasks.changed(&task)
    }
}

/// Let a task rest until it is resumed.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pause-task")]
pub(super) struct PauseCommand {
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

/// Let a paused task run again, from its next slot on.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "resume-task")]
pub(super) struct ResumeCommand {
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

/// Take a task back for good; its history stays.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "cancel-task")]
pub(super) struct CancelCommand {
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

impl PauseCommand {
    /// # Errors
    /// No such task, or one that has ended.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        change(home, &self.id, |tasks, task| tasks.store.pause_task(&task.id, tasks.now))
    }
}

impl ResumeCommand {
    /// # Errors
    /// No such task, or one that has no slot any more.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        change(home, &self.id, |tasks, task| {
            tasks.store.resume_task(&task.id, tasks.zone, tasks.now)
        })
    }
}

impl CancelCommand {
    /// # Errors
    /// No such task, or one that is cancelled.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        change(home, &self.id, |tasks, task| tasks.store.cancel_task(&task.id, tasks.now))
    }
}

/// Show the tasks.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list-tasks")]
pub(super) struct ListCommand {
    /// just this group's
    #[argh(option, arg_name = "folder")]
    group: Option<String>,
    /// one JSON array
    #[argh(switch)]
    json: bool,
}

impl ListCommand {
    /// # Errors
    /// The database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let tasks = Tasks::open(home)?;
        let folder = self.group.as_deref().map(GroupFolder::new).transpose()?;
        let (list, corrupt) = tasks.store.tasks(folder.as_ref())?;
        for row in corrupt {
            out::complain(&format!("a task in the database cannot be read: {row}"));
        }
        if self.json {
            return out::json(&list.iter().map(|task| tasks.json(task)).collect());
        }
        if list.is_empty() {
            out::say("no tasks; `rust-claw schedule-task` makes one");
            return Ok(());
        }
        let mut rows =
            vec![["id", "group", "schedule", "next", "prompt"].map(str::to_owned).to_vec()];
        rows.extend(list.iter().map(|task| {
            let schedule = format!("{} {}", task.schedule_kind, task.schedule_value);
            let group = task.folder.to_string();
            let cells = [task.id.to_string(), group, schedule, tasks.standing(task), task.title()];
            cells.map(|cell| out::harmless(&cell)).to_vec()
        }));
        out::table(&rows).iter().try_for_each(|row| out::line(row))
    }
}

/// Show a task and its latest runs.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "show-task")]
pub(super) struct ShowCommand {
    /// one JSON object
    #[argh(switch)]
    json: bool,
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

/// Runs that `show-task` shows.
const HISTORY_MAX: usize = 20;

impl ShowCommand {
    /// # Errors
    /// No such task.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let tasks = Tasks::open(home)?;
        let task = tasks.store.task(&self.id, None)?;
        let history = tasks.store.task_history(&task.id, HISTORY_MAX)?;
        if self.json {
            let mut shown = tasks.json(&task);
            shown["runs"] = history.iter().map(run_json).collect();
            return out::json(&shown);
        }
        let zone = task.zone_or(tasks.zone);
        let mut lines = vec![
            format!("task       {}", task.id),
            format!("group      {}, result to {}", task.folder, task.chat),
            format!("schedule   {} {}", task.schedule_kind, task.schedule_value),
            format!("next       {}", tasks.standing(&task)),
            format!("context    {}", task.context.as_str()),
            format!(
                "created    {} by {}",
                describe(task.created_at, tasks.now, zone),
                task.created_by
            ),
            format!("prompt     {}", task.prompt.replace('\n', "\n           ")),
        ];
        if let Some(script) = &task.script {
            lines.push(format!("script     {}", script.trim_end().replace('\n', "\n           ")));
        }
        lines.extend(history.iter().map(|run| run_line(run, tasks.now, zone)));
        lines.iter().try_for_each(|line| out::line(&out::harmless(line)))
    }
}

/// What the commands have in common.
struct Tasks<'a> {
    home: &'a Home,
    store: Store,
    zone: Tz,
    now: UnixMs,
}

impl Tasks<'_> {
    fn open(home: &Home) -> Result<Tasks<'_>, Error> {
        let zone = super::settings(home)?.timezone;
        Ok(Tasks { home, store: super::store_with_main(home)?, zone, now: UnixMs::now() })
    }

    /// Tells the daemon and the person.
    fn changed(&self, task: &Task) -> Result<(), Error> {
        Doorbell::ring(self.home);
        out::line(&out::harmless(&format!("{}  {}", task.id, self.standing(task))))
    }

    /// When it runs next, or why it does not.
    fn standing(&self, task: &Task) -> String {
        match (task.state, task.next_run, &task.pause_reason) {
            (TaskState::Active, Some(next), _) => describe(next, self.now, task.zone_or(self.zone)),
            (TaskState::Active, None, _) => "runs".to_owned(),
            (TaskState::Paused, _, Some(reason)) => format!("paused: {reason}"),
            (state, ..) => state.as_str().to_owned(),
        }
    }

    fn json(&self, task: &Task) -> Value {
        json!({
            "id": task.id.as_str(), "group": task.folder.as_str(), "chat": task.chat.as_str(),
            "prompt": task.prompt, "script": task.script,
            "schedule_kind": task.schedule_kind, "schedule_value": task.schedule_value,
            "timezone": task.zone_or(self.zone).name(), "context": task.context.as_str(),
            "state": task.state.as_str(), "pause_reason": task.pause_reason,
            "next_run_ms": task.next_run.map(|at| at.0), "next": self.standing(task),
            "failure_count": task.failure_count, "created_by": task.created_by,
            "created_at_ms": task.created_at.0,
        })
    }
}

fn change(
    home: &Home,
    id: &str,
    act: impl FnOnce(&mut Tasks<'_>, &Task) -> Result<Task, TaskError>,
) -> Result<(), Error> {
    let mut tasks = Tasks::open(home)?;
    let task = tasks.store.task(id, None)?;
    let task = act(&mut tasks, &task)?;
    tasks.changed(&task)
}

/// Kind and value of the one option that was given.
fn schedule(
    cron: Option<String>,
    every: Option<String>,
    at: Option<String>,
) -> Result<Option<(String, String)>, Error> {
    let mut given = [("cron", cron), ("interval", every), ("once", at)]
        .into_iter()
        .filter_map(|(kind, value)| Some((kind.to_owned(), value?)));
    match (given.next(), given.next()) {
        (one, None) => Ok(one),
        _ => Err(Error::Refused(
            "only one of --cron, --every and --at, for example --every 10m".to_owned(),
        )),
    }
}

fn context(text: &str) -> Result<ContextMode, Error> {
    match text {
        "group" => Ok(ContextMode::Group),
        "isolated" => Ok(ContextMode::Isolated),
        _ => Err(Error::Refused(format!(
            "context `{}`: it is neither `group` nor `isolated`, for example `--context group`",
            out::harmless(text)
        ))),
    }
}

fn script(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(TASK_TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| {
        Error::Refused(format!(
            "script `{}` cannot be read: {error}, for example `--script check.sh`",
            path.display()
        ))
    })?;
    Ok(text)
}

/// Where people of the group are most likely to read.
fn default_chat(store: &Store, folder: &GroupFolder) -> Result<ChatJid, Error> {
    let local = ChatJid::local(folder);
    let chats = store.chats_of_group(folder)?;
    Ok(chats.into_iter().find(|chat| *chat != local).unwrap_or(local))
}

fn run_json(run: &TaskRun) -> Value {
    json!({
        "id": run.id.0, "run": run.run.map(|id| id.0), "asked_by": run.asked_by.as_str(),
        "planned_for_ms": run.planned_for.0, "claimed_at_ms": run.claimed_at.0,
        "started_at_ms": run.started_at.map(|at| at.0), "ended_at_ms": run.ended_at.map(|at| at.0),
        "duration_ms": lasted(run).map(|lasted| UnixMs(0).plus(lasted).0),
        "status": run.status.as_str(), "result": run.result, "error": run.error,
        "input_tokens": run.usage.input_tokens, "output_tokens": run.usage.output_tokens,
        "cache_read_tokens": run.usage.cache_read_tokens,
        "cache_write_tokens": run.usage.cache_write_tokens,
        "cost_micro_usd": run.usage.cost_micro_usd,
    })
}

fn run_line(run: &TaskRun, now: UnixMs, zone: Tz) -> String {
    let took = lasted(run).map(|lasted| format!(" in {}", duration::rough(lasted)));
    let usage = run.usage;
    let tokens = usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_tokens
        + usage.output_tokens;
    let mut line = format!(
        "run #{:<5} {}, {}{}, {tokens} tokens, ${}.{:04}",
        run.id,
        describe(run.planned_for, now, zone),
        run.status.as_str(),
        took.unwrap_or_default(),
        usage.cost_micro_usd / 1_000_000,
        usage.cost_micro_usd % 1_000_000 / 100,
    );
    for text in [&run.error, &run.result].into_iter().flatten() {
        line.push_str("\n           ");
        line.push_str(&text.replace('\n', " "));
    }
    line
}

fn lasted(run: &TaskRun) -> Option<std::time::Duration> {
    Some(run.ended_at?.since(run.started_at?))
}
