//! `setup`: from nothing to a first answer, step by step. Each step looks first what is there
//! already, so it can be run again at any time, and says how to undo what it did.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::ask::AskCommand;
use super::{Error, out};
use crate::agent;
#[cfg(feature = "whatsapp")]
use crate::channel::{WHATSAPP_STATE_KEY, linked_number};
use crate::config::{self, AgentEngine, Settings, VARIABLES};
use crate::credentials::{Credential, Secret};
use crate::doctor::{self, Kind, Verdict, key_command, own_command};
use crate::home::Home;
use crate::sandbox::{Engine, Finding, RuntimeChoice, RuntimeKind, keeper};

/// Set everything up, step by step: sandbox, image, key, zone, name, whatsapp, message. Safe to
/// run again: what is there already stays.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "setup",
    example = "rust-claw setup\nrust-claw setup --yes\nrust-claw setup key < file-with-the-key"
)]
pub(super) struct SetupCommand {
    /// ask nothing: take what is there, else the default
    #[argh(switch)]
    yes: bool,
    /// take a setting out of .env again, and do nothing else
    #[argh(option, arg_name = "setting")]
    unset: Option<String>,
    /// just these steps
    #[argh(positional, arg_name = "step")]
    steps: Vec<String>,
}

/// What a step did.
struct Done {
    says: String,
    /// The command that takes it back.
    undo: Option<String>,
    /// What is left to be done by the person.
    next: Option<String>,
}

impl Done {
    fn says(says: impl Into<String>) -> Done {
        Done { says: says.into(), undo: None, next: None }
    }

    fn undo(self, undo: String) -> Done {
        Done { undo: Some(undo), ..self }
    }

    fn next(self, next: impl Into<String>) -> Done {
        Done { next: Some(next.into()), ..self }
    }
}

type Step = fn(&Setup<'_>) -> Result<Done, Error>;

const STEPS: [(&str, Step); 7] = [
    ("sandbox", sandbox),
    ("image", image),
    ("key", key),
    ("zone", zone),
    ("name", name),
    ("whatsapp", whatsapp),
    ("message", message),
];

struct Setup<'a> {
    home: &'a Home,
    /// Whether a person at a terminal answers questions.
    asks: bool,
    /// Whether steps were named: then each is done anew, and what it needs is read from standard
    /// input where nobody sits at a terminal.
    is_named: bool,
}

impl SetupCommand {
    /// # Errors
    /// The first step that cannot be done; those before it stay done.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let known = |name: &&String| STEPS.iter().any(|(step, _)| step == name);
        if let Some(unknown) = self.steps.iter().find(|name| !known(name)) {
            let steps: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
            return Err(Error::Refused(format!(
                "no step `{}`; allowed: {}",
                out::harmless(unknown),
                steps.join(", ")
            )));
        }
        if let Some(setting) = self.unset {
            return unset(home, &setting);
        }
        home.create()?;
        drop(super::store_with_main(home)?);
        let is_named = !self.steps.is_empty();
        // What was asked for by name is asked for also where only the output is not a terminal.
        let can_ask = std::io::stdin().is_terminal() && (is_named || out::is_interactive());
        let setup = Setup { home, asks: !self.yes && can_ask, is_named };
        if !is_named {
            out::line(&format!("home       {}", out::path(home.root())))?;
        }
        let chosen = STEPS
            .iter()
            .filter(|(name, _)| !is_named || self.steps.iter().any(|step| step == name));
        for (name, step) in chosen {
            let done = step(&setup)?;
            out::line(&format!("{name:<10} {}", out::harmless(&done.says).replace('\n', " ")))?;
            if let Some(undo) = done.undo {
                out::line(&format!("           to undo it: {undo}"))?;
            }
            if let Some(next) = done.next {
                out::line(&format!("           next: {next}"))?;
            }
        }
        Ok(())
    }
}

fn unset(home: &Home, setting: &str) -> Result<(), Error> {
    let Some(variable) = VARIABLES.iter().find(|variable| variable.name == setting) else {
        return Err(Error::Refused(format!(
            "no setting `{}`; README lists them",
            out::harmless(setting)
        )));
    };
    config::set(home, variable.name, None)?;
    let says = format!("{setting} is not set in .env any more");
    if in_environment().contains(&variable.name) {
        return out::line(&format!("{says}; {}", environment_counts(variable.name)));
    }
    let default = if variable.default.is_empty() { "nothing" } else { variable.default };
    out::line(&format!("{says}; then counts: {default}"))
}

