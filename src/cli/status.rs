//! `status`: how things stand, from the database alone; the daemon is not asked.

mod lines;
mod watch;

use argh::{ArgsInfo, FromArgs};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::{Error, out};
use crate::channel::WHATSAPP_STATE_KEY;
use crate::config::{CredentialsChoice, Settings};
use crate::home::Home;
use crate::ids::UnixMs;
use crate::limits::{RETRIES_MAX, RETRY_FIRST};
use crate::sandbox::allowlist::Allowlist;
use crate::sandbox::keeper;
use crate::schedule::describe;
use crate::store::{Failures, Group, Store, UsageBy, UsageRow};

/// Show the daemon, the sandboxes, what waits and what went wrong.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub(super) struct StatusCommand {
    /// one JSON object
    #[argh(switch)]
    json: bool,
    /// a live screen; q leaves it
    #[argh(switch)]
    watch: bool,
}

impl StatusCommand {
    /// # Errors
    /// The settings; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let store = super::store_with_main(home)?;
        if self.watch && self.json {
            return Err(Error::Refused("one of --watch and --json".to_owned()));
        }
        if self.watch {
            return watch::watch(home, || gather(home, &settings, &store));
        }
        let status = gather(home, &settings, &store)?;
        if self.json {
            return out::json(&status);
        }
        lines::lines(&status).iter().try_for_each(|line| out::line(line))
    }
}

/// Tasks and errors that are shown.
const SHOWN_MAX: usize = 5;

fn gather(home: &Home, settings: &Settings, store: &Store) -> Result<Value, Error> {
    let now = UnixMs::now();
    let zone = settings.timezone;
    let parsed = |key: &str| -> Result<Value, Error> {
        let text = store.get_state(key)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    };
    let running = home.holder()?;
    let about = parsed("daemon")?;
    let daemon = running.map(|pid| {
        let uptime_s = about["started_at_ms"].as_i64().map(|at| now.since(UnixMs(at)).as_secs());
        json!({"pid": pid, "uptime_s": uptime_s, "version": about["version"]})
    });
    let (groups, corrupt) = store.groups()?;
    let sandboxes: Vec<Value> = store
        .alive_runs()?
        .into_iter()
        // Of a daemon that was killed the next one clears away.
        .filter(|_| running.is_some())
        .map(|run| {
            json!({
                "run": run.id.0, "group": run.folder.as_str(), "chat": run.chat.as_str(),
                "container": run.container_name, "state": run.state.as_str(), "turns": run.turn_count,
                "age_s": now.since(run.started_at).as_secs(),
                "state_s": now.since(run.changed_at).as_secs(),
            })
        })
        .collect();
    let mut queue = Vec::new();
    let mut retries = Vec::new();
    for (folder, chat) in store.pending_chats()? {
        let failures = store.failures_in_a_row(&chat, RETRIES_MAX + 1)?;
        if let Some(Failures { count, last_at, error }) = failures {
            let pause = RETRY_FIRST * 2_u32.pow(count.clamp(1, RETRIES_MAX) - 1);
            retries.push(json!({
                "group": folder.as_str(), "chat": chat.as_str(), "failures": count, "error": error,
                "next_in_s": last_at.plus(pause).since(now).as_secs(),
            }));
        } else {
            queue.push(json!({"group": folder.as_str(), "chat": chat.as_str()}));
        }
    }
    let dead: Vec<Value> = store
        .dead_letters()?
        .into_iter()
        .map(|letter| {
            json!({
                "id": letter.id, "group": letter.folder.as_str(), "chat": letter.chat.as_str(),
                "attempts": letter.attempt_count, "error": letter.error,
                "age_s": now.since(letter.created_at).as_secs(),
            })
        })
        .collect();
    let mut whatsapp = parsed(WHATSAPP_STATE_KEY)?;
    if let Some(since) = whatsapp["since_ms"].as_i64() {
        whatsapp["age_s"] = now.since(UnixMs(since)).as_secs().into();
    }
    let outbox: Vec<Value> = store
        .outbox_depth()?
        .into_iter()
        .map(|(channel, pending)| json!({"channel": channel, "pending": pending}))
        .collect();
    Ok(json!({
        "home": home.root().display().to_string(),
        "daemon": daemon,
        "engine": if running.is_some() { parsed(keeper::STATE_KEY)? } else { Value::Null },
        "whatsapp": whatsapp,
        "warnings": warnings(settings, &groups),
        "groups": groups.len(),
        "groups_unreadable": corrupt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sandboxes": sandboxes,
        "sandboxes_max": settings.concurrent_runs_max,
        "queue": queue,
        "retries": retries,
        "dead_letters": dead,
        "outbox": outbox,
        "next_tasks": next_tasks(store, now, zone)?,
        "today": today(store, now, zone)?,
        "errors": last_errors(store, now)?,
    }))
}

fn next_tasks(store: &Store, now: UnixMs, zone: Tz) -> Result<Vec<Value>, Error> {
    let rows: Vec<Value> = store
        .next_tasks(SHOWN_MAX)?
        .iter()
        .map(|task| {
            let at = task.next_run.unwrap_or(now);
            json!({
                "id": task.id.as_str(), "group": task.folder.as_str(), "title": task.title(),
                "next_run_ms": at.0, "next": describe(at, now, task.zone_or(zone)),
            })
        })
        .collect();
    Ok(rows)
}

fn last_errors(store: &Store, now: UnixMs) -> Result<Vec<Value>, Error> {
    let rows: Vec<Value> = store
        .last_errors(SHOWN_MAX)?
        .into_iter()
        .map(|failed| {
            json!({
                "what": failed.what, "id": failed.id, "about": failed.about,
                "error": failed.error, "age_s": now.since(failed.at).as_secs(),
            })
        })
        .collect();
    Ok(rows)
}

/// What the model took since midnight.
fn today(store: &Store, now: UnixMs, zone: Tz) -> Result<Value, Error> {
    let today = store.usage(UsageBy::Group, super::usage::today(now, zone))?;
    let sum = |of: fn(&UsageRow) -> i64| today.iter().map(of).sum::<i64>();
    Ok(json!({
        "runs": sum(|row| row.run_count), "turns": sum(|row| row.turn_count),
        "input_tokens": sum(|row| {
            row.usage.input_tokens + row.usage.cache_read_tokens + row.usage.cache_write_tokens
        }),
        "output_tokens": sum(|row| row.usage.output_tokens),
        "cost_micro_usd": sum(|row| row.usage.cost_micro_usd),
    }))
}

/// Where a wall is lower than it could be.
fn warnings(settings: &Settings, groups: &[Group]) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.credentials == CredentialsChoice::Stdin && settings.credential().is_some() {
        warnings.push(
            "CREDENTIALS=stdin: the key of the model is inside every sandbox; the proxy keeps it out"
                .to_owned(),
        );
    }
    if rustix::process::geteuid().is_root() {
        warnings.push(
            "this is root: an ordinary user's mistakes and sandboxes can do less harm".to_owned(),
        );
    }
    let wanting: Vec<&str> = groups
        .iter()
        .filter(|group| !group.config.additional_mounts.is_empty())
        .map(|group| group.folder.as_str())
        .collect();
    if let Some(Err(unusable)) =
        std::env::home_dir().filter(|_| !wanting.is_empty()).map(|home| Allowlist::load(&home))
    {
        warnings.push(format!(
            "no additional mounts for {}: {}",
            wanting.join(", "),
            crate::chain(&unusable)
        ));
    }
    warnings
}
