//! What a request asks the fake model to do.
//!
//! The newest text of the user is a program, one instruction a line; other lines count as nothing:
//! ```text
//! SAY text                 text of the answer (several lines: several instructions)
//! TOOL name {"a":1}        calls a tool; the next instruction runs when its result has come
//! ERROR 529 text           fails with that status, each time
//! SLOW 20                  from here on, one word every 20 ms
//! USAGE 1000 50 200 10     input, output, cache read and cache write tokens of this answer
//! STALL                    sends the start of an answer and then nothing, until the client leaves
//! CUT                      sends the start of an answer and cuts the connection
//! ERROR*2 529 text         fails twice, then goes on to the next instruction; so do STALL*2, CUT*2
//! ERROR? 400 text          fails as long as anything was said before this text; so do STALL?, CUT?
//! ```
//! A text without instructions is answered with `You said: …`. Where the text is a prompt of ours
//! (`<message …>…</message>`), the content of its last message counts, unescaped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Answers by rule: the first whose `when` occurs in the newest text of the user counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Rules(pub Vec<Rule>);

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Part of the user's text.
    pub when: String,
    /// Program in place of the text.
    pub program: String,
}

/// Tokens that an answer claims to have cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
}

/// What the answer is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    Say(String),
    Tool { name: String, input: Value },
    Error { status: u16, text: String },
    Stall,
    Cut,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) act: Act,
    /// Pause before each word.
    pub(super) pause: Duration,
    pub(super) tokens: Tokens,
}

/// How often each failing instruction was met, so that `ERROR*2` can end.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<BTreeMap<String, u32>>);

impl Attempts {
    /// Counts one attempt at `key` and says how many came before.
    fn count(&self, key: String) -> u32 {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.entry(key).or_default();
        *count += 1;
        *count - 1
    }
}

/// The answer to the request with `body`.
pub(super) fn step(body: &Value, rules: &Rules, attempts: &Attempts) -> Step {
    let (text, done) = newest_text(body);
    let asked = rules.0.iter().find(|rule| text.contains(&rule.when));
    let program = asked.map_or(text.as_str(), |rule| rule.program.as_str());
    let mut state = Step {
        act: Act::Say(String::new()),
        pause: Duration::ZERO,
        tokens: Tokens { input: 100, output: 10, cache_read: 0, cache_write: 0 },
    };
    let (mut said, mut calls) = (Vec::new(), 0);
    for line in program.lines().map(str::trim) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "SLOW" => state.pause = Duration::from_millis(rest.parse().unwrap_or(0)),
            "USAGE" => {
                let mut numbers = rest.split(' ').map(|n| n.parse().unwrap_or(0));
                let mut next = || numbers.next().unwrap_or(0);
                state.tokens = Tokens {
                    input: next(),
                    output: next(),
                    cache_read: next(),
                    cache_write: next(),
                };
            }
            "SAY" => said.push(rest),
            // Each call that was answered is behind us.
            "TOOL" if calls < done => {
                calls += 1;
                said.clear();
            }
            "TOOL" => {
                let (name, input) = rest.split_once(' ').unwrap_or((rest, "{}"));
                let input = serde_json::from_str(input).unwrap_or(Value::Null);
                return Step { act: Act::Tool { name: name.to_owned(), input }, ..state };
            }
            _ if calls == done => {
                let (word, times) = word.split_once('*').unwrap_or((word, ""));
                let is_new_enough = word.ends_with('?') && is_first_text(body);
                let Some(act) = failing(word.trim_end_matches('?'), rest) else { continue };
                let times = times.parse().unwrap_or(u32::MAX);
                if !is_new_enough && attempts.count(format!("{done} {line} {text}")) < times {
                    return Step { act, ..state };
                }
            }
            _ => {}
        }
    }
    let scripted = program.lines().any(|line| line.trim_start().starts_with("SAY "));
    let text = match said.as_slice() {
        [] if scripted || 0 < done => "Done.".to_owned(),
        [] => format!("You said: {}", text.trim().chars().take(500).collect::<String>()),
        lines => lines.join("\n"),
    };
    Step { act: Act::Say(text), ..state }
}

/// The instructions that fail.
fn failing(word: &str, rest: &str) -> Option<Act> {
    match word {
        "STALL" => Some(Act::Stall),
        "CUT" => Some(Act::Cut),
        "ERROR" => {
            let (status, text) = rest.split_once(' ').unwrap_or((rest, "fake error"));
            Some(Act::Error { status: status.parse().unwrap_or(500), text: text.to_owned() })
        }
        _ => None,
    }
}

