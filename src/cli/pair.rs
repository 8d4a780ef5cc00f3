//! `pair`, `unpair`, `reconnect`: what a person wants of the link to WhatsApp. The link lives in the
//! daemon, or in one of our own for as long as the command lasts; both are talked to by way of the
//! database.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::Receiver;
use serde_json::Value;

use super::serve::Server;
use super::{Error, out, qr};
use crate::channel::whatsapp::groups;
use crate::channel::whatsapp::pairing::{self, Step, Wanted};
use crate::channel::{WHATSAPP_STATE_KEY, linked_number};
use crate::daemon::Duty;
use crate::doorbell::Doorbell;
use crate::home::{Home, Purpose};
use crate::ids::UnixMs;
use crate::store::Store;

/// How long a pairing may take; then nobody is there, and WhatsApp need not be asked any more.
const PAIRING_MAX: Duration = Duration::from_mins(10);
/// How long the link may take to do what is wanted.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A look at the database, the clock and the signals where no bell rang.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// So long after its last news a phone has sent the past.
const QUIET_MIN: Duration = Duration::from_secs(3);
/// The past of a busy phone is taken in so long; what is missing is missing as context only.
const HISTORY_MAX: Duration = Duration::from_mins(2);
/// Lines of a terminal that does not say how many it has.
const ROWS: usize = 24;
/// What stands around a QR code.
const LINES_AROUND: usize = 3;

/// Link the assistant to a WhatsApp account: shows a QR code to scan, or with --phone a code to type.
#[derive(ArgsInfo, Default, FromArgs)]
#[argh(subcommand, name = "pair")]
pub(super) struct PairCommand {
    /// a code to type on the phone of this number, with its country code: +49 170 1234567
    #[argh(option, arg_name = "number")]
    phone: Option<String>,
    /// write the QR code to this file too, as a picture; it is removed at the end
    #[argh(option, arg_name = "file")]
    png: Option<PathBuf>,
}

impl PairCommand {
    /// # Errors
    /// A number that is none; an account that is linked already; nobody who scans.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let phone = self.phone.as_deref().map(pairing::number).transpose();
        let phone = phone.map_err(|error| Error::Refused(error.to_string()))?;
        if phone.is_some() && self.png.is_some() {
            return Err(Error::Refused(
                "--phone gives a code to type, which needs no picture: leave --png out".to_owned(),
            ));
        }
        let picture = self.png.map(Picture::new).transpose()?;
        let mut link = Link::open(home)?;
        if let Some(number) = link.paired_as()? {
            return Err(Error::Refused(format!(
                "already linked{number}: `rust-claw unpair` ends that first"
            )));
        }
        let stop = super::run::signals()?;
        let paired = Dialogue::new(phone, picture).run(&mut link, &stop);
        if paired.is_err() {
            link.say(&Wanted::GiveUp)?;
        }
        Step::hide(&mut link.store)?;
        let is_own = link.server.as_ref().is_some_and(Server::is_own);
        if is_own && paired.is_ok() {
            out::line("taking in what was said before …")?;
            link.settle(&stop)?;
        }
        link.close()?;
        paired?;
        if is_own {
            out::line("`rust-claw run` keeps it online.")?;
        }
        Ok(())
    }
}

/// End the link to WhatsApp: the phone forgets this device, and its keys are erased here.
#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand, name = "unpair")]
pub(super) struct UnpairCommand {}

/// # Errors
/// Nothing to end.
pub(super) fn unpair(home: &Home) -> Result<(), Error> {
    let mut link = Link::open(home)?;
    if link.state()?.is_none_or(|state| state == "unpaired") {
        return Err(Error::Refused("not linked to WhatsApp: `rust-claw pair` does".to_owned()));
    }
    link.serve()?;
    // The phone is told where that is possible. `off` is what the last daemon left.
    link.wait(|state| !["connecting", "off"].contains(&state))?;
    let is_told = link.state()?.as_deref() == Some("online");
    link.say(&Wanted::Unpair)?;
    let is_done = link.wait(|state| state == "unpaired")?;
    link.close()?;
    if !is_done {
        return Err(Error::TryAgain(unanswered()));
    }
    out::line(if is_told {
        "not linked any more; the phone does not list this device any more"
    } else {
        "not linked any more; WhatsApp could not be told: remove `rust-claw` on the phone, under \
             Linked devices"
    })
}

