//! A status as text.

use serde_json::Value;

use crate::cli::out;

/// The lines of a status, each for a person.
pub(super) fn lines(status: &Value) -> Vec<String> {
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
    let next = each("next_tasks");
    for task in &next {
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
    let today = &status["today"];
    let micros = today["cost_micro_usd"].as_i64().unwrap_or(0);
    lines.push(format!(
        "today      {} turns, {} tokens in, {} out, ${}.{:02}",
        today["turns"],
        today["input_tokens"],
        today["output_tokens"],
        micros / 1_000_000,
        micros % 1_000_000 / 10_000
    ));
    for failed in each("errors") {
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
    let mut line = format!("whatsapp   {}", out::harmless(state));
    for key in ["number", "reason", "act"] {
        if let Some(text) = link[key].as_str() {
            line.push_str(", ");
            line.push_str(&out::harmless(text).replace('\n', " "));
        }
    }
    if let Some(age) = link["age_s"].as_u64() {
        line.push_str(&format!(", for {}", span(age)));
    }
    Some(line)
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
