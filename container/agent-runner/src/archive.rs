//! Keeps a readable copy of a conversation before the CLI compacts it: its hook `PreCompact` runs
//! this program, which writes `conversations/{date}-{slug}.md` into the group's folder.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rust_claw_protocol::inside;
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{ARCHIVE_BYTES_MAX, INPUT_BYTES_MAX, TRANSCRIPT_BYTES_MAX};
use crate::prompt;

/// Variable with the name that the assistant goes by.
pub(crate) const ASSISTANT_NAME: &str = "CLAW_ASSISTANT_NAME";
/// Of one message, in characters; the archive is for reading, not for restoring.
const MESSAGE_CHARS_MAX: usize = 2000;
/// Of the slug, in characters.
const SLUG_CHARS_MAX: usize = 50;
/// Archives of one day with the same slug.
const SAME_NAME_MAX: u32 = 1000;

/// What the CLI tells its hook. Source: its documentation of hooks.
#[derive(Deserialize)]
struct Hook {
    transcript_path: String,
}

/// A line of a transcript, as far as we read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subtype: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    is_sidechain: bool,
    #[serde(default)]
    is_meta: bool,
    #[serde(default)]
    is_compact_summary: bool,
    #[serde(default)]
    message: Option<Spoken>,
    #[serde(default)]
    attachment: Option<Attachment>,
}

#[derive(Deserialize)]
struct Spoken {
    content: Value,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    prompt: Value,
}

/// What was said since the last compaction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    entries: VecDeque<String>,
    bytes: usize,
    is_cut: bool,
    /// First words of the person.
    topic: Option<String>,
    /// Day of the last entry, `YYYY-MM-DD` in UTC.
    day: Option<String>,
}

/// Archives the conversation that the CLI's hook names; nothing said, nothing written.
///
/// # Errors
/// The hook's text or the transcript cannot be read, or the archive cannot be written.
pub(crate) fn from_hook(hook: impl Read) -> io::Result<()> {
    let hook: Hook = serde_json::from_reader(hook.take(INPUT_BYTES_MAX))?;
    let name = std::env::var(ASSISTANT_NAME).unwrap_or_else(|_| "Assistant".to_owned());
    let mut transcript = File::open(hook.transcript_path)?;
    let length = transcript.metadata()?.len();
    transcript.seek(SeekFrom::Start(length.saturating_sub(TRANSCRIPT_BYTES_MAX)))?;
    let conversation = Conversation::read(transcript.take(TRANSCRIPT_BYTES_MAX), &name)?;
    if conversation.entries.is_empty() {
        return Ok(());
    }
    let folder = Path::new(inside::GROUP).join("conversations");
    std::fs::create_dir_all(&folder)?;
    create(&folder, &conversation.name())?.write_all(conversation.markdown().as_bytes())
}

