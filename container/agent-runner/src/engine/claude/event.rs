//! What the CLI says: one JSON object a line, of which we read what we act on.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::ledger::Tokens;

/// A line of the CLI.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A turn begins in this session.
    Began { session: String },
    /// The message with this id is part of a turn now.
    Took { message: String },
    /// A request to the model API is repeated. No status: there was no answer.
    Retrying { status: Option<u16> },
    /// The turn goes on; with the kind of failure, where the CLI speaks in the model's place.
    Working { error: Option<String> },
    /// A turn ended.
    Ended(Box<TurnEnd>),
    /// Anything else.
    Other,
}

/// How a turn ended. `subtype` is of no use: it says `success` beside `is_error: true`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct TurnEnd {
    pub(super) is_error: bool,
    pub(super) result: Option<String>,
    pub(super) errors: Vec<String>,
    /// Status of the model API's answer.
    pub(super) api_error_status: Option<u16>,
    pub(super) terminal_reason: Option<String>,
    /// Who began the turn, where that was no message of the user.
    #[serde(deserialize_with = "is_there")]
    pub(super) origin: bool,
    /// US dollars, a running total.
    pub(super) total_cost_usd: f64,
    /// By model, running totals too.
    #[serde(rename = "modelUsage")]
    pub(super) model_usage: BTreeMap<String, Tokens>,
}

/// Whether a field of any type has a value.
fn is_there<'de, D: Deserializer<'de>>(field: D) -> Result<bool, D::Error> {
    Option::<IgnoredAny>::deserialize(field).map(|value| value.is_some())
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subtype: Option<String>,
}

#[derive(Deserialize)]
struct Init {
    session_id: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default, rename = "isReplay")]
    is_replay: bool,
}

#[derive(Deserialize)]
struct Retry {
    #[serde(default)]
    error_status: Option<u16>,
}

#[derive(Deserialize)]
struct Assistant {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parent_tool_use_id: Option<String>,
}

impl Event {
    /// Reads a line; one that is no JSON of a known shape is [`Event::Other`].
    pub(super) fn parse(line: &[u8]) -> Event {
        Event::read(line).unwrap_or(Event::Other)
    }

    fn read(line: &[u8]) -> Option<Event> {
        let Line { kind, subtype } = serde_json::from_slice(line).ok()?;
        match (kind.as_str(), subtype.as_deref()) {
            ("system", Some("init")) => {
                let Init { session_id } = serde_json::from_slice(line).ok()?;
                Some(Event::Began { session: session_id })
            }
            ("system", Some("api_retry")) => {
                let Retry { error_status } = serde_json::from_slice(line).ok()?;
                Some(Event::Retrying { status: error_status })
            }
            ("user", _) => {
                let User { uuid, is_replay } = serde_json::from_slice(line).ok()?;
                match uuid {
                    Some(message) if is_replay => Some(Event::Took { message }),
                    _ => Some(Event::Working { error: None }),
                }
            }
            ("assistant", _) => {
                let Assistant { error, parent_tool_use_id } = serde_json::from_slice(line).ok()?;
                // What fails in a subagent is for the agent to mend.
                let error = error.filter(|_| parent_tool_use_id.is_none());
                Some(Event::Working { error })
            }
            ("result", _) => Some(Event::Ended(serde_json::from_slice(line).ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &Event) {
        assert_eq!(*expected, Event::parse(line.as_bytes()));
    }

    #[test]
    fn the_lines_that_count_are_known() {
        check(
            r#"{"type":"system","subtype":"init","session_id":"s-1","tools":["Bash"]}"#,
            &Event::Began { session: "s-1".into() },
        );
        check(
            r#"{"type":"user","message":{"content":"x"},"uuid":"u-1","isReplay":true}"#,
            &Event::Took { message: "u-1".into() },
        );
        check(
            r#"{"type":"user","message":{"content":[]},"uuid":"u-1"}"#,
            &Event::Working { error: None },
        );
        check(
            r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":401}"#,
            &Event::Retrying { status: Some(401) },
        );
        check(
            r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":null}"#,
            &Event::Retrying { status: None },
        );
        check(
            r#"{"type":"assistant","error":"billing_error","parent_tool_use_id":null}"#,
            &Event::Working { error: Some("billing_error".into()) },
        );
        check(
            r#"{"type":"assistant","error":"billing_error","parent_tool_use_id":"toolu_1"}"#,
            &Event::Working { error: None },
        );
    }

    #[test]
    fn the_end_of_a_turn_is_read_whole() {
        let line = r#"{"type":"result","subtype":"success","is_error":true,"result":"no",
            "api_error_status":400,"terminal_reason":"api_error","total_cost_usd":0.5,
            "origin":{"kind":"task-notification"},"modelUsage":{"m":{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":3,
            "cacheCreationInputTokens":4,"costUSD":0.5}},"usage":{}}"#;
        let tokens = Tokens { input: 1, output: 2, cache_read: 3, cache_write: 4 };
        check(
            line,
            &Event::Ended(Box::new(TurnEnd {
                is_error: true,
                result: Some("no".into()),
                api_error_status: Some(400),
                terminal_reason: Some("api_error".into()),
                origin: true,
                total_cost_usd: 0.5,
                model_usage: [("m".to_owned(), tokens)].into(),
                ..TurnEnd::default()
            })),
        );
    }

    #[test]
    fn everything_else_is_let_pass() {
        for line in [
            "",
            "No conversation found",
            "[]",
            r#"{"type":1}"#,
            r#"{"type":"system","subtype":"init"}"#,
            r#"{"type":"rate_limit_event"}"#,
        ] {
            check(line, &Event::Other);
        }
    }
}