/// The settings that our environment sets.
fn in_environment() -> Vec<&'static str> {
    config::in_environment(|name| std::env::var(name).ok())
}

/// That what was written does not count, and until when.
fn environment_counts(name: &str) -> String {
    format!("the environment's {name} counts until `unset {name}`")
}

impl Setup<'_> {
    fn settings(&self) -> Result<Settings, Error> {
        super::settings(self.home)
    }

    /// Keeps a setting in `.env`, and says how to take it back. Says too where the environment sets
    /// it to something else.
    fn keep(&self, name: &str, value: &str, says: impl Into<String>) -> Result<Done, Error> {
        config::set(self.home, name, Some(value))?;
        let mut says = says.into();
        let is_other = |other: String| !other.trim().is_empty() && other.trim() != value;
        if std::env::var(name).is_ok_and(is_other) {
            says = format!("{says}; {}", environment_counts(name));
        }
        Ok(Done::says(says).undo(own_command(self.home, &format!("setup --unset {name}"))))
    }

    /// What the person types, or standard input says; `None` where there is nobody to ask, or the
    /// line is empty.
    fn ask(&self, question: &str, is_secret: bool) -> Result<Option<String>, Error> {
        if !self.asks && (!self.is_named || std::io::stdin().is_terminal()) {
            return Ok(None);
        }
        let hidden = if is_secret && self.asks {
            Some(Hidden::start().ok_or_else(|| {
                let instead = own_command(self.home, "setup key < FILE");
                Error::Refused(format!("the terminal shows what is typed; {instead}"))
            })?)
        } else {
            None
        };
        if self.asks {
            out::ask(question);
        }
        let mut line = String::new();
        let mut stdin = std::io::stdin().lock().take(LINE_BYTES_MAX);
        stdin.read_line(&mut line).map_err(Error::Input)?;
        if hidden.is_some() {
            out::say("");
        }
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }
}

