//! The script channel: any program can be a chat. `inject` brings messages in, `outbox` brings
//! answers out.

use std::io::BufReader;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use serde::Deserialize;

use super::{Error, input, out};
use crate::channel::{self, Channel, Ended, SendError, Sent};
use crate::doorbell::{Doorbell, News};
use crate::home::Home;
use crate::ids::{ChannelKind, ChatJid, OutboxId, UnixMs};
use crate::limits::{INJECT_LINE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::store::{Accepted, NewMessage, OutboxRow, Store};

/// Bring in messages of script: chats, one JSON object a line on standard input.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "inject",
    note = "Each line: {{\"chat_jid\":\"script:NAME\",\"sender\":\"…\",\"sender_name\":\"…\",\"text\":\"…\",\n\
            \"id\":\"…\" (optional; a repeated id is taken once),\"sent_at_ms\":N,\"is_from_me\":bool}}"
)]
pub(super) struct InjectCommand {}

/// One line of `inject`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    chat_jid: String,
    id: Option<String>,
    sender: String,
    sender_name: String,
    text: String,
    sent_at_ms: Option<i64>,
    #[serde(default)]
    is_from_me: bool,
}

/// Messages that one transaction takes in.
const BATCH_MAX: usize = 1000;

/// Brings in the lines of standard input. Exit code 1 where a line was refused; the others are in.
///
/// # Errors
/// The database; standard input.
pub(super) fn inject(home: &Home) -> Result<ExitCode, Error> {
    let settings = super::settings(home)?;
    let mut store = super::store_with_main(home)?;
    let mut stdin = BufReader::with_capacity(1 << 20, std::io::stdin().lock());
    let mut batch: Vec<(u64, NewMessage)> = Vec::new();
    let (mut number, mut new, mut known, mut dropped, mut refused) = (0_u64, 0, 0, 0, 0);
    let mut ends = false;
    while !ends {
        match input::next_line(&mut stdin, INJECT_LINE_BYTES_MAX)? {
            Some(line) => {
                number += 1;
                match line.and_then(|line| parse(&line)) {
                    Ok(None) => {}
                    Ok(Some(message)) => batch.push((number, message)),
                    Err(why) => {
                        refused += 1;
                        out::complain(&format!("line {number}: {why}"));
                    }
                }
            }
            None => ends = true,
        }
        // What has come is committed before we wait for more.
        let is_full = BATCH_MAX <= batch.len() || !stdin.buffer().contains(&b'\n');
        if (ends || is_full) && !batch.is_empty() {
            let (numbers, messages): (Vec<u64>, Vec<NewMessage>) = batch.drain(..).unzip();
            let accepted = store.accept(&messages, &settings.assistant_name, UnixMs::now())?;
            Doorbell::tell(home, &[News::Message]);
            for ((number, message), accepted) in numbers.iter().zip(&messages).zip(accepted) {
                match accepted {
                    Accepted::New { .. } => new += 1,
                    Accepted::Duplicate => known += 1,
                    Accepted::SenderDropped => dropped += 1,
                    Accepted::Malformed => {
                        refused += 1;
                        out::complain(&format!("line {number}: the database refuses it"));
                    }
                    Accepted::Empty => {
                        refused += 1;
                        out::complain(&format!("line {number}: field `text`: it is empty"));
                    }
                    Accepted::NotRegistered => {
                        refused += 1;
                        out::complain(&format!(
                            "line {number}: field `chat_jid`: `{0}` is not served; \
                             `rust-claw register-group --jid {0} --name NAME --folder FOLDER` serves it",
                            message.chat
                        ));
                    }
                }
            }
        }
    }
    out::line(&format!(
        "accepted={new} already_there={known} dropped={dropped} refused={refused}"
    ))?;
    Ok(ExitCode::from(u8::from(refused > 0)))
}

/// A message of a line; `None` for an empty one.
fn parse(line: &[u8]) -> Result<Option<NewMessage>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line =
        serde_json::from_slice(line).map_err(|error| format!("not usable: {error}"))?;
    let chat =
        ChatJid::new(&line.chat_jid).map_err(|error| format!("field `chat_jid`: {error}"))?;
    if chat.channel() != ChannelKind::Script {
        return Err(format!("field `chat_jid`: `{chat}` does not start with `script:`"));
    }
    for (field, text) in [
        ("id", line.id.as_deref()),
        ("sender", Some(&*line.sender)),
        ("sender_name", Some(&*line.sender_name)),
    ] {
        let bytes = text.map_or(1, str::len);
        if !(1..=255).contains(&bytes) {
            return Err(format!("field `{field}`: {bytes} bytes; 1 to 255 are allowed"));
        }
    }
    let bytes = line.text.len();
    if MESSAGE_BYTES_MAX < bytes {
        return Err(format!("field `text`: {bytes} bytes; up to {MESSAGE_BYTES_MAX} are allowed"));
    }
    let now = UnixMs::now();
    if line.sent_at_ms.is_some_and(|ms| !(0..=now.0 + DAY_MS).contains(&ms)) {
        return Err("field `sent_at_ms`: not a time in Unix milliseconds up to tomorrow".to_owned());
    }
    Ok(Some(NewMessage {
        chat,
        id: line.id.unwrap_or_else(|| format!("script-{now}-{}", crate::store::random_hex::<8>())),
        sender: line.sender,
        sender_alt: None,
        sender_name: line.sender_name,
        text: line.text,
        sent_at: line.sent_at_ms.map_or(now, UnixMs),
        is_from_assistant: line.is_from_me,
        mentions_assistant: false,
        chat_name: None,
        is_group: true,
        history: false,
    }))
}

