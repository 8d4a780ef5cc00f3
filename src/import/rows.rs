//! Chats, messages, tasks and their runs, row by row from their database into ours: memory does not
//! grow with their number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono_tz::Tz;

use super::plan::{self, Plan, time};
use super::report::Report;
use super::state::State;
use super::{Error, Names};
use crate::ids::{ChatJid, GroupFolder, Seq, TaskId, UnixMs};
use crate::limits::{TASK_RESULT_CHARS_MAX, TASK_TEXT_BYTES_MAX, TASKS_PER_GROUP_MAX};
use crate::routing::trigger;
use crate::schedule::Schedule;
use crate::store::{
    ContextMode, Import, NewGroup, NewTask, OldDatabase, OldMessage, OldRow, OldTask, OldTaskRun,
    TaskState,
};

/// Chats that are kept in mind.
const CHATS_MAX: usize = 100_000;
/// What stands in their list of chats for the time of the last look at all groups' names.
const NO_CHAT: &str = "__group_sync__";

/// What is taken over, and into what.
pub(super) struct Rows<'a> {
    pub(super) old: &'a OldDatabase,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
    pub(super) names: &'a Names,
    pub(super) zone: Tz,
    pub(super) now: UnixMs,
    /// `None`: it is only counted.
    pub(super) into: Option<&'a Import<'a>>,
}

/// What decides about the messages of a chat.
struct Chat<'a> {
    jid: ChatJid,
    /// The group that it belongs to.
    group: Option<&'a NewGroup>,
    /// Up to here, as text, everything was answered.
    answered: &'a str,
    /// The last message that is not newer.
    settled: Seq,
}