/// Of one answer; longer is no setting.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// While it lives, what is typed is not shown.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn start() -> Option<Hidden> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ECHO;
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &modes).ok()?;
        Some(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// The first runtime in which a sandbox can be made and its files are ours.
fn sandbox(setup: &Setup<'_>) -> Result<Done, Error> {
    let settings = setup.settings()?;
    let runner = agent::runner(&settings);
    let mut passed_over: Vec<Finding> = Vec::new();
    let mut not_built = None;
    let choices = match (&settings.container_cli, settings.container_runtime) {
        (Some(_), choice) => vec![choice],
        // The one that the settings name, and if it does not do, the others.
        (None, chosen) => {
            let mut choices = RuntimeKind::ALL.map(RuntimeChoice::One).to_vec();
            choices.sort_by_key(|choice| *choice != chosen);
            choices
        }
    };
    for choice in choices {
        let tried = Engine::detect(choice, settings.container_cli.as_deref()).and_then(|engine| {
            let findings = engine.preflight(&settings.container_image, &runner);
            if let Some(blocking) = findings.into_iter().find(|finding| finding.blocks) {
                if engine.kind() != RuntimeKind::Bwrap {
                    not_built.get_or_insert(engine.kind());
                }
                return Err(blocking);
            }
            match doctor::trial(&engine, setup.home, &settings) {
                Ok(()) => Ok(engine.kind()),
                Err(error) => Err(Finding {
                    what: format!("{} cannot be used", engine.kind()),
                    why: crate::chain(&error),
                    mend: own_command(setup.home, "doctor"),
                    blocks: true,
                }),
            }
        });
        match tried {
            Ok(kind) => return take(setup, &settings, kind, &passed_over),
            Err(finding) => passed_over.push(finding),
        }
    }
    if let Some(kind) = not_built {
        return Ok(Done::says(format!(
            "{kind} answers and has no image yet; the next step builds it"
        )));
    }
    match passed_over.first() {
        Some(_) => match keeper::find(&settings, &runner) {
            Err(finding) => Err(Error::Refused(finding.to_string())),
            Ok(_) => Err(Error::Refused(
                passed_over.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )),
        },
        None => Ok(Done::says("there is none")),
    }
}

/// Writes the choice down where `auto` or an earlier one would come to another.
fn take(
    setup: &Setup<'_>,
    settings: &Settings,
    kind: RuntimeKind,
    passed_over: &[Finding],
) -> Result<Done, Error> {
    let mut says =
        vec![format!("{kind} is taken: a sandbox can be made, and what it writes is yours")];
    says.extend(passed_over.iter().map(|finding| format!("{}: {}", finding.what, finding.why)));
    let says = says.join("; ");
    let found = keeper::find(settings, &agent::runner(settings));
    if found.is_ok_and(|found| found.engine.kind() == kind) {
        return Ok(Done::says(says));
    }
    setup.keep("CONTAINER_RUNTIME", kind.as_str(), says)
}

/// The image of the runtimes that have images.
fn image(setup: &Setup<'_>) -> Result<Done, Error> {
    let settings = setup.settings()?;
    let runner = agent::runner(&settings);
    let image = &settings.container_image;
    let found = keeper::find(&settings, &runner);
    let is_fresh = found.as_ref().is_ok_and(|found| found.findings.is_empty());
    if let Ok(found) = &found
        && is_fresh
    {
        return Ok(Done::says(match found.engine.kind() {
            RuntimeKind::Bwrap => "bwrap needs none".to_owned(),
            kind => format!("{kind} has `{image}`"),
        }));
    }
    let engine = match found {
        Ok(found) => found.engine,
        Err(_) => Engine::detect(settings.container_runtime, settings.container_cli.as_deref())
            .map_err(|finding| Error::Refused(finding.to_string()))?,
    };
    if engine.kind() == RuntimeKind::Bwrap {
        return Ok(Done::says("bwrap needs none; the agent runner comes with `make install`"));
    }
    let Some((dockerfile, context)) = build_context(&runner) else {
        return Err(Error::Refused(format!(
            "image `{image}` is missing or old, and what it is built from is not here: run \
             `make image` in the source folder"
        )));
    };
    out::say(&format!("building `{image}` from {} …", out::path(&dockerfile)));
    let built = engine.build_image(image, &dockerfile, &context)?;
    let findings = engine.preflight(image, &runner);
    if let Some(finding) = findings.first() {
        return Err(Error::Refused(format!("the build ended with {built}: {finding}")));
    }
    let undo = format!("{} rmi {image}", engine.kind());
    Ok(Done::says(format!("{} built `{image}`", engine.kind())).undo(undo))
}

/// The Dockerfile and the folder with the runner, as `make install` puts them, or as they are in
/// the source folder.
fn build_context(runner: &std::path::Path) -> Option<(PathBuf, PathBuf)> {
    let ours = std::env::current_exe().and_then(|path| path.canonicalize()).ok()?;
    let folder = ours.parent()?;
    let dockerfile = ["../share/rust-claw/Dockerfile", "../../container/Dockerfile"]
        .map(|place| folder.join(place))
        .into_iter()
        .find_map(|path| path.canonicalize().ok())?;
    let context = runner.parent().filter(|_| runner.is_file())?;
    Some((dockerfile, context.to_owned()))
}

/// The key of the model API, tried before it is kept.
fn key(setup: &Setup<'_>) -> Result<Done, Error> {
    let settings = setup.settings()?;
    let base_url = settings.anthropic_base_url.as_deref();
    let there = settings.credential();
    if let Some(there) = &there
        && !setup.is_named
    {
        let mend = key_command(setup.home, Some(there), &in_environment());
        let verdict = doctor::ask(base_url, there).map_err(|error| refused(&error))?;
        let said = match verdict {
            Verdict::Taken(_) => Done::says("there is one, and the model API takes it"),
            Verdict::Refused(status) => {
                Done::says(format!("there is one; the model API refuses it ({status})")).next(mend)
            }
            Verdict::Unknown(why) => Done::says(format!("there is one; it was not tried: {why}")),
        };
        return from_environment(setup, there, said);
    }
    let empty = if there.is_some() { "it stays as it is" } else { "none, a demo answers" };
    let question = format!("Key of the model API (sk-ant-…; empty: {empty}; it is not shown): ");
    let Some(typed) = setup.ask(&question, true)? else {
        if there.is_some() {
            return Ok(Done::says("unchanged; there is one"));
        }
        let next = own_command(setup.home, "setup key");
        return Ok(Done::says("none; the demo engine answers").next(next));
    };
    if !typed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Refused("that has characters that no key has".to_owned()));
    }
    let secret = Secret::from(typed.clone());
    let (credential, name, other) = match doctor::kind_of(&typed) {
        Kind::AdminKey => {
            return Err(Error::Refused(
                "that is a key for the administration of an account, not for the model: \
                 https://console.anthropic.com/settings/keys makes one"
                    .to_owned(),
            ));
        }
        Kind::OauthToken => {
            (Credential::OauthToken(secret), "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY")
        }
        Kind::ApiKey | Kind::Unknown => {
            (Credential::ApiKey(secret), "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
        }
    };
    let tried = match doctor::ask(base_url, &credential).map_err(|error| refused(&error))? {
        Verdict::Taken(_) => "the model API takes it".to_owned(),
        Verdict::Refused(status) => {
            return Err(Error::Refused(format!(
                "the model API refuses that key with status {status}; nothing was changed"
            )));
        }
        Verdict::Unknown(why) => format!("whether the model API takes it is not known: {why}"),
    };
    config::set(setup.home, other, None)?;
    let mut done =
        setup.keep(name, &typed, format!("{name} is in .env, for you alone; {tried}"))?;
    // An API key goes before a token, wherever either is set.
    let counts = setup.settings()?.credential();
    if counts.is_some_and(|counts| counts.setting() != name) {
        done.says = format!("{}; {}", done.says, environment_counts(other));
    }
    Ok(done)
}

