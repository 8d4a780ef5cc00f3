//! The Claude Code CLI as an engine, fed and read in its `stream-json` format.
//!
//! [`conversation`] decides, knowing neither processes nor files; this loop is the only one that
//! does what it says. One CLI serves all turns of a run.

mod command;
mod conversation;
mod event;
mod failure;
mod ledger;
mod process;

use std::io;
use std::path::Path;
use std::time::Instant;

use crossbeam_channel::{Receiver, at, never, select_biased};
use rust_claw_protocol::{Input, inside};

use crate::Failed;
use crate::inbox::Inbox;
use crate::limits::DRAIN_MAX;
use crate::relay;
use crate::report::Reporter;

use command::Setup;
use conversation::{Conversation, Effect, Happening, Message};
use ledger::Spent;
use process::{Cli, FromCli};

/// Answers the prompt and then follow-ups, until the inbox closes or a signal comes.
///
/// # Errors
/// See [`Failed`]; a turn that failed has been reported.
pub(crate) fn run(
    input: Input,
    inbox: Inbox,
    stop: &Receiver<()>,
    reporter: &mut Reporter,
) -> Result<(), Failed> {
    let proxy = relay::start(Path::new(inside::PROXY_SOCKET))?;
    let setup = Setup::of(&input, proxy);
    let secrets = setup.secrets();
    let prompt = Message::new(input.prompt, None, unique()?);
    let (conversation, effects) =
        Conversation::begin(prompt, input.session_id.filter(|id| command::is_session(id)), secrets);
    let mut engine = Engine { setup, conversation, inbox, cli: None, drained_at: None, reporter };
    engine.perform(effects)?;
    engine.drive(stop)
}

struct Engine<'run> {
    setup: Setup,
    conversation: Conversation,
    inbox: Inbox,
    cli: Option<Cli>,
    /// When the pipes of a CLI that has exited are given up.
    drained_at: Option<Instant>,
    reporter: &'run mut Reporter,
}

/// How the conversation ended.
enum Over {
    Well,
    Badly,
}

impl Engine<'_> {
    fn drive(&mut self, stop: &Receiver<()>) -> Result<(), Failed> {
        let (quiet, alive) = (never(), never());
        let mut over = self.look()?;
        while over.is_none() {
            let timer = self.conversation.due().map_or_else(never, at);
            let drained = self.drained_at.map_or_else(never, at);
            let cli = self.cli.as_ref();
            let said = cli.map_or(&quiet, |cli| &cli.said);
            let exited = cli.filter(|_| self.drained_at.is_none());
            let exited = exited.map_or(&alive, |cli| &cli.exited);
            // Biased: a stop must not wait behind a chatty CLI.
            over = select_biased! {
                recv(stop) -> _ => self.happened(Happening::Stop)?,
                recv(said) -> line => match line {
                    Ok(FromCli::Said(event)) => self.happened(Happening::Said(event))?,
                    Ok(FromCli::Silent) | Err(_) => self.ended()?,
                },
                // Its last words may still be in the pipe.
                recv(exited) -> _ => {
                    self.drained_at = Some(Instant::now() + DRAIN_MAX);
                    None
                }
                recv(drained) -> _ => self.ended()?,
                recv(timer) -> _ => self.happened(Happening::Due)?,
                recv(self.inbox.bell()) -> _ => self.look()?,
            };
        }
        match over {
            Some(Over::Badly) => Err(Failed::Reported),
            Some(Over::Well) | None => Ok(()),
        }
    }

    /// Hands over follow-ups, as many as the CLI may be given.
    fn look(&mut self) -> Result<Option<Over>, Failed> {
        let look = self.inbox.look(self.conversation.room());
        if look.is_closing {
            return self.happened(Happening::Closing);
        }
        if look.letters.is_empty() {
            return Ok(None);
        }
        let messages: Result<Vec<Message>, Failed> = look
            .letters
            .into_iter()
            .map(|letter| Ok(Message::new(letter.text, Some(letter.name), unique()?)))
            .collect();
        self.happened(Happening::Arrived(messages?))
    }

    fn happened(&mut self, happening: Happening) -> Result<Option<Over>, Failed> {
        let effects = self.conversation.step(Instant::now(), happening);
        self.perform(effects)
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<Option<Over>, Failed> {
        for effect in effects {
            match effect {
                Effect::Start { resume } => self.start(resume.as_deref())?,
                Effect::Write(message) => self.tell(|cli| cli.write(&message)),
                Effect::Interrupt => self.tell(Cli::interrupt),
                Effect::EndInput => self.tell(Cli::end_input),
                Effect::Kill => self.cli = None,
                Effect::Taken(name) => self.inbox.taken(&name),
                Effect::Report(output) => self.reporter.frame(&output)?,
                Effect::Finish { is_well } => {
                    return Ok(Some(if is_well { Over::Well } else { Over::Badly }));
                }
            }
        }
        Ok(None)
    }

    fn tell(&mut self, what: impl FnOnce(&mut Cli)) {
        // One that has gone has said so, or is about to.
        if let Some(cli) = &mut self.cli {
            what(cli);
        }
    }

    /// Starts the CLI in place of the one that runs.
    fn start(&mut self, resume: Option<&str>) -> Result<(), Failed> {
        self.cli = None;
        self.drained_at = None;
        let command = self.setup.command(resume);
        self.cli = Some(Cli::spawn(command).map_err(|source| Failed::System {
            doing: "start the Claude Code CLI (`claude`)",
            source,
        })?);
        // While it starts.
        let spent =
            resume.map_or_else(Spent::default, |id| Spent::of_session(&command::transcript(id)));
        self.conversation.started(spent);
        Ok(())
    }

    /// Ends what is left of a CLI that has ended.
    fn ended(&mut self) -> Result<Option<Over>, Failed> {
        let has_exited = self.drained_at.take().is_some();
        let how = self.cli.take().map(|cli| cli.finish(has_exited)).unwrap_or_default();
        self.happened(Happening::Ended { how })
    }
}

/// A UUID (version 4) for a message, by which the CLI says that it took it.
fn unique() -> Result<String, Failed> {
    let failed = |source: io::Error| Failed::System { doing: "name a message", source };
    let mut bytes: [u8; 16] = super::random().map_err(failed)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = super::hex(&bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}