/// Clocks of two machines differ; by more than this, one of them is wrong.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Print what is to be sent in script: chats, oldest first.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "outbox")]
pub(super) struct OutboxCommand {
    /// go on as further answers come
    #[argh(switch)]
    follow: bool,
    /// one JSON object a line: id, jid, text, kind, message_id, created_at_ms
    #[argh(switch)]
    json: bool,
    /// whose answers: script (default), local or whatsapp
    #[argh(option, default = "\"script\".to_owned()")]
    channel: String,
    /// mark as sent what was printed; only for script and local
    #[argh(switch)]
    ack: bool,
}

impl OutboxCommand {
    /// # Errors
    /// An unknown channel; the database; an output that cannot be written.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let kind = match self.channel.as_str() {
            "script" => ChannelKind::Script,
            "local" => ChannelKind::Local,
            "whatsapp" => ChannelKind::Whatsapp,
            other => {
                return Err(Error::Refused(format!(
                    "--channel: `{other}` is no channel; allowed: script, local, whatsapp"
                )));
            }
        };
        if self.ack && kind == ChannelKind::Whatsapp {
            return Err(Error::Refused(
                "--ack: WhatsApp's answers are sent by the daemon; leave out --ack to look at them"
                    .to_owned(),
            ));
        }
        let mut store = super::store(home)?;
        let bell = Doorbell::new(home)?;
        if !self.ack {
            return self.look(&store, &bell, kind);
        }
        let mut printer = Printer { kind, json: self.json };
        match channel::deliver(&mut store, &bell, &mut printer, self.follow, &|| true)? {
            Ended::Done => Ok(()),
            Ended::Down { why } => Err(Error::Output(std::io::Error::other(why))),
        }
    }

    fn look(&self, store: &Store, bell: &Doorbell, kind: ChannelKind) -> Result<(), Error> {
        let mut last = OutboxId::default();
        loop {
            let rows = store.pending_outbox(kind, last, 256)?;
            for row in &rows {
                last = row.id;
                print(row, self.json)?;
            }
            if rows.is_empty() {
                if !self.follow {
                    return Ok(());
                }
                bell.wait(crate::limits::POLL_INTERVAL);
            }
        }
    }
}

/// Delivers by printing: whoever reads our output is the other side.
struct Printer {
    kind: ChannelKind,
    json: bool,
}

impl Channel for Printer {
    fn kind(&self) -> ChannelKind {
        self.kind
    }

    fn send(&mut self, row: &OutboxRow) -> Result<Sent, SendError> {
        let printed = print(row, self.json).map(|()| Sent::Yes);
        printed.map_err(|error| SendError::Down { why: crate::chain(&error) })
    }
}

fn print(row: &OutboxRow, json: bool) -> Result<(), Error> {
    if json {
        return out::json(&serde_json::json!({
            "id": row.id.0, "jid": row.jid.as_str(), "text": row.text, "kind": row.kind.as_str(),
            "message_id": row.channel_message_id, "created_at_ms": row.created_at.0,
        }));
    }
    out::line(&format!("{}: {}", row.jid, out::harmless(&row.text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let found = match parse(line.as_bytes()) {
            Ok(message) => format!("{:?}", message.map(|message| message.text)),
            Err(why) => why,
        };
        assert!(found.starts_with(expected), "{line}\n  found: {found}\n  expected: {expected}");
    }

    #[test]
    fn h19_a_line_is_a_message_or_says_what_is_wrong() {
        let with = |more: &str| {
            format!(r#"{{"chat_jid":"script:a","sender":"b","sender_name":"B","text":"c"{more}}}"#)
        };
        check(&with(""), "Some(\"c\")");
        check("  ", "None");
        check(&with(r#","id":"1","sent_at_ms":5,"is_from_me":true"#), "Some(\"c\")");
        check(&with(r#","id":"""#), "field `id`: 0 bytes");
        check(&with(r#","sent_at_ms":-1"#), "field `sent_at_ms`");
        check(&with(r#","sent_at_ms":99999999999999"#), "field `sent_at_ms`");
        check(&with(r#","more":1"#), "not usable: unknown field `more`");
        check(
            &with("").replace("script:a", "local:main"),
            "field `chat_jid`: `local:main` does not",
        );
        check(&with("").replace("script:a", "x"), "field `chat_jid`: chat `x` is not allowed");
        let text = |bytes: usize| with("").replace("\"c\"", &format!("\"{}\"", "c".repeat(bytes)));
        check(&text(MESSAGE_BYTES_MAX), "Some(\"ccc");
        check(&text(MESSAGE_BYTES_MAX + 1), "field `text`: 65537 bytes; up to 65536 are allowed");
        check("[]", "not usable");
        check("{", "not usable");
    }
}
