//! The thread `whatsapp`: it owns the client of the protocol library, does what the pure
//! [state machine](super::state) says, and tells it what happened. What the library tells comes
//! through a bounded channel and never waits for us; its own reconnecting is off.

mod hear;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use wacore::runtime::Runtime;
use whatsapp_rust::anyhow;

use super::certificate::Endpoint;
use super::connection::{Over, Run, judged, own_address};
use super::ears::{Ears, Word as Heard};
use super::groups;
use super::line::{Line, Online};
use super::outbound;
use super::pairing::{Pairing, Step, Wanted};
use super::presence::Presence;
use super::runtime::Pool;
use super::session::Session;
use super::state::{Do, End, Event, Machine, Now, State, Then};
use crate::agent::notice;
use crate::channel::WHATSAPP_STATE_KEY;
use crate::config::Settings;
use crate::doorbell::{Doorbell, News};
use crate::home::Home;
use crate::ids::{ChannelKind, ChatJid, GroupFolder, UnixMs};
use crate::limits::{LINK_EVENTS_MAX, LINK_LOOK_INTERVAL, LINK_SILENCE_MAX};
use crate::store::{self, RunKind, RunState, Store};

/// What the thread is given.
pub(super) struct Given {
    pub(super) home: Home,
    pub(super) settings: Settings,
    pub(super) endpoint: Endpoint,
    pub(super) roots: Option<PathBuf>,
    pub(super) line: Arc<Line>,
    pub(super) words: Sender<outbound::Word>,
    pub(super) is_stopping: Arc<AtomicBool>,
}

/// What the thread owns.
struct Link<'a> {
    given: &'a Given,
    bell: &'a Doorbell,
    store: Store,
    started: Instant,
    machine: Machine,
    /// Who we are, once a login told it.
    identity: Value,
    heard: Receiver<Heard>,
    to_us: Sender<Heard>,
    run: Option<Run>,
    run_count: u64,
    session: Option<Session>,
    /// One for all sessions: its threads come with the first.
    pool: Option<Arc<Pool>>,
    presence: Presence,
    pairing: Option<Pairing>,
    groups: groups::Sync,
    address: Option<IpAddr>,
}

/// Why the thread cannot go on. Begun again it may.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// They are not to be forgotten only because they cannot be read.
    #[error("{reason}")]
    Keys {
        /// What and why.
        reason: String,
    },
}

/// Serves until the program stops.
///
/// # Errors
/// [`Failed`]; everything else is a state.
pub(super) fn run(given: &Given, bell: &Doorbell) -> Result<(), Failed> {
    let mut store = Store::open(&given.home.database())?;
    let (to_us, heard) = bounded(LINK_EVENTS_MAX);
    let started = Instant::now();
    let stored =
        store.get_state(WHATSAPP_STATE_KEY)?.and_then(|text| serde_json::from_str(&text).ok());
    let stored: Value = stored.unwrap_or_default();
    // Of a pairing that nobody leads any more.
    Step::hide(&mut store)?;
    let now = Now { up: Duration::ZERO, wall: UnixMs::now() };
    let is_paired = match Session::is_paired(&given.home) {
        Ok(is_paired) => is_paired,
        Err(error) => {
            let reason = format!("the keys of WhatsApp cannot be read: {error:#}");
            store.set_state(WHATSAPP_STATE_KEY, &off(stored, &reason).to_string())?;
            Doorbell::ring(&given.home);
            return Err(Failed::Keys { reason });
        }
    };
    let (machine, todo) = Machine::start(now, is_paired, &stored);
    let identity = json!({
        "number": stored["number"], "lid": stored["lid"], "name": stored["name"],
    });
    let mut link = Link {
        given,
        bell,
        store,
        started,
        machine,
        identity,
        heard,
        to_us,
        run: None,
        run_count: 0,
        session: None,
        pool: None,
        presence: Presence::default(),
        pairing: None,
        groups: groups::Sync::default(),
        address: given.endpoint.is_far().then(own_address).flatten(),
    };
    given.line.show(None);
    link.perform(todo)?;
    link.store_state()?;
    let (mut is_rung, mut looks) = (true, 0_u32);
    let mut news = None;
    while !given.is_stopping.load(Ordering::Relaxed) {
        let pause = link.look(is_rung || looks.is_multiple_of(LOOKS_PER_NET))?;
        if link.is_asleep() {
            news = None;
        } else if news.is_none() {
            let heard = bell.hear_of(&[News::Message, News::Run]);
            news = heard.inspect_err(|error| log::warn!("nobody is shown typing: {error}")).ok();
        }
        is_rung = bell.wait(pause) || ASLEEP <= pause;
        looks = looks.wrapping_add(1);
    }
    link.close();
    if *link.machine.state() == State::Closing(Then::Rest) {
        // Nobody tells us of the end any more, and what was unpaired has to be forgotten.
        link.tell(Event::Ended(End::Removed))?;
    }
    Ok(link.store_off()?)
}

