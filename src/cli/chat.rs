//! `chat`: a conversation at the terminal, with line editing and history. Where no person types,
//! each line of standard input is a message and the answers come in order.

use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};

use super::talk::{Standing, Talk};
use super::{Error, input, out};
use crate::daemon::{Duty, Fatal};
use crate::home::Home;
use crate::ids::{RunId, Seq, UnixMs};
use crate::limits::MESSAGE_BYTES_MAX;

/// Talk to the assistant in the terminal; serves the home folder meanwhile if no daemon does.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "chat")]
pub(super) struct ChatCommand {
    /// the group to talk to (default: main)
    #[argh(option, arg_name = "folder")]
    group: Option<String>,
}

impl ChatCommand {
    /// # Errors
    /// A group, home folder, database or setting that cannot be used.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut talk = Talk::open(home, self.group.as_deref(), Duty::All)?;
        out::say(&format!("rust-claw {} · {}", env!("CARGO_PKG_VERSION"), talk.banner(home)));
        let talked = if out::is_interactive() { typed(&mut talk, home) } else { piped(&mut talk) };
        if talk.is_serving() && talked.is_ok() {
            out::say("closing …");
        }
        let closed = talk.close();
        talked.and(closed)
    }
}

/// What comes from the person's side.
enum Typed {
    Line(String),
    End,
}

/// A line of a pipe, or why it is none; an error is the last.
type Piped = Result<Result<Vec<u8>, String>, Error>;

/// A message that waits for its answer.
struct Open {
    seq: Seq,
    since: UnixMs,
}

/// What has been said about the work on the answers, so that it is said once.
#[derive(Default)]
struct Said {
    working: Option<RunId>,
    failed: Option<String>,
    no_engine: Option<String>,
}

fn typed(talk: &mut Talk, home: &Home) -> Result<(), Error> {
    out::say("Write a message and press Enter; Ctrl-D or Ctrl-C leaves.");
    let terminal =
        |error: ReadlineError| Error::Refused(format!("cannot use the terminal: {error}"));
    let mut editor = DefaultEditor::new().map_err(terminal)?;
    let history = home.chat_history();
    if let Err(error) = editor.load_history(&history) {
        log::debug!("no history: {error}");
    }
    let mut printer = editor.create_external_printer().map_err(terminal)?;
    let mut show = |text: &str| {
        printer
            .print(format!("{text}\n"))
            .map_err(|error| Error::Output(std::io::Error::other(error)))
    };

    let (to, lines) = bounded::<Typed>(1);
    let bell = talk.bell.waker();
    // Ends with the program: nothing can wake it from reading the terminal.
    let thread = std::thread::Builder::new().name("terminal".to_owned());
    let started = thread.spawn(move || {
        loop {
            let line = match editor.readline("you> ") {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => {
                    if editor.add_history_entry(&line).is_ok()
                        && let Err(error) = editor.append_history(&history)
                    {
                        log::debug!("history not kept: {error}");
                    }
                    Typed::Line(line)
                }
                Err(_) => Typed::End,
            };
            let ends = matches!(line, Typed::End);
            if to.send(line).is_err() {
                return;
            }
            bell.wake();
            if ends {
                return;
            }
        }
    });
    started.map_err(not_started)?;
    converse(talk, &lines, &mut show)
}

fn piped(talk: &mut Talk) -> Result<(), Error> {
    let (to, lines) = bounded(1);
    // Ends with the program too.
    let thread = std::thread::Builder::new().name("input".to_owned());
    let started = thread.spawn(move || {
        let mut stdin = std::io::stdin().lock();
        while let Some(line) = input::next_line(&mut stdin, MESSAGE_BYTES_MAX).transpose() {
            let is_last = line.is_err();
            if to.send(line).is_err() || is_last {
                return;
            }
        }
    });
    started.map_err(not_started)?;
    converse_in_turn(talk, &lines)
}

fn not_started(source: std::io::Error) -> Error {
    Error::Fatal(Fatal::System { doing: "start a thread", source })
}