/// Connect to WhatsApp again, at once.
#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand, name = "reconnect")]
pub(super) struct ReconnectCommand {}

/// # Errors
/// Nothing to connect; no daemon.
pub(super) fn reconnect(home: &Home) -> Result<(), Error> {
    let mut link = Link::open(home)?;
    if link.paired_as()?.is_none() {
        return Err(Error::Refused("not linked to WhatsApp: `rust-claw pair` does".to_owned()));
    }
    if home.holder()?.is_none() {
        return Err(Error::Refused(
            "no daemon is running that could: `rust-claw run` starts it".to_owned(),
        ));
    }
    let since = link.parsed()?["since_ms"].clone();
    link.say(&Wanted::Reconnect)?;
    let changed = |state: &Value| state["since_ms"] != since && state["state"] != "connecting";
    if !link.wait_for(changed)? {
        return Err(Error::TryAgain(unanswered()));
    }
    let state = link.parsed()?;
    if state["state"] == "online" {
        return out::line("online");
    }
    let reason = state["reason"].as_str().or(state["act"].as_str()).unwrap_or("no reason told");
    Err(Error::TryAgain(format!("not online: {}", out::harmless(reason))))
}

/// Has the link ask WhatsApp what the groups are called.
///
/// # Errors
/// No daemon, or none that is online; no answer.
pub(super) fn refresh_groups(home: &Home) -> Result<(), Error> {
    let mut link = Link::open(home)?;
    let is_running = home.holder()?.is_some();
    if !is_running || link.state()?.as_deref() != Some("online") {
        return Err(Error::Refused(
            "WhatsApp is not online, so it cannot be asked: `rust-claw status` says why; without \
             --refresh the list is as it was last known"
                .to_owned(),
        ));
    }
    let asked_at = UnixMs::now();
    link.store.set_state(groups::ASKED_AT_KEY, &asked_at.to_string())?;
    link.bell.ring_others();
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        let synced_at = link.store.get_state(groups::SYNCED_AT_KEY)?;
        if synced_at.and_then(|at| at.parse().ok()).is_some_and(|at| asked_at <= UnixMs(at)) {
            return Ok(());
        }
        if deadline <= Instant::now() {
            return Err(Error::TryAgain("WhatsApp has not answered in time".to_owned()));
        }
        link.bell.wait(LOOK_INTERVAL);
    }
}

fn unanswered() -> String {
    format!(
        "the daemon did not do it within {} s; its log says more, `rust-claw status` where it stands",
        ANSWER_MAX.as_secs()
    )
}

/// The way to the link.
struct Link<'a> {
    home: &'a Home,
    store: Store,
    bell: Doorbell,
    server: Option<Server>,
}

