//! The shapes of the model API's answers: a message whole, a message as events, an error.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::script::{Act, Step, Tokens};
use super::wire::Connection;

/// Sends what `step` says, as events where the request with `body` asks for them.
pub(super) fn send(
    connection: &mut Connection<'_>,
    body: &Value,
    step: &Step,
    id: u64,
) -> io::Result<()> {
    if let Act::Error { status, text } = &step.act {
        return connection.json(*status, &error(*status, text));
    }
    let (block, stop_reason) = match &step.act {
        Act::Tool { name, input } => (
            json!({ "type": "tool_use", "id": format!("toolu_{id:08}"), "name": name,
                    "input": input }),
            "tool_use",
        ),
        Act::Say(text) => (json!({ "type": "text", "text": text }), "end_turn"),
        _ => (json!({ "type": "text", "text": "This is the start of an answer" }), "end_turn"),
    };
    let mut message = json!({
        "id": format!("msg_{id:08}"), "type": "message", "role": "assistant",
        "model": body["model"], "content": [block], "stop_reason": stop_reason,
        "stop_sequence": null, "usage": usage(step.tokens),
    });
    if body["stream"] != true {
        return match step.act {
            Act::Stall | Act::Cut => Err(connection.cut()),
            _ => connection.json(200, &message),
        };
    }
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    connection.start_events()?;
    connection.event(&json!({ "type": "message_start", "message": message }))?;
    content(connection, &block, step.pause)?;
    match step.act {
        Act::Cut => return Err(connection.cut()),
        // Until the client leaves: it sends nothing more, so its end is all that can be read.
        Act::Stall => return connection.read().and(Err(io::Error::other("stalled to the end"))),
        _ => {}
    }
    connection.event(&json!({ "type": "content_block_stop", "index": 0 }))?;
    connection.event(&json!({
        "type": "message_delta", "usage": { "output_tokens": step.tokens.output },
        "delta": { "stop_reason": stop_reason, "stop_sequence": null },
    }))?;
    connection.event(&json!({ "type": "message_stop" }))?;
    connection.end_events()
}

/// The body of an error. Source: the model API's documentation of its errors.
pub(super) fn error(status: u16, text: &str) -> Value {
    let kind = match status {
        400 | 413 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": text } })
}

/// The only content block, word by word.
fn content(connection: &mut Connection<'_>, block: &Value, pause: Duration) -> io::Result<()> {
    let mut start = block.clone();
    let (deltas, kind, field) = if let Some(text) = block["text"].as_str() {
        start["text"] = json!("");
        (text.split_inclusive(' ').map(str::to_owned).collect(), "text_delta", "text")
    } else {
        start["input"] = json!({});
        (vec![block["input"].to_string()], "input_json_delta", "partial_json")
    };
    connection
        .event(&json!({ "type": "content_block_start", "index": 0, "content_block": start }))?;
    for delta in deltas {
        sleep(pause);
        let mut value = json!({ "type": kind });
        value[field] = Value::String(delta);
        connection.event(&json!({ "type": "content_block_delta", "index": 0, "delta": value }))?;
    }
    Ok(())
}

fn usage(tokens: Tokens) -> Value {
    json!({
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": tokens.cache_write,
    })
}