impl Link<'_> {
    fn now(&self) -> Now {
        Now { up: self.started.elapsed(), wall: UnixMs::now() }
    }

    /// Looks at all that may be new, `in_store` too where somebody rang; says how long nothing else
    /// will be, unless the bell rings.
    fn look(&mut self, in_store: bool) -> Result<Duration, store::Error> {
        let heard = self.heard.clone();
        for word in heard.try_iter() {
            self.hear(word)?;
        }
        if in_store && let Some(wanted) = Wanted::take(&mut self.store)? {
            self.want(wanted)?;
        }
        if self.pairing.as_ref().is_some_and(|pairing| pairing.is_expired(UnixMs::now())) {
            self.end_pairing(Step::Expired)?;
        }
        self.look_at_run()?;
        self.look_at_network()?;
        self.tell(Event::Tick)?;
        if in_store || self.presence.due().is_some() {
            self.show_presence()?;
        }
        if in_store || self.groups.is_put_off_until_now(UnixMs::now()) {
            self.look_at_groups()?;
        }
        let up = self.started.elapsed();
        if self.run.as_ref().is_some_and(|run| run.over_since.is_some()) {
            return Ok(REASON_WAIT_MAX / 5);
        }
        let dues = [self.machine.due(), self.presence.due(), self.silent_at()];
        let due = dues.into_iter().flatten().min();
        let pause = due.map_or(LINK_LOOK_INTERVAL, |due| due.saturating_sub(up));
        Ok(if self.is_asleep() { ASLEEP } else { pause.min(LINK_LOOK_INTERVAL) })
    }

    /// Whether nothing can happen by itself, so that only a ring for everybody is listened to.
    fn is_asleep(&self) -> bool {
        matches!(self.machine.state(), State::Unpaired | State::NeedsPairing { .. })
    }

    fn tell(&mut self, event: Event) -> Result<(), store::Error> {
        let before = self.machine.state().clone();
        let todo = self.machine.step(self.now(), chance(), event);
        let is_new = before != *self.machine.state();
        if is_new {
            log::info!("whatsapp state={:?}", self.machine.state());
        }
        self.perform(todo)?;
        if is_new { self.store_state() } else { Ok(()) }
    }

    fn perform(&mut self, todo: Vec<Do>) -> Result<(), store::Error> {
        for what in todo {
            match what {
                Do::Connect => self.connect(),
                Do::Drop => self.drop_session(),
                Do::LogOut => {
                    if let Some(session) = &self.session {
                        session.log_out();
                    }
                    self.drop_session();
                }
                Do::Forget => {
                    self.drop_session();
                    self.identity = Value::Null;
                    if let Err(error) = Session::forget(&self.given.home) {
                        log::error!("cannot remove the keys of WhatsApp: {}", crate::chain(&error));
                    }
                }
                Do::Notify => self.notify()?,
            }
        }
        Ok(())
    }

    fn connect(&mut self) {
        self.run_count += 1;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut run = Run {
            number: self.run_count,
            handle: None,
            is_over: Arc::clone(&is_over),
            over_since: None,
            end: None,
            line_end: None,
            words: 0,
            heard_at: self.started.elapsed(),
            address: self.address,
        };
        if self.session.is_none() {
            let ears = Ears::new(
                self.to_us.clone(),
                self.given.words.clone(),
                self.bell.waker(),
                Arc::clone(&self.given.line),
            );
            match self.make_session(ears) {
                Ok(session) => self.session = Some(session),
                Err(error) => {
                    run.end = Some(End::Lost(format!("cannot begin: {error:#}")));
                    is_over.store(true, Ordering::Release);
                }
            }
        }
        if let Some(session) = &self.session {
            session.ears.words.store(0, Ordering::Release);
            let over = Over { is_over, bell: self.bell.waker() };
            let client = Arc::clone(&session.client);
            run.handle = Some(session.pool.spawn(Box::pin(async move {
                let _over = over;
                client.run().await;
            })));
        }
        self.run = Some(run);
    }

    fn make_session(&mut self, ears: Ears) -> anyhow::Result<Session> {
        let pool = match &mut self.pool {
            Some(pool) => Arc::clone(pool),
            none => Arc::clone(none.insert(Pool::start(1)?)),
        };
        Session::make(self.given, pool, ears)
    }

    /// Ends the connection; that it is over is seen by the next look.
    fn drop_session(&mut self) {
        self.given.line.show(None);
        if let Some(session) = self.session.take() {
            session.close();
        }
        if let Some(run) = &mut self.run {
            // Whatever of it is left.
            drop(run.handle.take());
            run.is_over.store(true, Ordering::Release);
        }
    }

    /// When the server has been silent for too long, if no look finds that it spoke.
    fn silent_at(&self) -> Option<Duration> {
        // While codes are shown, it has nothing to say.
        let listens = self.session.is_some() && self.pairing.is_none();
        self.run.as_ref().filter(|_| listens).map(|run| run.heard_at + LINK_SILENCE_MAX)
    }

    fn look_at_run(&mut self) -> Result<(), store::Error> {
        let up = self.started.elapsed();
        let Some(run) = &mut self.run else { return Ok(()) };
        if !run.is_over.load(Ordering::Acquire) {
            let Some(session) = &self.session else { return Ok(()) };
            if session.keys.is_spent() {
                self.end_unkept();
                return Ok(());
            }
            let words = session.ears.words.load(Ordering::Acquire);
            if words != run.words {
                (run.words, run.heard_at) = (words, up);
            }
            if self.silent_at().is_some_and(|at| at <= up) {
                return self.tell(Event::Silent);
            }
            return Ok(());
        }
        let over_since = *run.over_since.get_or_insert(up);
        let is_told = run.end.is_some() || run.line_end.is_some();
        if !is_told && up < over_since + REASON_WAIT_MAX {
            return Ok(());
        }
        let is_greeted = self
            .session
            .as_ref()
            .is_none_or(|session| 0 < session.ears.words.load(Ordering::Acquire));
        let end = run.end.take().unwrap_or_else(|| judged(run.line_end.take(), is_greeted));
        self.run = None;
        self.given.line.show(None);
        if matches!(end, End::Outdated | End::Unscanned | End::Code(405)) {
            // Another version may be right by now; a client whose codes ran out is of no more use.
            self.drop_session();
        }
        log::info!("whatsapp connection={} is over: {end:?}", self.run_count);
        self.groups.interrupt();
        let is_unscanned = end == End::Unscanned;
        // That the phone has taken us in may be heard after it.
        let is_restart = end == End::Code(515);
        self.tell(Event::Ended(end))?;
        if is_unscanned {
            self.end_pairing(Step::Expired)?;
        } else if let Some(act) = self.machine.act() {
            self.end_pairing(Step::Failed { error: act.to_owned() })?;
        } else if !is_restart && self.pairing.as_ref().is_some_and(Pairing::shows_code) {
            self.end_pairing(Step::Expired)?;
        }
        Ok(())
    }

    /// Shows the last step of a pairing, if there is one.
    fn end_pairing(&mut self, step: Step) -> Result<(), store::Error> {
        let Some(pairing) = self.pairing.take() else { return Ok(()) };
        self.show_step(&pairing, step)?;
        self.tell(Event::PairingOver)
    }

    fn show_step(&mut self, pairing: &Pairing, step: Step) -> Result<(), store::Error> {
        step.show(&mut self.store, pairing.asked_at)?;
        Doorbell::ring(&self.given.home);
        Ok(())
    }

    fn look_at_groups(&mut self) -> Result<(), store::Error> {
        if *self.machine.state() != State::Online {
            return Ok(());
        }
        let Some(Online { client, pool, .. }) = self.given.line.online() else { return Ok(()) };
        if self.groups.is_due(&self.store, UnixMs::now())? {
            let (to_us, bell) = (self.to_us.clone(), self.bell.waker());
            pool.spawn_detached(Box::pin(async move {
                // Without room it is asked for again, by and by.
                to_us.try_send(Heard::Groups(groups::ask(client).await)).ok();
                bell.wake();
            }));
        }
        Ok(())
    }

    fn look_at_network(&mut self) -> Result<(), store::Error> {
        if !self.given.endpoint.is_far() {
            return Ok(());
        }
        let address = own_address();
        let was = std::mem::replace(&mut self.address, address);
        let is_other = match (&self.run, self.machine.state()) {
            (Some(run), State::Online) => run.address.is_some() && address != run.address,
            (_, State::Backoff { .. }) => address != was,
            _ => false,
        };
        if is_other && address.is_some() { self.tell(Event::NetworkChanged) } else { Ok(()) }
    }

    fn main_group(&self) -> Result<GroupFolder, store::Error> {
        let (groups, _) = self.store.groups()?;
        let main = groups.into_iter().find(|group| group.is_main).map(|group| group.folder);
        Ok(main.unwrap_or_else(GroupFolder::main))
    }

    /// Tells a person, wherever they can be reached, that they must act.
    fn notify(&mut self) -> Result<(), store::Error> {
        let Some(act) = self.machine.act() else { return Ok(()) };
        log::error!("whatsapp: {act}");
        for chat in self.store.chats_of_group(&self.main_group()?)? {
            if chat.channel() != ChannelKind::Whatsapp {
                self.store.enqueue(&notice::whatsapp(&chat, act), UnixMs::now())?;
            }
        }
        Doorbell::ring(&self.given.home);
        Ok(())
    }

    fn show_presence(&mut self) -> Result<(), store::Error> {
        let Some(online) = self.given.line.online() else {
            // Nobody is shown anything, and nothing is to be shown again.
            self.presence = Presence::default();
            return Ok(());
        };
        let busy: Vec<ChatJid> = self
            .store
            .alive_runs()?
            .into_iter()
            .filter(|run| run.state == RunState::Busy && run.kind == RunKind::Chat)
            .map(|run| run.chat)
            .filter(|chat| chat.channel() == ChannelKind::Whatsapp)
            .collect();
        let signs = self.presence.step(self.started.elapsed(), &busy);
        if !signs.is_empty() && !super::session::show(&online, signs) {
            self.presence.doubt(self.started.elapsed());
        }
        Ok(())
    }

    fn store_state(&mut self) -> Result<(), store::Error> {
        let mut shown = self.machine.shown(self.now());
        self.add_identity(&mut shown);
        self.store.set_state(WHATSAPP_STATE_KEY, &shown.to_string())?;
        Doorbell::ring(&self.given.home);
        Ok(())
    }

    /// What the next start begins with, and `status` shows meanwhile.
    fn store_off(&mut self) -> Result<(), store::Error> {
        let mut shown = self.machine.shown(self.now());
        if !matches!(self.machine.state(), State::NeedsPairing { .. } | State::Unpaired) {
            shown["state"] = "off".into();
        }
        self.add_identity(&mut shown);
        self.store.set_state(WHATSAPP_STATE_KEY, &shown.to_string())
    }

    fn add_identity(&self, shown: &mut Value) {
        for key in ["number", "lid", "name"] {
            if !self.identity[key].is_null() {
                shown[key] = self.identity[key].clone();
            }
        }
    }

    fn close(&mut self) {
        self.drop_session();
        self.run = None;
    }
}