fn refused(error: &crate::credentials::Error) -> Error {
    Error::Refused(crate::chain(error))
}

/// A key that only this environment has would be unknown to a service.
fn from_environment(setup: &Setup<'_>, there: &Credential, said: Done) -> Result<Done, Error> {
    let in_file = Settings::load(setup.home, |_| None)?.credential();
    if in_file.is_some() || said.next.is_some() {
        return Ok(said);
    }
    let says = format!("{}; taken from the environment into .env", said.says);
    setup.keep(there.setting(), there.secret().reveal(), says)
}

/// The time zone of people and schedules.
fn zone(setup: &Setup<'_>) -> Result<Done, Error> {
    let zone = setup.settings()?.timezone;
    let question = format!("Time zone [{}]: ", zone.name());
    let Some(typed) = setup.ask(&question, false)? else {
        return Ok(Done::says(zone.name()));
    };
    let typed = config::timezone(&typed).map_err(|problem| {
        let text = out::harmless(&typed);
        Error::Refused(format!("zone `{text}` {problem}, for example Europe/Berlin"))
    })?;
    if typed == zone && !setup.is_named {
        return Ok(Done::says(zone.name()));
    }
    setup.keep("TZ", typed.name(), typed.name())
}

/// What the assistant is called.
fn name(setup: &Setup<'_>) -> Result<Done, Error> {
    let name = setup.settings()?.assistant_name;
    let Some(typed) = setup.ask(&format!("Name of the assistant [{name}]: "), false)? else {
        return Ok(Done::says(name));
    };
    if typed == name {
        return Ok(Done::says(name));
    }
    let typed = config::assistant_name(&typed)
        .map_err(|problem| Error::Refused(format!("the name {problem}")))?;
    setup.keep("ASSISTANT_NAME", &typed, typed.clone())
}

/// The link to a phone, if the person has one at hand.
#[cfg(feature = "whatsapp")]
fn whatsapp(setup: &Setup<'_>) -> Result<Done, Error> {
    let number = || -> Result<Option<String>, Error> {
        let link = super::store(setup.home)?.get_state(WHATSAPP_STATE_KEY)?;
        let link = link.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(linked_number(&link))
    };
    let paired = |number: String| {
        Done::says(format!("linked as +{number}")).undo(own_command(setup.home, "unpair"))
    };
    if let Some(number) = number()? {
        return Ok(paired(number));
    }
    let question = "link WhatsApp now, with your phone at hand? [y/N] ";
    let wants =
        setup.asks && setup.ask(question, false)?.is_some_and(|said| said.starts_with(['y', 'Y']));
    if wants {
        super::pair::PairCommand::default().run(setup.home)?;
    }
    Ok(match number()? {
        Some(number) => paired(number),
        None => Done::says("not linked; the terminal and scripts work without it")
            .next(own_command(setup.home, "pair")),
    })
}

#[cfg(not(feature = "whatsapp"))]
#[expect(clippy::unnecessary_wraps, reason = "it is a step like the others")]
fn whatsapp(_: &Setup<'_>) -> Result<Done, Error> {
    Ok(Done::says("this program was built without it"))
}

/// One message through everything: store, sandbox, agent, outbox.
fn message(setup: &Setup<'_>) -> Result<Done, Error> {
    let engine = setup.settings()?.engine();
    out::say("asking a first question …");
    let asked = AskCommand::first().run(setup.home)?;
    if asked != ExitCode::SUCCESS {
        let doctor = own_command(setup.home, "doctor");
        return Err(Error::Refused(format!("the first question was not answered: {doctor}")));
    }
    let who = match engine {
        AgentEngine::Claude => "Claude answered",
        AgentEngine::Demo => "the demo engine answered",
    };
    Ok(Done::says(who).next(own_command(setup.home, "chat")))
}
