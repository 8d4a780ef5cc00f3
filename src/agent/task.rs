//! What is different about a run that does a task: where its question comes from, and that its end
//! belongs to the task's history.

use std::time::Duration;

use chrono_tz::Tz;
use rust_claw_protocol::TASK_HEAD;

use super::notice;
use super::prepare::Asked;
use super::run::Error;
use super::{Job, Shared};
use crate::ids::{ChatJid, TaskId, TaskRunId, UnixMs};
use crate::limits::TASK_RESULT_CHARS_MAX;
use crate::queue;
use crate::routing::prompt;
use crate::store::{
    ContextMode, Group, NewOutbox, RunState, Store, Task, TaskEnd, TaskRun, TaskRunStatus,
};

/// The task that a run does.
pub(super) struct Doing {
    /// Its slot.
    pub(super) claim: TaskRunId,
    pub(super) task: Task,
}

/// What the waiting run of a task asks; `None` where it was taken back.
pub(super) fn asked(
    shared: &Shared,
    store: &Store,
    job: &Job,
    due: &queue::Task,
    group: Group,
) -> Result<Option<Asked>, Error> {
    let id = TaskId::new(&due.id)?;
    let Some((claimed, task)) = store.waiting_task(&id)? else { return Ok(None) };
    let zone = task.zone_or(shared.settings.timezone);
    // Its chat may have been detached since.
    let is_ours = store.chats_of_group(&job.group)?.contains(&task.chat);
    let chat = if is_ours { task.chat.clone() } else { ChatJid::local(&job.group) };
    let session = match task.context {
        ContextMode::Group => store.session(&job.group)?,
        ContextMode::Isolated => None,
    };
    Ok(Some(Asked {
        chat,
        prompt: words(&task, &claimed, UnixMs::now(), zone),
        last_seq: None,
        session,
        turn_max: group.config.timeout_ms.map(Duration::from_millis),
        zone,
        group,
        task: Some(Doing { claim: claimed.id, task }),
    }))
}

/// The prompt, told from what a person writes.
fn words(task: &Task, claimed: &TaskRun, now: UnixMs, zone: Tz) -> String {
    format!(
        "{TASK_HEAD}\n{}Task: {}, due at {}\n\n{}",
        prompt::now_line(now, zone),
        task.id,
        prompt::time(claimed.planned_for, zone),
        task.prompt
    )
}

impl Doing {
    /// Whether the conversation is to be continued by the group.
    pub(super) fn keeps_session(&self) -> bool {
        self.task.context == ContextMode::Group
    }

    /// How the task ended, where its sandbox ended as `state`.
    pub(super) fn ended(state: RunState, said: &str, error: Option<&str>) -> TaskEnd {
        let status = match state {
            RunState::Succeeded => TaskRunStatus::Succeeded,
            RunState::Interrupted => TaskRunStatus::Interrupted,
            RunState::Failed | RunState::Busy | RunState::Idle => TaskRunStatus::Failed,
        };
        TaskEnd { status, result: summary(said), error: error.map(str::to_owned) }
    }

    /// What the chat is told of such an end.
    pub(super) fn notice(&self, end: &TaskEnd, now: UnixMs, default: Tz) -> Option<NewOutbox> {
        match (end.status, &end.error) {
            (TaskRunStatus::Failed, Some(error)) => {
                notice::task_failed(&self.task, error, now, default)
            }
            (TaskRunStatus::Interrupted, _) => {
                notice::task_left_over(&self.task, end.status, now, default)
            }
            _ => None,
        }
    }
}

/// The end of a task whose turn went well.
pub(super) fn done(said: &str, is_skipped: bool) -> TaskEnd {
    let status = if is_skipped { TaskRunStatus::Skipped } else { TaskRunStatus::Succeeded };
    TaskEnd { status, result: summary(said), error: None }
}

/// Adds a further text to what a task said, as far as its history keeps it.
pub(super) fn note(said: &mut String, text: &str) {
    let room = TASK_RESULT_CHARS_MAX.saturating_sub(said.chars().count());
    if 0 < room {
        if !said.is_empty() {
            said.push('\n');
        }
        said.extend(text.chars().take(room));
    }
}

fn summary(said: &str) -> Option<String> {
    (!said.is_empty()).then(|| said.to_owned())
}

/// Ends the run of a task that could not be followed to its end: nobody else will.
pub(super) fn failed(shared: &Shared, due: &queue::Task, error: &str) {
    let now = UnixMs::now();
    let zone = shared.settings.timezone;
    let failed = TaskId::new(&due.id).map_err(|invalid| invalid.to_string()).and_then(|id| {
        let notice = |task: &_| notice::task_failed(task, error, now, zone);
        shared
            .store
            .durably(|store| store.fail_task(&id, error, now, notice))
            .map_err(|error| crate::chain(&error))
    });
    if let Err(problem) = failed {
        // The next start finds it in mid-run and says so.
        log::error!("task={} cannot be noted as failed: {problem}", due.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_keeps_the_beginning() {
        let mut said = String::new();
        note(&mut said, "one");
        note(&mut said, &"é".repeat(TASK_RESULT_CHARS_MAX));
        note(&mut said, "never");
        assert!(said.starts_with("one\né") && !said.contains("never"));
        assert!(said.chars().count() <= TASK_RESULT_CHARS_MAX + 1);
        assert_eq!(None, done("", true).result);
    }
}
