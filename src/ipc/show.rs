//! How tasks, groups, chats and messages look to an agent. Pure.

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::ids::{ChatJid, UnixMs};
use crate::schedule;
use crate::store::{Chat, Found, Group, Task, TaskRun};

/// ISO 8601 with the zone's offset; nothing for what no calendar shows.
pub(super) fn time(at: UnixMs, zone: Tz) -> Option<String> {
    let at = DateTime::from_timestamp_millis(at.0)?.with_timezone(&zone);
    Some(at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// As `NanoClaw` writes times into its snapshots.
pub(super) fn utc(at: UnixMs) -> Option<String> {
    let at = DateTime::from_timestamp_millis(at.0)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub(super) fn task(task: &Task, zone: Tz, now: UnixMs) -> Value {
    json!({
        "id": task.id.as_str(),
        "group": task.folder.as_str(),
        "chat_jid": task.chat.as_str(),
        "prompt": task.prompt,
        "script": task.script,
        "schedule_type": task.schedule_kind,
        "schedule_value": task.schedule_value,
        "timezone": zone.name(),
        "context_mode": task.context.as_str(),
        "status": task.state.as_str(),
        "pause_reason": task.pause_reason,
        "next_run": task.next_run.and_then(|at| time(at, zone)),
        "next_run_in_words": task.next_run.map(|at| schedule::describe(at, now, zone)),
        "created_by": task.created_by,
    })
}

/// Cuts the texts of a shown task where it is one of many; `get_task` gives them whole.
pub(super) fn shorten(shown: &mut Value) {
    for field in ["prompt", "script"] {
        if let Value::String(text) = &mut shown[field]
            && let Some((end, _)) = text.char_indices().nth(LISTED_CHARS_MAX)
        {
            text.truncate(end);
            text.push_str(" … (`get_task` gives all of it)");
        }
    }
}

/// Of each text of a task that is listed.
const LISTED_CHARS_MAX: usize = 1000;

pub(super) fn task_run(run: &TaskRun, zone: Tz) -> Value {
    json!({
        "planned_for": time(run.planned_for, zone),
        "asked_by": run.asked_by.as_str(),
        "status": run.status.as_str(),
        "started": run.started_at.and_then(|at| time(at, zone)),
        "ended": run.ended_at.and_then(|at| time(at, zone)),
        "result": run.result,
        "error": run.error,
    })
}

pub(super) fn group(group: &Group, chats: &[ChatJid], assistant_name: &str) -> Value {
    let name = group.trigger_name.as_deref().unwrap_or(assistant_name);
    let chats: Vec<&str> = chats.iter().map(ChatJid::as_str).collect();
    json!({
        "folder": group.folder.as_str(),
        "name": group.name,
        "is_main": group.is_main,
        "trigger": format!("@{name}"),
        "requires_trigger": group.requires_trigger && !group.is_main,
        "chats": chats,
    })
}

pub(super) fn chat(chat: &Chat, zone: Tz) -> Value {
    json!({
        "jid": chat.jid.as_str(),
        "name": chat.name,
        "is_group": chat.is_group,
        "last_activity": chat.last_message_at.and_then(|at| time(at, zone)),
    })
}

pub(super) fn found(found: &Found, query: &str, zone: Tz) -> Value {
    json!({
        "time": time(found.sent_at, zone),
        "sender": found.sender_name,
        "text": excerpt(&found.text, query),
        "chat_jid": found.chat.as_str(),
        "group": found.folder.as_str(),
    })
}

/// Characters of an excerpt.
const EXCERPT_CHARS_MAX: usize = 400;
/// Of these, before the first word that was looked for.
const EXCERPT_CHARS_BEFORE: usize = 100;

/// The part of `text` around the first word of `query`.
fn excerpt(text: &str, query: &str) -> String {
    let folded = |text: &str| -> Vec<char> {
        // One for one, so that places are the same in both.
        text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
    };
    let letters = folded(text);
    let at = query.split_whitespace().find_map(|word| {
        let word = folded(word);
        letters.windows(word.len()).position(|window| window == word)
    });
    let from = match at {
        Some(at) if EXCERPT_CHARS_MAX < letters.len() => at.saturating_sub(EXCERPT_CHARS_BEFORE),
        _ => 0,
    };
    let mut excerpt = String::new();
    if 0 < from {
        excerpt.push('…');
    }
    excerpt.extend(text.chars().skip(from).take(EXCERPT_CHARS_MAX));
    if from + EXCERPT_CHARS_MAX < letters.len() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_bounded_and_holds_the_word() {
        assert_eq!("a short text", excerpt("a short text", "SHORT"));
        let long = format!("{} Needle {}", "é".repeat(1000), "ü".repeat(1000));
        let cut = excerpt(&long, "missing needle");
        assert!(cut.contains("Needle") && cut.starts_with('…') && cut.ends_with('…'), "{cut}");
        assert!(cut.chars().count() <= EXCERPT_CHARS_MAX + 2);
        assert!(excerpt(&long, "x").starts_with('é'));
        assert_eq!("", excerpt("", "x"));
    }

    #[test]
    fn times_are_local_with_their_offset() {
        let at = UnixMs(1_771_500_000_000);
        assert_eq!(Some("2026-02-19T12:20:00+01:00".to_owned()), time(at, Tz::Europe__Berlin));
        assert_eq!(Some("2026-02-19T11:20:00.000Z".to_owned()), utc(at));
        assert_eq!(None, time(UnixMs(i64::MAX), Tz::UTC));
    }
}
