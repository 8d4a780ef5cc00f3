//! What the program itself says in a chat: the only texts there that no agent wrote.

use chrono_tz::Tz;

use crate::ids::{ChatJid, UnixMs};
use crate::limits::TASK_FAILURES_MAX;
use crate::queue::FailureKind;
use crate::schedule;
use crate::store::{NewOutbox, OutboxKind, Task, TaskRunStatus, TaskState};

/// After the last retry: the one notice of a dead letter.
pub fn gave_up(chat: &ChatJid, attempts: u32, error: &str) -> NewOutbox {
    let text = format!(
        "⚠ I could not answer this, after {attempts} attempts: {error}. Write again, or see `rust-claw status`."
    );
    notice(chat, text)
}

/// At the first failure of a kind that waiting does not mend: a person must act.
pub fn cannot(chat: &ChatJid, kind: FailureKind, error: &str) -> NewOutbox {
    let mend = match kind {
        FailureKind::Credential => {
            "The model refuses the key: put a valid ANTHROPIC_API_KEY into the .env file of the \
             home folder and restart."
        }
        FailureKind::Billing => "The account of the model has no credit left.",
        FailureKind::RateLimit | FailureKind::Other => "I keep trying.",
    };
    notice(chat, format!("⚠ I cannot answer at the moment: {error}. {mend}"))
}

/// An answer that ended before its end.
pub fn cut_off(chat: &ChatJid, error: &str) -> NewOutbox {
    notice(chat, format!("⚠ The answer above is not complete: {error}."))
}

/// After a failure of `task` as it was before: the first in a row is said, and the one that makes
/// it pause.
pub fn task_failed(task: &Task, error: &str, now: UnixMs, default: Tz) -> Option<NewOutbox> {
    let is_active = task.state == TaskState::Active && task.next_run.is_some();
    let text = if is_active && TASK_FAILURES_MAX <= task.failure_count + 1 {
        format!(
            "⚠ I paused the task {}: it failed {TASK_FAILURES_MAX} times in a row, at last with: \
             {error}. `rust-claw resume-task {}` lets it run again.",
            named(task),
            task.id
        )
    } else if task.failure_count == 0 {
        format!("⚠ The task {} failed: {error}. {}", named(task), then(task, now, default))
    } else {
        return None;
    };
    Some(notice(&task.chat, text))
}

/// At the start after an end in the middle of a task, or after its only time.
pub fn task_left_over(
    task: &Task,
    status: TaskRunStatus,
    now: UnixMs,
    default: Tz,
) -> Option<NewOutbox> {
    let what = match status {
        TaskRunStatus::Interrupted => "was interrupted: I was stopped in the middle of it",
        // A later slot makes up for it.
        _ if task.next_run.is_some() => return None,
        _ => "was missed: I was not running at its time",
    };
    Some(notice(
        &task.chat,
        format!("⚠ The task {} {what}. {}", named(task), then(task, now, default)),
    ))
}

/// Where `WhatsApp` does not work until a person has acted.
pub fn whatsapp(chat: &ChatJid, act: &str) -> NewOutbox {
    notice(chat, format!("⚠ WhatsApp does not work: {act}."))
}

fn named(task: &Task) -> String {
    format!("“{}” ({})", task.title(), task.id)
}

/// When it runs again.
fn then(task: &Task, now: UnixMs, default: Tz) -> String {
    match task.next_run {
        Some(next) if task.state == TaskState::Active => {
            format!("Next: {}.", schedule::describe(next, now, task.zone_or(default)))
        }
        _ => format!(
            "It does not run again by itself; `rust-claw run-task {}` runs it now.",
            task.id
        ),
    }
}

fn notice(chat: &ChatJid, text: String) -> NewOutbox {
    NewOutbox {
        jid: chat.clone(),
        kind: OutboxKind::Notice,
        text,
        // Each notice is an event of its own; the random part keeps two in one millisecond apart.
        dedupe_key: format!("notice:{}:{}", UnixMs::now(), crate::store::random_hex::<4>()),
    }
}