/// Creates `{name}.md` or, where that is taken, `{name}-2.md` and so on.
fn create(folder: &Path, name: &str) -> io::Result<File> {
    for n in 1..SAME_NAME_MAX {
        let name = if n == 1 { format!("{name}.md") } else { format!("{name}-{n}.md") };
        match File::create_new(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl Conversation {
    fn read(transcript: impl Read, assistant_name: &str) -> io::Result<Conversation> {
        let mut conversation = Conversation::default();
        let mut reader = BufReader::new(transcript);
        let mut line = Vec::new();
        while 0 < reader.read_until(b'\n', &mut line)? {
            // What is no line of a known shape is none of the conversation.
            if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                conversation.add(line, assistant_name);
            }
            line.clear();
        }
        Ok(conversation)
    }

    fn add(&mut self, line: Line, assistant_name: &str) {
        if line.subtype.as_deref() == Some("compact_boundary") {
            // What came before has an archive of its own.
            *self = Conversation::default();
            return;
        }
        if line.is_sidechain || line.is_meta || line.is_compact_summary {
            return;
        }
        let text = match (line.kind.as_str(), &line.message, &line.attachment) {
            ("user" | "assistant", Some(message), _) => text(&message.content),
            // A message that came while a turn was running.
            ("attachment", _, Some(attachment)) if attachment.kind == "queued_command" => {
                text(&attachment.prompt)
            }
            _ => return,
        };
        let text = text.trim();
        if text.is_empty() || text.starts_with("<command-name>") {
            return;
        }
        self.day = line.timestamp.and_then(|time| time.get(..10).map(str::to_owned));
        if line.kind == "assistant" {
            return self.push(assistant_name, text);
        }
        self.topic.get_or_insert_with(|| prompt::last_message(text));
        let messages = prompt::messages(text);
        if messages.is_empty() {
            self.push("User", text);
        }
        for message in messages {
            self.push(&message.sender, &message.text);
        }
    }

    fn push(&mut self, who: &str, text: &str) {
        let short: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        let entry = format!("**{who}**: {short}{more}\n\n");
        self.bytes += entry.len();
        self.entries.push_back(entry);
        while ARCHIVE_BYTES_MAX < self.bytes
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.len();
            self.is_cut = true;
        }
    }

    fn name(&self) -> String {
        let mut slug = String::new();
        for c in self.topic.as_deref().unwrap_or_default().chars() {
            if SLUG_CHARS_MAX <= slug.chars().count() {
                break;
            }
            if c.is_alphanumeric() {
                slug.extend(c.to_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug = slug.trim_end_matches('-');
        let slug = if slug.is_empty() { "conversation" } else { slug };
        // The day comes from a file that the agent can write: it must not name a path.
        match self.day.as_deref().filter(|day| day.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        {
            Some(day) => format!("{day}-{slug}"),
            None => slug.to_owned(),
        }
    }

    fn markdown(&self) -> String {
        let day = self.day.as_deref().unwrap_or("unknown");
        let mut text =
            format!("# Conversation\n\nArchived before compaction, {day} (UTC).\n\n---\n\n");
        if self.is_cut {
            text.push_str("(The earlier part is left out.)\n\n");
        }
        text.extend(self.entries.iter().map(String::as_str));
        text
    }
}

/// The text of a message's content: all of it, or its text blocks.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter(|block| block["type"] == "text");
            texts.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(transcript: &str, name: &str, expected: &[&str]) -> Conversation {
        let conversation = Conversation::read(transcript.as_bytes(), "Andy").expect("reads");
        assert_eq!(name, conversation.name());
        let entries: Vec<&str> =
            conversation.entries.iter().map(|entry| entry.trim_end()).collect();
        assert_eq!(expected, entries);
        conversation
    }

    #[test]
    fn people_and_the_assistant_are_kept_and_the_machinery_is_not() {
        let transcript = concat!(
            r#"{"type":"queue-operation","content":"x"}"#,
            "\n",
            r#"{"type":"user","message":{"content":"<message sender=\"Bob\" time=\"1\">Plan a trip &amp; go!</message>"},"timestamp":"2026-02-19T10:00:00Z"}"#,
            "\n",
            r#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Sure."},{"type":"tool_use","name":"Bash"}]},"timestamp":"2026-02-19T10:00:01Z"}"#,
            "\n",
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"secret output"}]}}"#,
            "\n",
            r#"{"type":"attachment","attachment":{"type":"queued_command","prompt":"by train"},"timestamp":"2026-02-19T10:00:02Z"}"#,
            "\n",
            r#"{"type":"user","isMeta":true,"message":{"content":"caveat"}}"#,
            "\n",
            r#"{"type":"user","isSidechain":true,"message":{"content":"to a subagent"}}"#,
            "\n",
            "garbage\n",
        );
        let expected = ["**Bob**: Plan a trip & go!", "**Andy**: Sure.", "**User**: by train"];
        let conversation = check(transcript, "2026-02-19-plan-a-trip-go", &expected);
        assert!(conversation.markdown().starts_with("# Conversation\n\nArchived before"));
    }

    #[test]
    fn what_an_earlier_archive_holds_is_not_kept_again() {
        let transcript = concat!(
            r#"{"type":"user","message":{"content":"old"}}"#,
            "\n",
            r#"{"type":"system","subtype":"compact_boundary","content":"x"}"#,
            "\n",
            r#"{"type":"user","isCompactSummary":true,"message":{"content":"summary"}}"#,
            "\n",
            r#"{"type":"user","message":{"content":"new"},"timestamp":"../../../etc/x"}"#,
            "\n",
        );
        check(transcript, "new", &["**User**: new"]);
    }

    #[test]
    fn long_texts_are_cut_and_the_oldest_make_room() {
        let line = |c: char| {
            let content = c.to_string().repeat(3000);
            format!("{{\"type\":\"user\",\"message\":{{\"content\":\"{content}\"}}}}\n")
        };
        let transcript: String = ('a'..='z').cycle().take(1000).map(line).collect();
        let conversation = Conversation::read(transcript.as_bytes(), "Andy").expect("reads");
        assert!(conversation.bytes <= ARCHIVE_BYTES_MAX);
        assert!(conversation.is_cut && conversation.markdown().contains("left out"));
        assert!(conversation.entries.iter().all(|entry| entry.chars().count() < 2100));
    }

    #[test]
    fn a_letter_that_becomes_two_does_not_lead_past_the_end_of_a_name() {
        let topic = format!("{}İ{}", "a".repeat(49), "b".repeat(100));
        let conversation = Conversation { topic: Some(topic), ..Conversation::default() };
        assert_eq!(format!("{}i\u{307}", "a".repeat(49)), conversation.name());
    }

    #[test]
    fn a_second_archive_of_the_same_name_does_not_replace_the_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..3 {
            create(folder.path(), "2026-02-19-trip").expect("creates");
        }
        assert!(folder.path().join("2026-02-19-trip-3.md").exists());
    }
}