impl Drop for Link<'_> {
    /// A panic must leave no connection behind: the next link makes its own.
    fn drop(&mut self) {
        self.close();
    }
}

/// Of the looks for which nobody rang, every so many goes into the store: the net under lost rings.
const LOOKS_PER_NET: u32 = 4;
/// How long the reason may come after the end.
const REASON_WAIT_MAX: Duration = Duration::from_millis(500);
/// Between two looks where only the bell brings news.
const ASLEEP: Duration = Duration::from_secs(30);

/// What is stored of a link that cannot begin. What the phone's refusal was stays known.
fn off(stored: Value, reason: &str) -> Value {
    let mut stored = if stored.is_object() { stored } else { json!({}) };
    if stored["state"] != "needs-pairing" {
        stored["state"] = "off".into();
        stored["since_ms"] = UnixMs::now().0.into();
    }
    stored["reason"] = reason.into();
    stored
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let mut random = [0; 2];
    // Without randomness all programs come back at the same time; that is no reason to fail.
    getrandom::fill(&mut random).ok();
    f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX)
}

/// For `status`: the address is not allowed, so there is no link.
pub(super) fn store_refused(home: &Home, reason: &str) {
    let shown = json!({"state": "off", "since_ms": UnixMs::now().0, "reason": reason});
    let stored = Store::open(&home.database())
        .and_then(|mut store| store.set_state(WHATSAPP_STATE_KEY, &shown.to_string()));
    if let Err(error) = stored {
        log::warn!("cannot note the state of WhatsApp: {}", crate::chain(&error));
    }
}
