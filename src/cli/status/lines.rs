//! A status as text.

use std::path::Path;

use serde_json::Value;

use crate::cli::out;

fn text(value: &Value) -> String {
    out::harmless(value.as_str().unwrap_or_default()).replace('\n', " ")
}

/// The lines of a status, each for a person.
pub(super) fn lines(status: &Value) -> Vec<String> {
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
    lines.push(format!("home       {}", out::path(Path::new(&text(&status["home"])))));
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
    lines.extend(whatsapp(&status["whatsapp"]));
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
    for task in each("next_tasks") {
        lines.push(format!(
            "task       {}  {}  {}: {}",
            text(&task["id"]),
            text(&task["next"]),
            text(&task["group"]),
            text(&task["title"])
        ));
    }
    for channel in each("outbox") {
        lines.push(format!(
            "outbox     {}: {} to send",
            text(&channel["channel"]),
            channel["pending"]
        ));
    }
    lines.extend(use_and_errors(status));
    lines
}

fn use_and_errors(status: &Value) -> Vec<String> {
    let today = &status["today"];
    let micros = today["cost_micro_usd"].as_i64().unwrap_or(0);
    let mut lines = vec![format!(
        "today      {} turns, {} tokens in, {} out, ${}.{:02}",
        today["turns"],
        today["input_tokens"],
        today["output_tokens"],
        micros / 1_000_000,
        micros % 1_000_000 / 10_000
    )];
    for failed in status["errors"].as_array().into_iter().flatten() {
        lines.push(format!(
            "error      {} {} of {}, {} ago: {}",
            text(&failed["what"]),
            failed["id"],
            text(&failed["about"]),
            span(failed["age_s"].as_u64().unwrap_or(0)),
            text(&failed["error"])
        ));
    }
    lines
}

/// The link to `WhatsApp`, once there is one.
fn whatsapp(link: &Value) -> Option<String> {
    let state = link["state"].as_str()?;
    let more = ["number", "reason", "act"].iter().filter_map(|key| link[key].as_str());
    let mut parts: Vec<String> = [state]
        .into_iter()
        .chain(more)
        .map(|part| out::harmless(part).replace('\n', " "))
        .collect();
    parts.extend(link["age_s"].as_u64().map(|age| format!("for {}", span(age))));
    Some(format!("whatsapp   {}", parts.join(", ")))
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