/// The newest text of the user, with what came while it was worked on, and how many tool calls were
/// answered since.
fn newest_text(body: &Value) -> (String, usize) {
    let (mut done, mut added) = (0, Vec::new());
    for message in body["messages"].as_array().into_iter().flatten().rev() {
        let texts = texts(&message["content"]);
        for text in texts.iter().rev() {
            added.extend(folded(text).into_iter().rev());
        }
        if message["role"] != "user" {
            continue;
        }
        let own = texts.iter().rev().map(|text| without_reminders(text));
        if let Some(text) = own.map(|text| text.trim().to_owned()).find(|text| !text.is_empty()) {
            added.push(text);
            let texts: Vec<String> = added.iter().rev().map(|text| last_message(text)).collect();
            return (texts.join("\n"), done);
        }
        let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
        done += blocks.iter().filter(|block| block["type"] == "tool_result").count();
    }
    (String::new(), done)
}

/// Whether the conversation begins with its newest text.
fn is_first_text(body: &Value) -> bool {
    let messages = || body["messages"].as_array().into_iter().flatten();
    let users = messages().filter(|message| message["role"] == "user");
    let said = users.flat_map(|message| texts(&message["content"]));
    said.filter(|text| !without_reminders(text).trim().is_empty()).count() == 1
        && messages().all(|message| message["role"] != "assistant")
}

/// The texts of a message.
fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// What the user said while a turn was running, as the CLI puts it into that turn.
fn folded(text: &str) -> Vec<String> {
    let parts = text.split("The user sent a new message while you were working:\n").skip(1);
    parts.map(|part| part.split("\n\n").next().unwrap_or(part).to_owned()).collect()
}

/// Drops what the CLI itself puts beside the user's text.
fn without_reminders(text: &str) -> String {
    let (open, close) = ("<system-reminder>", "</system-reminder>");
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        kept.push_str(before);
        rest = after.split_once(close).map_or("", |(_, after)| after);
    }
    kept + rest
}

/// The content of the last `<message …>…</message>`; `text` itself, where there is none.
fn last_message(text: &str) -> String {
    let Some((before, _)) = text.rsplit_once("</message>") else { return text.to_owned() };
    let Some((_, message)) = before.rsplit_once("<message ") else { return text.to_owned() };
    let content = message.split_once('>').map_or(message, |(_, content)| content);
    let mut plain = content.to_owned();
    for (escaped, c) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(escaped, c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(messages: &Value, expected: &Act) {
        let found = step(&json!({ "messages": messages }), &Rules::default(), &Attempts::default());
        assert_eq!(*expected, found.act);
    }

    fn say(text: &str) -> Act {
        Act::Say(text.to_owned())
    }

    #[test]
    fn text_without_instructions_is_echoed() {
        check(&json!([{ "role": "user", "content": "hello" }]), &say("You said: hello"));
    }

    #[test]
    fn the_last_message_of_a_prompt_counts_unescaped() {
        let prompt = "<messages>\n<message sender=\"A\" time=\"x\">old</message>\n<message \
                      sender=\"B\" time=\"y\">SAY 1 &lt; 2 &amp;amp;</message>\n</messages>";
        check(&json!([{ "role": "user", "content": prompt }]), &say("1 < 2 &amp;"));
    }

    #[test]
    fn a_tool_is_called_once_and_then_the_next_instruction_runs() {
        let program = "TOOL Bash {\"command\":\"true\"}\nSAY a\nSAY b";
        let asked = json!({ "role": "user", "content": [{ "type": "text", "text": program }] });
        let call = Act::Tool { name: "Bash".into(), input: json!({ "command": "true" }) };
        check(&json!([asked]), &call);
        let result = json!({ "role": "user", "content": [{ "type": "tool_result" }] });
        check(&json!([asked, { "role": "assistant", "content": [] }, result]), &say("a\nb"));
    }

    #[test]
    fn what_came_while_a_tool_ran_is_done_too() {
        let added = "The user sent a new message while you were working:\nSAY b\n\nThis is how";
        check(
            &json!([
                { "role": "user", "content": "TOOL Bash {}\nSAY a" },
                { "role": "assistant", "content": [] },
                { "role": "user", "content": [{ "type": "tool_result" }] },
                { "role": "system", "content": [{ "type": "text", "text": added }] },
            ]),
            &say("a\nb"),
        );
    }

    #[test]
    fn a_bounded_error_ends() {
        let body = json!({ "messages": [{ "role": "user", "content": "ERROR*1 529 x\nSAY y" }] });
        let attempts = Attempts::default();
        let error = Act::Error { status: 529, text: "x".to_owned() };
        assert_eq!(error, step(&body, &Rules::default(), &attempts).act);
        assert_eq!(say("y"), step(&body, &Rules::default(), &attempts).act);
    }

    #[test]
    fn reminders_are_no_text_of_the_user() {
        let text = "<system-reminder>SAY no</system-reminder>SAY yes";
        check(&json!([{ "role": "user", "content": text }]), &say("yes"));
    }
}
