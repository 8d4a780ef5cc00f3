//! `why`: what became of a message, step by step, from the database alone.

use argh::{ArgsInfo, FromArgs};
use chrono::DateTime;
use chrono_tz::Tz;

use super::{Error, out, serve};
use crate::config::Settings;
use crate::home::Home;
use crate::ids::{UnixMs, shown};
use crate::store::{Group, OutboxRow, OutboxState, Path, Run, Store, Stored, calls};

/// Show what became of a message: received, matched or not and why, run, answer, delivery, each
/// with its time.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "why", example = "rust-claw why last")]
pub(super) struct WhyCommand {
    /// last, a number as `inject` and `ask --json` tell it, or the beginning of the channel's id
    #[argh(positional)]
    message: String,
}

impl WhyCommand {
    /// # Errors
    /// No such message, or several; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let store = super::store_with_main(home)?;
        let which = shown(&self.message);
        let found = store.find_messages(&self.message)?;
        let message = match found.as_slice() {
            [message] => message,
            [] => {
                return Err(Error::Refused(format!(
                    "no message `{which}`: one of a chat without a group, or of a sender whose \
                     messages the group drops, is not stored; `rust-claw why last` tells of the newest"
                )));
            }
            [one, two, ..] => {
                let ids = [one, two].map(|message| shown(&message.id));
                let [one, two] = &ids;
                return Err(Error::Refused(format!(
                    "`{which}` may be {one} or {two}: say more of it"
                )));
            }
        };
        let zone = settings.timezone;
        let group = store.group_of_chat(&message.chat)?;
        let path = store.path_of(message)?;
        let mut lines = head(message, group.as_ref(), &settings);
        lines.extend(runs(&store, message, group.as_ref(), &path, zone)?);
        lines.extend(path.said.iter().flat_map(|row| said(row, zone)));
        lines.iter().try_for_each(|line| out::line(&out::harmless(line).replace('\n', " ")))
    }
}

fn time(at: UnixMs, zone: Tz) -> String {
    let at = DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// What it is, when it came, and whether it asked for an answer.
fn head(message: &Stored, group: Option<&Group>, settings: &Settings) -> Vec<String> {
    let zone = settings.timezone;
    let of_group = group.map(|group| format!(" of group {}", group.folder)).unwrap_or_default();
    vec![
        format!(
            "message    #{} {} of {} in chat {}{of_group}",
            message.seq, message.id, message.sender_name, message.chat
        ),
        format!(
            "received   {}, sent {} by the sender's clock",
            time(message.received_at, zone),
            time(message.sent_at, zone)
        ),
        format!("matched    {}", matched(message, group, &settings.assistant_name)),
    ]
}

/// Whether it asked for an answer was decided when it came; the reason is what holds now.
fn matched(message: &Stored, group: Option<&Group>, assistant_name: &str) -> String {
    let Some(group) = group else { return "no: its chat belongs to no group any more".to_owned() };
    let is_local = message.chat.as_str().starts_with("local:");
    let reason = if is_local {
        Some("who types at the terminal means the assistant")
    } else {
        calls(group, &message.text, false, assistant_name)
    };
    let name = group.trigger_name.as_deref().unwrap_or(assistant_name);
    let is_stranger = !is_local
        && group.config.senders.as_ref().is_some_and(|list| !list.allows(&message.sender));
    match (message.wakes, reason) {
        (true, Some(reason)) => format!("yes: {reason}"),
        (true, None) => {
            "yes: it mentioned the assistant, or the group's settings were others".into()
        }
        (false, _) if message.is_from_assistant => "no: the assistant said it itself".into(),
        (false, _) if is_stranger => {
            format!(
                "no: {} may not wake the assistant here (`rust-claw set-senders`)",
                message.sender
            )
        }
        (false, None) => {
            format!("no: it does not begin with @{name}; it comes along with the next that does")
        }
        (false, Some(_)) => {
            "no: nobody waits for its answer any more, or it was older than the chat's place here"
                .into()
        }
    }
}

/// The runs that had it, and how it stands.
fn runs(
    store: &Store,
    message: &Stored,
    group: Option<&Group>,
    path: &Path,
    zone: Tz,
) -> Result<Vec<String>, Error> {
    let mut lines: Vec<String> = path.attempts.iter().map(|run| attempt(run, zone)).collect();
    let settled = store.cursor(&message.chat)?.is_some_and(|cursor| message.seq <= cursor);
    match &path.run {
        Some(run) => {
            let waited = run.started_at.since(message.received_at);
            lines.push(if message.received_at < run.started_at {
                format!("queued     for {} ms", waited.as_millis())
            } else {
                "queued     not at all: handed to a sandbox that lived".to_owned()
            });
            let about = [&run.container_name, run.state.as_str()].join(", ");
            lines.push(format!(
                "run        #{} {about}, started {}",
                run.id,
                time(run.started_at, zone)
            ));
            lines.push(match path.said.first() {
                Some(first) => format!("turn       answered {}", time(first.created_at, zone)),
                None if settled => {
                    format!(
                        "turn       ended without words, at the latest {}",
                        time(run.changed_at, zone)
                    )
                }
                None => "turn       goes on".to_owned(),
            });
        }
        None if !message.wakes || group.is_none() => {}
        None if settled && path.given_up.is_none() => {
            lines.push("run        none is known: it was settled without one".to_owned());
        }
        None => {
            lines.push(match serve::engine_down(store)? {
                Some((why, mend)) => format!("queued     no sandbox to run in: {why}; {mend}"),
                None if path.given_up.is_some() => "queued     not any more".to_owned(),
                None => "queued     it waits for a sandbox".to_owned(),
            });
        }
    }
    if let Some((number, error, at)) = &path.given_up {
        lines.push(format!(
            "gave up    {}: {error}; `rust-claw retry {number}` answers it again",
            time(*at, zone)
        ));
    }
    Ok(lines)
}

fn attempt(run: &Run, zone: Tz) -> String {
    let ended = run.ended_at.map(|at| time(at, zone)).unwrap_or_default();
    let error = run.error.as_deref().unwrap_or("no reason is known");
    format!("run        #{} {} {ended}: {error}", run.id, run.state.as_str())
}

/// One row of the answer.
fn said(row: &OutboxRow, zone: Tz) -> Vec<String> {
    let delivery = match (row.state, row.sent_at) {
        (OutboxState::Sent, Some(at)) => {
            format!("sent       acknowledged {} as {}", time(at, zone), row.channel_message_id)
        }
        (OutboxState::Failed, _) => {
            format!("sent       given up: {}", row.error.as_deref().unwrap_or_default())
        }
        _ if row.attempt_count == 0 => "sent       not yet: nobody has taken it".to_owned(),
        _ => format!(
            "sent       not yet: {} attempts, the next {}: {}",
            row.attempt_count,
            time(row.next_attempt_at, zone),
            row.error.as_deref().unwrap_or_default()
        ),
    };
    let kind = row.kind.as_str();
    vec![format!("outbox     #{} {kind}, queued {}", row.id, time(row.created_at, zone)), delivery]
}