/// A person at the terminal: messages go in as they come, answers are shown as they come.
fn converse(
    talk: &mut Talk,
    lines: &Receiver<Typed>,
    show: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let name = talk.assistant().to_owned();
    let mut said = Said::default();
    let mut open: Option<Open> = None;
    for row in talk.missed()? {
        show(&format!("{name}> {}", out::harmless(&row.text)))?;
        talk.shown(&row)?;
    }
    loop {
        match lines.try_recv() {
            Ok(Typed::Line(text)) => {
                let since = UnixMs::now();
                match talk.send(&text) {
                    Ok(seq) => open = Some(Open { seq, since }),
                    Err(Error::Refused(why)) => show(&format!("· {why}"))?,
                    Err(error) => return Err(error),
                }
                continue;
            }
            Ok(Typed::End) => return Ok(()),
            Err(_) => {}
        }
        if let Some(Open { seq, since }) = open {
            let standing = talk.standing(seq, since)?;
            tell(&standing, talk, &name, &mut said, show)?;
            if matches!(standing, Standing::Answered) {
                (open, said) = (None, Said::default());
            }
        }
        for row in talk.news()? {
            show(&format!("{name}> {}", out::harmless(&row.text)))?;
            talk.shown(&row)?;
        }
        talk.wait(LOOK_INTERVAL)?;
    }
}

/// A sign that somebody works, or why nobody does; each once.
fn tell(
    standing: &Standing,
    talk: &Talk,
    name: &str,
    said: &mut Said,
    show: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    match standing {
        Standing::Answered => {}
        Standing::Waiting => {
            let run = talk.working()?.map(|run| run.id);
            if run.is_some() && said.working != run {
                said.working = run;
                show(&format!("· {name} is working …"))?;
            }
        }
        Standing::Failed(error) => {
            if said.failed.as_ref() != Some(error) {
                said.failed = Some(error.clone());
                show(&format!("· the agent failed: {}; trying again", out::harmless(error)))?;
            }
        }
        Standing::NoEngine(why, mend) => {
            if said.no_engine.as_ref() != Some(why) {
                said.no_engine = Some(why.clone());
                show(&format!("· no sandbox to run in: {why}; {mend}"))?;
            }
        }
    }
    Ok(())
}

/// Lines of a pipe: each is answered before the next is sent.
fn converse_in_turn(talk: &mut Talk, lines: &Receiver<Piped>) -> Result<(), Error> {
    let (mut number, mut refused) = (0_u64, 0);
    loop {
        let line = match lines.recv_timeout(LOOK_INTERVAL) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                talk.check_signals()?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        number += 1;
        let text = match line? {
            Ok(line) => String::from_utf8(line).map_err(|_| {
                Error::Refused(format!("line {number} of standard input is not UTF-8"))
            })?,
            Err(why) => {
                refused += 1;
                out::complain(&format!("line {number} of standard input: {why}; not sent"));
                continue;
            }
        };
        if text.trim().is_empty() {
            continue;
        }
        let since = UnixMs::now();
        let seq = talk.send(text.trim_end_matches('\r'))?;
        loop {
            let standing = talk.standing(seq, since)?;
            for row in talk.news()? {
                out::line(&out::harmless(&row.text))?;
                talk.shown(&row)?;
            }
            match standing {
                Standing::Answered => break,
                Standing::Waiting => {}
                Standing::Failed(error) => {
                    talk.withdraw(seq)?;
                    return Err(Error::Refused(format!("the agent failed: {error}")));
                }
                Standing::NoEngine(why, mend) => {
                    talk.withdraw(seq)?;
                    return Err(Error::TryAgain(format!("no sandbox to run in: {why}; {mend}")));
                }
            }
            talk.wait(LOOK_INTERVAL)?;
        }
    }
    match refused {
        0 => Ok(()),
        count => Err(Error::Refused(format!("lines that were not sent: {count}"))),
    }
}

/// A look at the database where no bell rang.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
