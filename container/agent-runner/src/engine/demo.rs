//! An engine without a model: it shows that everything around the model works, and says in each
//! answer that it is a demo.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, select};
use rust_claw_protocol::{ErrorKind, Input, Output, Status, inside};
use serde::{Deserialize, Serialize};

use crate::Failed;
use crate::inbox::{Inbox, Letter};
use crate::limits::UNTAKEN_MAX;
use crate::prompt::last_message;
use crate::report::{Reporter, note};

/// Longest `/sleep`, in seconds.
const SLEEP_SECONDS_MAX: u64 = 3600;
/// Most frames of a `/long`.
const FRAMES_MAX: u32 = 100_000;

/// What the last message asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Echo,
    Sleep(Duration),
    Fail(ErrorKind),
    Long(u32),
    Write { name: String, text: String },
}

/// State of a session, kept beside the sessions of the real engine.
#[derive(Default, Serialize, Deserialize)]
struct Session {
    turns: u64,
}

/// Answers the prompt and then follow-ups, until the inbox closes or a signal comes.
///
/// # Errors
/// See [`Failed`]; a turn that failed has been reported.
pub(crate) fn run(
    input: &Input,
    inbox: Inbox,
    stop: &Receiver<()>,
    reporter: &mut Reporter,
) -> Result<(), Failed> {
    let (id, session) = open(input.session_id.as_deref())?;
    let mut demo = Demo { id, session, inbox, stop, reporter, is_first: true };
    let announced = Output {
        new_session_id: Some(demo.id.clone()),
        turn_end: Some(false),
        ..Output::new(Status::Success)
    };
    demo.reporter.frame(&announced)?;
    demo.turn(vec![input.prompt.clone()], Vec::new())?;
    while let Some(Letter { name, text }) = demo.next()? {
        demo.inbox.taken(&name);
        demo.turn(vec![text], vec![name])?;
    }
    Ok(())
}

struct Demo<'run> {
    id: String,
    session: Session,
    inbox: Inbox,
    stop: &'run Receiver<()>,
    reporter: &'run mut Reporter,
    is_first: bool,
}

impl Demo<'_> {
    /// Waits for the next follow-up; `None` where the run is to end.
    fn next(&mut self) -> Result<Option<Letter>, Failed> {
        loop {
            let mut look = self.inbox.look(1);
            if look.is_closing {
                return Ok(None);
            }
            if let Some(letter) = look.letters.pop() {
                return Ok(Some(letter));
            }
            select! {
                recv(self.stop) -> _ => return Ok(None),
                recv(self.inbox.bell()) -> rung => if rung.is_err() {
                    return Err(Failed::System {
                        doing: "watch the input folder",
                        source: std::io::Error::other("the watcher ended"),
                    });
                },
            }
        }
    }

    /// Answers `texts`, the newest of which may be a command.
    fn turn(&mut self, mut texts: Vec<String>, mut consumed: Vec<String>) -> Result<(), Failed> {
        let asked = last_message(texts.last().map_or("", String::as_str));
        let mut done = None;
        match Command::parse(&asked) {
            Command::Echo => {}
            Command::Sleep(time) => {
                let taken = self.sleep(time, &mut texts)?;
                consumed.extend(taken);
                done = Some(format!("Slept {} s.", time.as_secs()));
            }
            Command::Fail(kind) => return self.fail(kind, "the demo failed, as asked", consumed),
            Command::Long(count) => {
                for n in 1..=count {
                    let part = Output {
                        result: Some(format!("Part {n} of {count}.")),
                        turn_end: Some(false),
                        ..Output::new(Status::Success)
                    };
                    self.reporter.frame(&part)?;
                }
                done = Some(format!("That were {count} parts."));
            }
            Command::Write { name, text } => {
                done = Some(match std::fs::write(Path::new(inside::GROUP).join(&name), text) {
                    Ok(()) => format!("Wrote `{name}`."),
                    Err(error) => format!("Could not write `{name}`: {error}."),
                });
            }
        }
        self.session.turns += 1;
        self.save();
        let echoes = texts.iter().map(|text| format!("You said: {}", last_message(text)));
        let mut lines: Vec<String> = echoes.chain(done).collect();
        lines.push(format!("(Demo engine, no model. Turn {}.)", self.session.turns));
        if std::mem::take(&mut self.is_first) {
            lines.push(
                "(For real answers put ANTHROPIC_API_KEY=… into the home folder's .env.)"
                    .to_owned(),
            );
        }
        let answer = Output {
            result: Some(lines.join("\n")),
            new_session_id: Some(self.id.clone()),
            turn_end: Some(true),
            consumed: Some(consumed),
            ..Output::new(Status::Success)
        };
        self.reporter.frame(&answer)
    }

    /// Lets `time` pass, taking follow-ups into the turn; gives their names.
    fn sleep(&mut self, time: Duration, texts: &mut Vec<String>) -> Result<Vec<String>, Failed> {
        let mut taken = Vec::new();
        let deadline = at(Instant::now() + time);
        loop {
            for letter in self.inbox.look(UNTAKEN_MAX).letters {
                self.inbox.taken(&letter.name);
                taken.push(letter.name);
                texts.push(letter.text);
            }
            select! {
                recv(deadline) -> _ => return Ok(taken),
                recv(self.stop) -> _ => {
                    let failed = self.fail(ErrorKind::Other, "stopped before the end", taken);
                    return failed.map(|()| Vec::new());
                }
                recv(self.inbox.bell()) -> _ => {}
            }
        }
    }

    fn fail(&mut self, kind: ErrorKind, error: &str, consumed: Vec<String>) -> Result<(), Failed> {
        let output = Output {
            new_session_id: Some(self.id.clone()),
            error: Some(error.to_owned()),
            error_kind: Some(kind),
            turn_end: Some(true),
            consumed: Some(consumed),
            ..Output::new(Status::Error)
        };
        self.reporter.frame(&output).and(Err(Failed::Reported))
    }

    fn save(&self) {
        let json = serde_json::to_vec(&self.session).expect("a number always serialises");
        if let Err(error) = std::fs::write(path(&self.id), json) {
            note(format_args!("the demo's count is not kept: {error}"));
        }
    }
}