impl Link<'_> {
    fn open(home: &Home) -> Result<Link<'_>, Error> {
        let store = super::store_with_main(home)?;
        Ok(Link { home, store, bell: Doorbell::new(home)?, server: None })
    }

    /// Has somebody serve the link.
    fn serve(&mut self) -> Result<(), Error> {
        let settings = super::settings(self.home)?;
        match &mut self.server {
            Some(server) => server.stand_in(self.home, &settings),
            none => {
                let server = Server::find(self.home, &settings, Purpose::Terminal, Duty::Pairing)?;
                *none = Some(server);
                Ok(())
            }
        }
    }

    /// The phone sends the past once, in the seconds after the pairing, and nobody else would be
    /// there to take it in.
    fn settle(&self, signals: &Receiver<()>) -> Result<(), Error> {
        let begun = Instant::now();
        let (mut version, mut changed_at) = (self.store.data_version()?, begun);
        while changed_at.elapsed() < QUIET_MIN && begun.elapsed() < HISTORY_MAX {
            if signals.try_recv().is_ok() {
                break;
            }
            self.bell.wait(LOOK_INTERVAL);
            let seen = self.store.data_version()?;
            if seen != version {
                (version, changed_at) = (seen, Instant::now());
            }
        }
        Ok(())
    }

    fn close(self) -> Result<(), Error> {
        self.server.map_or(Ok(()), Server::close)
    }

    fn say(&mut self, wanted: &Wanted) -> Result<(), Error> {
        wanted.say(&mut self.store)?;
        self.bell.ring_others();
        Ok(())
    }

    fn parsed(&self) -> Result<Value, Error> {
        let text = self.store.get_state(WHATSAPP_STATE_KEY)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    }

    fn state(&self) -> Result<Option<String>, Error> {
        Ok(self.parsed()?["state"].as_str().map(str::to_owned))
    }

    /// Who we are linked as, if we are, to be put after "linked". The link itself knows better, and
    /// refuses then too.
    fn paired_as(&self) -> Result<Option<String>, Error> {
        Ok(linked_number(&self.parsed()?).map(|number| format!(" as +{number}")))
    }

    fn wait(&self, is_there: impl Fn(&str) -> bool) -> Result<bool, Error> {
        self.wait_for(|state| state["state"].as_str().is_some_and(&is_there))
    }

    fn wait_for(&self, is_there: impl Fn(&Value) -> bool) -> Result<bool, Error> {
        let deadline = Instant::now() + ANSWER_MAX;
        while !is_there(&self.parsed()?) {
            if deadline <= Instant::now() {
                return Ok(false);
            }
            self.bell.wait(LOOK_INTERVAL);
        }
        Ok(true)
    }
}

/// A pairing, as a person sees it.
struct Dialogue {
    phone: Option<String>,
    picture: Option<Picture>,
    screen: Screen,
    /// What is on the screen.
    step: Option<Step>,
}

impl Dialogue {
    fn new(phone: Option<String>, picture: Option<Picture>) -> Dialogue {
        Dialogue { phone, picture, screen: Screen::new(), step: None }
    }

    fn run(&mut self, link: &mut Link<'_>, signals: &Receiver<()>) -> Result<(), Error> {
        let deadline = Instant::now() + PAIRING_MAX;
        let mut asked_at = self.ask(link)?;
        loop {
            // A daemon that was there may be gone.
            link.serve()?;
            match Step::shown(&link.store, asked_at)? {
                Some(Step::Done { number, name, is_attached }) => {
                    self.screen.draw(&[])?;
                    return done(&number, &name, is_attached);
                }
                Some(Step::Failed { error }) => {
                    return Err(Error::Refused(format!("not linked: {}", out::harmless(&error))));
                }
                Some(Step::Expired) => asked_at = self.ask(link)?,
                step => self.show(step.unwrap_or(Step::Waiting), &link.parsed()?)?,
            }
            if signals.try_recv().is_ok() {
                return Err(Error::Refused(
                    if self.step == Some(Step::Syncing) {
                        "given up; the phone has linked it: `rust-claw status` shows how far it is"
                    } else {
                        "given up; nothing was linked"
                    }
                    .to_owned(),
                ));
            }
            if deadline <= Instant::now() && self.step != Some(Step::Syncing) {
                return Err(Error::TryAgain(format!(
                    "nobody has linked the phone within {} minutes: run it again when you have it at \
                     hand",
                    PAIRING_MAX.as_secs() / 60
                )));
            }
            link.bell.wait(LOOK_INTERVAL);
        }
    }

    fn ask(&mut self, link: &mut Link<'_>) -> Result<UnixMs, Error> {
        let asked_at = UnixMs::now();
        let wanted = Wanted::Pair { phone: self.phone.clone(), asked_at_ms: asked_at.0 };
        link.say(&wanted)?;
        Ok(asked_at)
    }