impl Rows<'_> {
    pub(super) fn chats(&self, report: &mut Report) -> Result<(), Error> {
        if !self.old.has_table("chats")? {
            return Ok(());
        }
        let line = report.of("chats");
        let columns = ["jid", "name", "last_message_time", "is_group"];
        self.old.rows("chats", &columns, "rowid", |row| {
            let jid = row.text(0).unwrap_or_default();
            if jid == NO_CHAT {
                return Ok(());
            }
            let jid = match plan::chat(jid) {
                Ok(jid) => jid,
                Err(why) => {
                    line.stay(&why);
                    return Ok(());
                }
            };
            let name = row.text(1).filter(|name| !name.is_empty() && *name != jid.as_str());
            let is_group = row.number(3) == Some(1) || jid.as_str().ends_with("@g.us");
            let at = row.text(2).and_then(time).unwrap_or_default();
            if let Some(import) = self.into {
                import.chat(&jid, name, is_group, at)?;
            }
            line.came += 1;
            Ok(())
        })
    }

    /// The messages in the order of their times, which becomes the order of their arrival: so a
    /// time up to which all was answered becomes one place in it.
    pub(super) fn messages(&self, report: &mut Report) -> Result<(), Error> {
        let mut chats: HashMap<String, Option<Chat<'_>>> = HashMap::new();
        let (mut waiting, mut unanswered) = (BTreeSet::new(), 0_u64);
        let columns = [
            "chat_jid",
            "timestamp",
            "id",
            "sender",
            "sender_name",
            "content",
            "is_from_me",
            "is_bot_message",
        ];
        let line = report.of("messages");
        // By the text, as they themselves compare it.
        self.old.rows("messages", &columns, "timestamp, rowid", |row| {
            let (Some(jid), Some(said_at)) = (row.text(0), row.text(1)) else {
                line.stay("without chat or time");
                return Ok(());
            };
            if !chats.contains_key(jid) {
                if chats.len() == CHATS_MAX {
                    let why = format!("more than {CHATS_MAX} chats");
                    return Err(Error::Corrupt { what: "table messages".to_owned(), why });
                }
                chats.insert(jid.to_owned(), self.chat(jid)?);
            }
            let Some(Some(chat)) = chats.get_mut(jid) else {
                line.stay("not a chat of WhatsApp");
                return Ok(());
            };
            let Some(sent_at) = time(said_at) else {
                line.stay("its time is none");
                return Ok(());
            };
            let (id, text) = (row.text(2).unwrap_or_default(), row.text(5).unwrap_or_default());
            if id.is_empty() || 255 < id.len() {
                line.stay("its id is none");
                return Ok(());
            }
            if text.trim().is_empty() {
                line.stay("no text in it: a picture, a call, …");
                return Ok(());
            }
            let is_from_assistant = self.is_from_assistant(row, text);
            let is_answered = said_at <= chat.answered;
            let calls = |group: &NewGroup| {
                let name = group.trigger_name.as_deref().unwrap_or(&self.names.ours);
                !group.requires_trigger || trigger::wakes(text, name)
            };
            let wakes = !is_answered && !is_from_assistant && chat.group.is_some_and(calls);
            let message = OldMessage {
                chat: &chat.jid,
                id,
                wakes,
                is_from_assistant,
                sent_at,
                sender: row.text(3).unwrap_or_default(),
                sender_name: row.text(4).unwrap_or_default(),
                text,
            };
            let seq = match self.into {
                Some(import) => import.message(&message)?,
                None => Some(Seq(0)),
            };
            let Some(seq) = seq else {
                line.stay("there twice");
                return Ok(());
            };
            line.came += 1;
            if is_answered {
                chat.settled = seq;
            }
            if wakes {
                unanswered += 1;
                waiting.insert(chat.jid.clone());
            }
            Ok::<(), Error>(())
        })?;
        if 0 < unanswered {
            let chats = waiting.len();
            line.say(&format!("{unanswered} in {chats} chats wait: the first start answers them"));
        }
        for chat in chats.into_values().flatten() {
            if let (Some(import), true) = (self.into, chat.group.is_some()) {
                import.settle(&chat.jid, chat.settled)?;
            }
        }
        Ok(())
    }

    fn chat(&self, jid: &str) -> Result<Option<Chat<'_>>, Error> {
        let Ok(known) = plan::chat(jid) else { return Ok(None) };
        let answered = self.state.answered.as_ref().and_then(|answered| answered.get(jid));
        let group = self.plan.groups.iter().find(|(group, _)| group.jid == known);
        // Their list of chats may lack it.
        if let Some(import) = self.into {
            import.chat(&known, None, jid.ends_with("@g.us"), UnixMs(0))?;
        }
        Ok(Some(Chat {
            jid: known,
            group: group.map(|(group, _)| group),
            answered: answered.map(String::as_str).unwrap_or_default(),
            settled: Seq(0),
        }))
    }

    /// By their mark. Before there was one: what came from the assistant's own number, or from a
    /// shared one with the assistant's name before it.
    fn is_from_assistant(&self, row: &OldRow<'_>, text: &str) -> bool {
        let is_prefixed =
            || text.strip_prefix(&*self.names.theirs).is_some_and(|rest| rest.starts_with(':'));
        row.number(7) == Some(1)
            || row.number(6) == Some(1) && (self.names.own_number || is_prefixed())
    }

    /// The tasks, with the next slots that they had.
    pub(super) fn tasks(&self, report: &mut Report) -> Result<(), Error> {
        if !self.old.has_table("scheduled_tasks")? {
            return Ok(());
        }
        let columns = [
            "id",
            "group_folder",
            "chat_jid",
            "prompt",
            "schedule_type",
            "schedule_value",
            "context_mode",
            "next_run",
            "status",
            "created_at",
        ];
        let line = report.of("tasks");
        let mut counts: BTreeMap<GroupFolder, i64> = BTreeMap::new();
        self.old.rows("scheduled_tasks", &columns, "created_at, rowid", |row| {
            let task = match self.task(row) {
                Ok(task) => task,
                Err(why) => {
                    line.stay(&format!("{}: {why}", row.text(0).unwrap_or("?")));
                    return Ok(());
                }
            };
            let count = counts.entry(task.task.folder.clone()).or_default();
            *count += 1;
            if TASKS_PER_GROUP_MAX < *count {
                line.stay("a group cannot have more");
                return Ok(());
            }
            if let Some(import) = self.into
                && !import.task(&task)?
            {
                line.stay("there twice");
                return Ok(());
            }
            line.came += 1;
            Ok(())
        })
    }

    fn task(&self, row: &OldRow<'_>) -> Result<OldTask, String> {
        let text = |column| row.text(column).unwrap_or_default();
        let id = TaskId::new(text(0)).map_err(|invalid| invalid.to_string())?;
        let folder = GroupFolder::new(text(1)).map_err(|invalid| invalid.to_string())?;
        if !self.plan.folders.contains(&folder) {
            return Err(format!("no group has folder `{folder}`"));
        }
        let chat = plan::chat(text(2))?;
        let is_of_group =
            |(group, _): &(NewGroup, UnixMs)| group.jid == chat && group.folder == folder;
        if !self.plan.groups.iter().any(is_of_group) {
            return Err("its chat is not its group's".to_owned());
        }
        let prompt = text(3).to_owned();
        if prompt.trim().is_empty() || TASK_TEXT_BYTES_MAX < prompt.len() {
            return Err("its prompt is empty or too long".to_owned());
        }
        let (kind, value) = (text(4), text(5));
        let schedule = Schedule::stored(kind, value, self.zone).map_err(|bad| bad.to_string())?;
        let next = row.text(7).and_then(time);
        let next = next.or_else(|| schedule.next_after(self.now, self.zone));
        let (state, next_run) = match (text(8), next) {
            ("completed", _) | (_, None) => (TaskState::Completed, None),
            ("paused", next) => (TaskState::Paused, next),
            (_, next) => (TaskState::Active, next),
        };
        Ok(OldTask {
            id,
            state,
            next_run,
            created_at: row.text(9).and_then(time).unwrap_or(self.now),
            task: NewTask {
                created_by: folder.to_string(),
                folder,
                chat,
                prompt,
                script: None,
                schedule_kind: kind.to_owned(),
                schedule_value: value.to_owned(),
                timezone: None,
                context: match text(6) {
                    "group" => ContextMode::Group,
                    _ => ContextMode::Isolated,
                },
            },
        })
    }

    pub(super) fn task_runs(&self, report: &mut Report) -> Result<(), Error> {
        if !self.old.has_table("task_run_logs")? {
            return Ok(());
        }
        let columns = ["task_id", "run_at", "duration_ms", "status", "result", "error"];
        let line = report.of("runs of tasks");
        self.old.rows("task_run_logs", &columns, "id", |row| {
            let task = TaskId::new(row.text(0).unwrap_or_default());
            let (Ok(task), Some(ended_at)) = (task, row.text(1).and_then(time)) else {
                line.stay("without task or time");
                return Ok(());
            };
            let duration = row.number(2).filter(|ms| (0..=ended_at.0).contains(ms)).unwrap_or(0);
            let brief = |text: &str| text.chars().take(TASK_RESULT_CHARS_MAX).collect::<String>();
            let (result, error) = (row.text(4).map(brief), row.text(5).map(brief));
            let has_failed = row.text(3) != Some("success");
            let error = error.or_else(|| has_failed.then(|| "it failed".to_owned()));
            let run = OldTaskRun {
                task: &task,
                began_at: UnixMs(ended_at.0 - duration),
                ended_at,
                result: result.as_deref(),
                error: error.as_deref().filter(|_| has_failed),
            };
            match self.into {
                Some(import) if !import.task_run(&run)? => line.stay("its task is not there"),
                _ => line.came += 1,
            }
            Ok(())
        })
    }
}