/// Continues session `id` where it is one of ours, else begins one.
fn open(id: Option<&str>) -> Result<(String, Session), Failed> {
    let is_ours = |id: &&str| {
        id.strip_prefix("demo-")
            .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if let Some(id) = id.filter(is_ours)
        && let Ok(json) = std::fs::read(path(id))
        && let Ok(session) = serde_json::from_slice(&json)
    {
        return Ok((id.to_owned(), session));
    }
    let bytes: [u8; 8] =
        super::random().map_err(|source| Failed::System { doing: "name a session", source })?;
    Ok((format!("demo-{}", super::hex(&bytes)), Session::default()))
}

fn path(id: &str) -> PathBuf {
    Path::new(inside::CLAUDE_CONFIG).join(format!("{id}.json"))
}

impl Command {
    fn parse(text: &str) -> Command {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let command = match word {
            "/sleep" => rest.parse().ok().map(|seconds: u64| {
                Command::Sleep(Duration::from_secs(seconds.min(SLEEP_SECONDS_MAX)))
            }),
            "/fail" => {
                let kind = serde_json::from_value(rest.into()).unwrap_or(ErrorKind::Other);
                Some(Command::Fail(kind))
            }
            "/long" => rest.parse().ok().map(|n: u32| Command::Long(n.min(FRAMES_MAX))),
            "/write" => {
                let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
                is_plain.then(|| Command::Write { name: name.to_owned(), text: text.to_owned() })
            }
            _ => None,
        };
        command.unwrap_or(Command::Echo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_first_word() {
        let check = |text: &str, expected: Command| assert_eq!(expected, Command::parse(text));
        check("/sleep 2", Command::Sleep(Duration::from_secs(2)));
        check(" /sleep 99999 ", Command::Sleep(Duration::from_secs(SLEEP_SECONDS_MAX)));
        check("/fail", Command::Fail(ErrorKind::Other));
        check("/fail rate_limit", Command::Fail(ErrorKind::RateLimit));
        check("/long 3", Command::Long(3));
        check("/write a.txt b c", Command::Write { name: "a.txt".into(), text: "b c".into() });
        for text in ["", "/sleep", "/sleep x", "/write ../x y", "/write", "please /fail", "/env"] {
            check(text, Command::Echo);
        }
    }
}