    fn show(&mut self, step: Step, state: &Value) -> Result<(), Error> {
        let seconds = |until_ms: i64| UnixMs(until_ms).since(UnixMs::now()).as_secs();
        let frame = match &step {
            Step::Qr { qr, valid_until_ms } => {
                if self.step.as_ref() != Some(&step)
                    && let Some(picture) = &self.picture
                {
                    picture.write(qr)?;
                }
                let rows = self.screen.rows - LINES_AROUND;
                let code = qr::lines(qr, rows).ok_or_else(|| {
                    Error::Refused("WhatsApp gave something that no QR code can hold".to_owned())
                })?;
                let mut frame = vec![HOW_TO_SCAN.to_owned()];
                frame.extend(code.iter().map(|line| self.screen.contrast(line)));
                frame.push(format!(
                    "valid for {} s; the next follows by itself",
                    seconds(*valid_until_ms)
                ));
                frame
            }
            Step::Code { code, valid_until_ms } => vec![
                HOW_TO_TYPE.to_owned(),
                format!("    {}", out::harmless(code)),
                format!("valid for {} s; the next follows by itself", seconds(*valid_until_ms)),
            ],
            Step::Syncing => vec!["linked; the phone says what there is …".to_owned()],
            _ => match state["reason"].as_str() {
                Some(reason) => vec![format!(
                    "WhatsApp cannot be reached: {}; trying again",
                    out::harmless(reason)
                )],
                None => vec!["asking WhatsApp …".to_owned()],
            },
        };
        let is_new = self.step.as_ref() != Some(&step);
        self.step = Some(step);
        // What is not on a screen is written down once.
        if is_new || self.screen.is_terminal { self.screen.draw(&frame) } else { Ok(()) }
    }
}

const HOW_TO_SCAN: &str =
    "Scan this with the phone: WhatsApp > Settings > Linked devices > Link a device";
const HOW_TO_TYPE: &str = "On the phone: WhatsApp > Settings > Linked devices > Link a device > \
                           Link with phone number instead; type";

fn done(number: &str, name: &str, is_attached: bool) -> Result<(), Error> {
    let name = if name.is_empty() { String::new() } else { format!(" ({})", out::harmless(name)) };
    out::line(&format!("linked as +{}{name}", out::harmless(number)))?;
    if is_attached {
        out::line("What you write to yourself on the phone now reaches the group main.")?;
    }
    Ok(())
}

/// Lines that replace each other, where there is a terminal.
struct Screen {
    is_terminal: bool,
    rows: usize,
    /// What is on it.
    drawn: Vec<String>,
}

impl Screen {
    fn new() -> Screen {
        let stdout = std::io::stdout();
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let rows = size.map(|size| usize::from(size.ws_row)).filter(|rows| LINES_AROUND < *rows);
        Screen { is_terminal: stdout.is_terminal(), rows: rows.unwrap_or(ROWS), drawn: Vec::new() }
    }

    /// White on black, whatever the theme.
    fn contrast(&self, line: &str) -> String {
        if self.is_terminal {
            format!("\x1b[38;5;231;48;5;16m{line}\x1b[0m")
        } else {
            line.to_owned()
        }
    }

    fn draw(&mut self, frame: &[String]) -> Result<(), Error> {
        if self.drawn == frame {
            return Ok(());
        }
        let mut text = String::new();
        if self.is_terminal && !self.drawn.is_empty() {
            text = format!("\x1b[{}A\x1b[J", self.drawn.len());
        }
        self.drawn = frame.to_vec();
        text.push_str(&frame.join("\n"));
        if frame.is_empty() {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            return Ok(stdout.flush()?);
        }
        out::line(&text)
    }
}

/// A file with the code as a picture, for its owner alone; removed at the end.
struct Picture {
    path: PathBuf,
}

impl Picture {
    /// # Errors
    /// The file exists, or cannot be made.
    fn new(path: PathBuf) -> Result<Picture, Error> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let refused =
            |error| Error::Refused(format!("cannot make `{}`: {error}", out::path(&path)));
        made.map_err(refused)?;
        Ok(Picture { path })
    }

    fn write(&self, code: &str) -> Result<(), Error> {
        let Some(file) = qr::picture(code) else { return Ok(()) };
        // Whole or not at all: a viewer may look at any time.
        let beside = beside(&self.path);
        let mut new =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(&file)?;
        Ok(fs::rename(&beside, &self.path)?)
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        for path in [&beside(&self.path), &self.path] {
            if let Err(error) = fs::remove_file(path) {
                log::debug!("cannot remove `{}`: {error}", path.display());
            }
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
