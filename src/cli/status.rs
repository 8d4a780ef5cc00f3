//! `status`: how things stand, from the database alone; the daemon is not asked.

use argh::FromArgs;
use serde_json::{Value, json};

use super::{Error, out};
use crate::config::{CredentialsChoice, Settings};
use crate::home::Home;
use crate::ids::UnixMs;
use crate::limits::{RETRIES_MAX, RETRY_FIRST};
use crate::sandbox::allowlist::Allowlist;
use crate::sandbox::keeper;
use crate::store::{Failures, Group};

/// Show the daemon, the sandboxes, what waits and what went wrong.
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
pub(super) struct StatusCommand {
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

impl StatusCommand {
    /// # Errors
    /// The settings; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let status = gather(home)?;
        if self.json {
            return out::json(&status);
        }
        lines(&status).iter().try_for_each(|line| out::line(line))
    }
}

fn gather(home: &Home) -> Result<Value, Error> {
    let settings = super::settings(home)?;
    let store = super::store_with_main(home)?;
    let now = UnixMs::now();
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
    let outbox: Vec<Value> = store
        .outbox_depth()?
        .into_iter()
        .map(|(channel, pending)| json!({"channel": channel, "pending": pending}))
        .collect();
    Ok(json!({
        "home": home.root().display().to_string(),
        "daemon": daemon,
        "engine": if running.is_some() { parsed(keeper::STATE_KEY)? } else { Value::Null },
        "whatsapp": if running.is_some() { parsed("whatsapp")? } else { Value::Null },
        "warnings": warnings(&settings, &groups),
        "groups": groups.len(),
        "groups_unreadable": corrupt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sandboxes": sandboxes,
        "sandboxes_max": settings.concurrent_runs_max,
        "queue": queue,
        "retries": retries,
        "dead_letters": dead,
        "outbox": outbox,
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

fn lines(status: &Value) -> Vec<String> {
    let text = |value: &Value| out::harmless(value.as_str().unwrap_or_default()).replace('\n', " ");
    let each = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    match &status["daemon"] {
        Value::Null => lines.push("daemon     not running; `rust-claw run` starts it".to_owned()),
        daemon => lines.push(format!(
            "daemon     pid {}, up {}, version {}",
            daemon["pid"],
            span(daemon["uptime_s"].as_u64().unwrap_or(0)),
            text(&daemon["version"])
        )),
    }
    lines.push(format!("home       {}", text(&status["home"])));
    let engine = &status["engine"];
    match engine["state"].as_str() {
        Some("ready") => lines.push(format!("engine     {}", text(&engine["runtime"]))),
        Some("down") => lines.push(format!(
            "engine     none: {}; {}",
            text(&engine["why"]),
            text(&engine["mend"])
        )),
        Some(_) => lines.push("engine     being looked for".to_owned()),
        None => {}
    }
    for note in engine["notes"].as_array().into_iter().flatten() {
        lines.push(format!("           {}", text(note)));
    }
    lines.extend(whatsapp(&status["whatsapp"], &text));
    for warning in each("warnings") {
        lines.push(format!("warning    {}", text(&warning)));
    }
    lines.push(format!("groups     {}", status["groups"]));
    for row in each("groups_unreadable") {
        lines.push(format!("           not readable: {}", text(&row)));
    }
    let sandboxes = each("sandboxes");
    lines.push(format!("sandboxes  {} of {}", sandboxes.len(), status["sandboxes_max"]));
    for run in sandboxes {
        lines.push(format!(
            "           {} {} for {}, age {}, {} turns, chat {}",
            text(&run["group"]),
            text(&run["state"]),
            span(run["state_s"].as_u64().unwrap_or(0)),
            span(run["age_s"].as_u64().unwrap_or(0)),
            run["turns"],
            text(&run["chat"])
        ));
    }
    lines.push(format!("queue      {}", each("queue").len()));
    for waiting in each("queue") {
        lines.push(format!(
            "           {} chat {}",
            text(&waiting["group"]),
            text(&waiting["chat"])
        ));
    }
    for retry in each("retries") {
        lines.push(format!(
            "retry      {} after {} failures, in {}: {}",
            text(&retry["chat"]),
            retry["failures"],
            span(retry["next_in_s"].as_u64().unwrap_or(0)),
            text(&retry["error"])
        ));
    }
    for letter in each("dead_letters") {
        lines.push(format!(
            "gave up    #{} {} after {} attempts, {} ago: {}",
            letter["id"],
            text(&letter["chat"]),
            letter["attempts"],
            span(letter["age_s"].as_u64().unwrap_or(0)),
            text(&letter["error"])
        ));
    }
    for channel in each("outbox") {
        lines.push(format!(
            "outbox     {}: {} to send",
            text(&channel["channel"]),
            channel["pending"]
        ));
    }
    lines
}

/// Where the link to `WhatsApp` stands, and what a person can do about it.
fn whatsapp(state: &Value, text: &dyn Fn(&Value) -> String) -> Vec<String> {
    let Some(name) = state["state"].as_str() else { return Vec::new() };
    let mut line = format!("whatsapp   {}", out::harmless(name));
    if !state["number"].is_null() {
        line.push_str(&format!(", +{} {}", text(&state["number"]), text(&state["name"])));
    }
    if let Some(until) = state["until_ms"].as_i64() {
        let seconds = UnixMs(until).since(UnixMs::now()).as_secs();
        line.push_str(&format!(", for {}", span(seconds)));
    }
    for key in ["reason", "act"] {
        if !state[key].is_null() {
            line.push_str(&format!("; {}", text(&state[key])));
        }
    }
    vec![line]
}

/// Seconds for a person.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}
