//! When the link to `WhatsApp` connects, waits and gives a person something to do. Pure: told
//! what happened and when, it says what to do.
//!
//! There is one connection at a time, since one is only begun after the end of the last was told.
//! However it ends, another is tried: at once after the restart that follows a pairing, else after
//! a pause that grows from [`LINK_RETRY_FIRST`] to [`LINK_RETRY_MAX`] and has a random part. Only
//! where no attempt can succeed before a person has acted, none is made. Whatever cuts a pause
//! short, there are never more than [`LINK_ATTEMPTS_MAX`] attempts a minute.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ids::UnixMs;
use crate::limits::{
    CLOCK_JUMP_MIN, LINK_ATTEMPTS_MAX, LINK_BAN_MAX, LINK_BAN_UNTOLD, LINK_CONNECT_MAX,
    LINK_OUTDATED_RETRY, LINK_REPLACED_RETRY, LINK_RETRY_FIRST, LINK_RETRY_MAX, LINK_STABLE_MIN,
};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Since the link was made; does not jump, and stands while the machine sleeps.
    pub(super) up: Duration,
    /// What people call the time; may be set, and goes on while the machine sleeps.
    pub(super) wall: UnixMs,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passed.
    Tick,
    /// Logged in, and what was said meanwhile has come.
    Online,
    /// A phone took this program in; the server restarts the connection now.
    Paired,
    /// The connection, or the attempt at one, is over.
    Ended(End),
    /// The other side has been silent for too long.
    Silent,
    /// This machine has another address.
    NetworkChanged,
    /// A person asks for a new pairing.
    Pair,
    /// A person has given up on pairing.
    PairingOver,
    /// A person says that it will work now.
    Reconnect,
    /// This device is no more wanted.
    Unpair,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The network, or the server without a reason.
    Lost(String),
    /// The server with a reason: `<failure reason>`, `<stream:error code>`, or the code with which
    /// the socket was closed.
    Code(u16),
    /// The server has no certificate that this program trusts.
    Certificate,
    /// The device was removed on the phone.
    Removed,
    /// Another program has connected as this device.
    Replaced,
    /// The account is banned, for so long if that was told.
    Banned(Option<Duration>),
    /// This version of the protocol is refused.
    Outdated,
    /// No phone has scanned any of the codes.
    Unscanned,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Begin a connection; its end will be told.
    Connect,
    /// End the connection, if there is one; its end will be told.
    Drop,
    /// Forget the keys: they are of no use, and in the way of a new pairing.
    Forget,
    /// Tell the server that this device goes, and end the connection; its end will be told.
    LogOut,
    /// A person must act.
    Notify,
}

/// Where things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has paired it, or somebody has unpaired it.
    Unpaired,
    /// An attempt is under way.
    Connecting,
    /// It works.
    Online,
    /// The connection is being ended by us.
    Closing(Then),
    /// The next attempt comes by itself.
    Backoff {
        /// When.
        until: Duration,
        /// Why the last one failed.
        reason: String,
    },
    /// The phone does not know this device any more.
    NeedsPairing {
        /// What the server said.
        reason: String,
    },
    /// Another program is this device now.
    Replaced {
        /// When to try nevertheless.
        until: Duration,
    },
    /// The account is banned.
    Banned {
        /// Until then.
        until: UnixMs,
    },
    /// The server refuses this version of the protocol.
    Outdated {
        /// When to try again.
        until: Duration,
    },
}

/// What comes after a connection that we end ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// A new one, at once.
    Again,
    /// A new one, after a pause.
    Later(String),
    /// A new pairing.
    Pair,
    /// Nothing.
    Rest,
}

/// What a code means. Hazard 62 lists them; sources: Baileys' `DisconnectReason`, and
/// `ConnectFailureReason` and `handle_stream_error` of `whatsapp-rust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Come back at once.
    Restart,
    /// Come back later.
    Again,
    /// Come back much later.
    Slower,
    /// The device is gone.
    NeedsPairing,
    /// Somebody else is this device.
    Replaced,
    /// The account is banned.
    Banned,
    /// The version is refused.
    Outdated,
}

/// What `code` means, however it came.
pub(super) fn meaning(code: u16) -> Meaning {
    match code {
        515 => Meaning::Restart,
        429 => Meaning::Slower,
        // Logged out; locked; logged out for an unknown reason; several devices are off; removed.
        401 | 403 | 406 | 411 | 516 => Meaning::NeedsPairing,
        402 => Meaning::Banned,
        405 => Meaning::Outdated,
        409 | 440 => Meaning::Replaced,
        // 400 408 428 499 500 501 503, and what may still be invented.
        _ => Meaning::Again,
    }
}

/// The rules, and where things stand by them.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    since: UnixMs,
    is_paired: bool,
    is_pairing: bool,
    /// Attempts in a row that led to nothing that lasted.
    failures: u32,
    restarts: u32,
    /// When the current state began.
    began: Duration,
    /// Of the last [`LINK_ATTEMPTS_MAX`] attempts, when each was made.
    attempts: VecDeque<Duration>,
    ticked: Now,
    /// What a person was last told about, by name of the state; cleared when it works again.
    notified: Option<String>,
}

impl Machine {
    /// Starts where the last life of the program ended: `stored` is what [`Machine::shown`] gave.
    pub(super) fn start(now: Now, is_paired: bool, stored: &Value) -> (Machine, Vec<Do>) {
        let name = stored["state"].as_str().unwrap_or_default();
        let reason = stored["reason"].as_str().unwrap_or_default();
        let mut machine = Machine {
            state: State::Unpaired,
            since: now.wall,
            is_paired,
            is_pairing: false,
            failures: 0,
            restarts: 0,
            began: now.up,
            attempts: VecDeque::new(),
            ticked: now,
            notified: stored["notified"].as_str().map(str::to_owned),
        };
        let mut todo = Vec::new();
        match name {
            // Told already, and as true as before: no attempt can succeed.
            "needs-pairing" => {
                // Whatever keys are still there.
                machine.is_paired = false;
                machine.enter(now, State::NeedsPairing { reason: reason.to_owned() });
            }
            _ if is_paired => machine.connect(now, &mut todo),
            _ => {}
        }
        (machine, todo)
    }

    /// Where things stand.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether a phone has taken this device in, and not let it go since.
    pub(super) fn is_paired(&self) -> bool {
        self.is_paired
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.state {
            State::Backoff { until, .. }
            | State::Replaced { until }
            | State::Outdated { until } => Some(*until),
            State::Connecting if !self.is_pairing => Some(self.began + LINK_CONNECT_MAX),
            _ => None,
        }
    }

    /// What to do about `event`. `chance`, 0 to 1, spreads the pauses of many programs.
    pub(super) fn step(&mut self, now: Now, chance: f64, event: Event) -> Vec<Do> {
        let mut todo = Vec::new();
        match event {
            Event::Tick => self.tick(now, &mut todo),
            Event::Online if self.state == State::Connecting => {
                self.is_paired = true;
                self.is_pairing = false;
                self.restarts = 0;
                self.notified = None;
                self.enter(now, State::Online);
            }
            Event::Paired if self.state == State::Connecting => {
                self.is_paired = true;
                self.is_pairing = false;
                self.restarts = 0;
                self.began = now.up;
            }
            Event::Ended(end) => self.ended(now, chance, &end, &mut todo),
            Event::Silent => {
                self.drop(now, Then::Later("the server has gone silent".to_owned()), &mut todo);
            }
            Event::NetworkChanged => self.awake(now, &mut todo),
            Event::Pair => {
                self.is_paired = false;
                self.is_pairing = true;
                if self.is_open() {
                    self.drop(now, Then::Pair, &mut todo);
                } else {
                    todo.push(Do::Forget);
                    self.connect(now, &mut todo);
                }
            }
            Event::PairingOver if self.is_pairing => {
                self.is_pairing = false;
                self.rest(now, &mut todo);
            }
            // What is under way already is what was asked for.
            Event::Reconnect if self.is_paired => match self.state {
                State::Connecting | State::Closing(_) => {}
                State::Online => {
                    self.drop(now, Then::Again, &mut todo);
                }
                _ => self.connect(now, &mut todo),
            },
            // Of a connection that is being ended; or what cannot be.
            Event::Online | Event::Paired | Event::PairingOver | Event::Reconnect => {}
            Event::Unpair => {
                self.is_paired = false;
                self.is_pairing = false;
                if self.state == State::Online {
                    todo.push(Do::LogOut);
                    self.enter(now, State::Closing(Then::Rest));
                } else if !self.drop(now, Then::Rest, &mut todo) {
                    todo.push(Do::Forget);
                    self.enter(now, State::Unpaired);
                }
            }
        }
        todo
    }

    /// For the database: what `status` shows, and what the next start begins with.
    pub(super) fn shown(&self, now: Now) -> Value {
        let at = |until: Duration| now.wall.plus(until.saturating_sub(now.up)).0;
        let (name, until, reason) = match &self.state {
            State::Closing(Then::Later(reason)) => ("backoff", None, Some(&**reason)),
            // Unpaired is it when its keys are gone, and not before.
            State::Connecting | State::Closing(_) => ("connecting", None, None),
            State::Online => ("online", None, None),
            State::Backoff { until, reason } => ("backoff", Some(at(*until)), Some(&**reason)),
            State::Unpaired => ("unpaired", None, None),
            State::NeedsPairing { reason } => ("needs-pairing", None, Some(&**reason)),
            State::Replaced { until } => ("replaced", Some(at(*until)), None),
            State::Banned { until } => ("banned", Some(until.0), None),
            State::Outdated { until } => ("outdated", Some(at(*until)), None),
        };
        let mut shown = json!({"state": name, "since_ms": self.since.0});
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown[key] = value;
            }
        };
        add("until_ms", until.map(Value::from));
        add("reason", reason.map(Value::from));
        add("act", self.act().map(Value::from));
        add("notified", self.notified.clone().map(Value::from));
        shown
    }

    /// What a person can do about the state, where nothing else helps.
    pub(super) fn act(&self) -> Option<&'static str> {
        match &self.state {
            State::NeedsPairing { .. } => Some(
                "the phone does not know this device any more: `rust-claw pair` links it again",
            ),
            State::Replaced { .. } => Some(
                "another program runs with the keys of this device: end it, then \
                 `rust-claw reconnect`",
            ),
            State::Banned { .. } => Some(
                "WhatsApp has banned the account for a time: see the phone; it goes on by itself \
                 afterwards",
            ),
            State::Outdated { .. } => Some(
                "WhatsApp refuses this version of the protocol: update rust-claw, or set \
                 WHATSAPP_VERSION to the version that web.whatsapp.com has",
            ),
            _ => None,
        }
    }

    /// Whether a connection is there, or on its way.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting | State::Online | State::Closing(_))
    }

    fn enter(&mut self, now: Now, state: State) {
        self.state = state;
        self.since = now.wall;
        self.began = now.up;
    }

    fn tick(&mut self, now: Now, todo: &mut Vec<Do>) {
        let before = std::mem::replace(&mut self.ticked, now);
        let slept = now.wall.since(before.wall).saturating_sub(now.up.saturating_sub(before.up));
        if slept >= CLOCK_JUMP_MIN {
            // What was open before a sleep is open on this side alone.
            self.awake(now, todo);
        }
        match self.state {
            State::Backoff { until, .. }
            | State::Replaced { until }
            | State::Outdated { until }
                if until <= now.up =>
            {
                self.connect(now, todo);
            }
            State::Banned { until } if until <= now.wall => self.connect(now, todo),
            State::Connecting if self.due().is_some_and(|due| due <= now.up) => {
                let reason = "the server has not answered".to_owned();
                self.drop(now, Then::Later(reason), todo);
            }
            _ => {}
        }
    }

    /// The network may be another one than before.
    fn awake(&mut self, now: Now, todo: &mut Vec<Do>) {
        if matches!(self.state, State::Backoff { .. }) {
            self.connect(now, todo);
        } else if !self.is_pairing {
            self.drop(now, Then::Again, todo);
        }
    }

    /// Tells whether there was something to drop.
    fn drop(&mut self, now: Now, then: Then, todo: &mut Vec<Do>) -> bool {
        match (&self.state, &then) {
            (State::Connecting | State::Online, _) => todo.push(Do::Drop),
            // What a person asked for stands.
            (State::Closing(Then::Pair | Then::Rest), Then::Again | Then::Later(_)) => return true,
            (State::Closing(_), _) => {}
            _ => return false,
        }
        self.note_length(now);
        self.enter(now, State::Closing(then));
        true
    }

    /// Begins an attempt, or waits until one more is allowed.
    fn connect(&mut self, now: Now, todo: &mut Vec<Do>) {
        let minute = Duration::from_mins(1);
        while self.attempts.front().is_some_and(|at| *at + minute <= now.up) {
            self.attempts.pop_front();
        }
        match self.attempts.front() {
            Some(oldest) if LINK_ATTEMPTS_MAX <= self.attempts.len() => {
                let until = *oldest + minute;
                let reason = "too many attempts within a minute".to_owned();
                self.enter(now, State::Backoff { until, reason });
            }
            _ => {
                self.attempts.push_back(now.up);
                self.enter(now, State::Connecting);
                todo.push(Do::Connect);
            }
        }
    }

    /// A connection that lasted proves that all is well.
    fn note_length(&mut self, now: Now) {
        if self.state == State::Online && self.began + LINK_STABLE_MIN <= now.up {
            self.failures = 0;
        }
    }

    fn ended(&mut self, now: Now, chance: f64, end: &End, todo: &mut Vec<Do>) {
        self.note_length(now);
        let then = match &self.state {
            State::Closing(then) => Some(then.clone()),
            State::Connecting | State::Online => None,
            // An echo of an end that was told before.
            _ => return,
        };
        match then {
            Some(Then::Again) => return self.connect(now, todo),
            Some(Then::Later(reason)) => return self.retry(now, chance, reason),
            Some(Then::Pair) => {
                todo.push(Do::Forget);
                return self.connect(now, todo);
            }
            Some(Then::Rest) => {
                todo.push(Do::Forget);
                return self.enter(now, State::Unpaired);
            }
            None => {}
        }
        let reason = said(end);
        let meaning = match end {
            End::Lost(_) | End::Certificate => Meaning::Again,
            End::Code(code) => meaning(*code),
            End::Removed => Meaning::NeedsPairing,
            End::Replaced => Meaning::Replaced,
            End::Banned(_) => Meaning::Banned,
            End::Outdated => Meaning::Outdated,
            End::Unscanned => {
                self.is_pairing = false;
                return self.enter(now, State::Unpaired);
            }
        };
        match meaning {
            Meaning::Restart if self.restarts == 0 => {
                self.restarts += 1;
                self.connect(now, todo);
            }
            Meaning::NeedsPairing if self.is_paired => {
                self.is_paired = false;
                self.enter(now, State::NeedsPairing { reason });
                self.notify(todo);
            }
            Meaning::Again | Meaning::Restart | Meaning::NeedsPairing => {
                self.retry(now, chance, reason);
            }
            Meaning::Slower => {
                self.failures = self.failures.max(SLOWER_FAILURES);
                self.retry(now, chance, reason);
            }
            Meaning::Replaced => {
                self.enter(now, State::Replaced { until: now.up + LINK_REPLACED_RETRY });
                self.notify(todo);
            }
            Meaning::Banned => {
                let told = if let End::Banned(told) = end { *told } else { None };
                let until = now.wall.plus(told.unwrap_or(LINK_BAN_UNTOLD).min(LINK_BAN_MAX));
                self.enter(now, State::Banned { until });
                self.notify(todo);
            }
            Meaning::Outdated => {
                self.enter(now, State::Outdated { until: now.up + LINK_OUTDATED_RETRY });
                self.notify(todo);
            }
        }
    }

    fn retry(&mut self, now: Now, chance: f64, reason: String) {
        let pause = pause(self.failures, chance);
        self.failures = self.failures.saturating_add(1);
        self.enter(now, State::Backoff { until: now.up + pause, reason });
    }

    /// Stops pairing.
    fn rest(&mut self, now: Now, todo: &mut Vec<Do>) {
        if !self.drop(now, Then::Rest, todo) {
            self.enter(now, State::Unpaired);
        }
    }

    /// Once for each state, however often it comes back before it works again.
    fn notify(&mut self, todo: &mut Vec<Do>) {
        let name = match &self.state {
            State::NeedsPairing { .. } => "needs-pairing",
            State::Replaced { .. } => "replaced",
            State::Banned { .. } => "banned",
            _ => "outdated",
        };
        if self.notified.as_deref() != Some(name) {
            self.notified = Some(name.to_owned());
            todo.push(Do::Notify);
        }
    }
}

/// After so many failures the pause is longer than a minute.
const SLOWER_FAILURES: u32 = 7;

/// The pause after a failure that came after `failures` others: the doubled one before it, and up
/// to half as much again by chance.
fn pause(failures: u32, chance: f64) -> Duration {
    let base = LINK_RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(LINK_RETRY_MAX * 2 / 3);
    base.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 2.0)
}

fn said(end: &End) -> String {
    match end {
        End::Lost(why) => why.clone(),
        End::Code(code) => format!("the server ended the connection with code {code}"),
        End::Certificate => "the server at this address is not WhatsApp's, or something on the \
                             way opens the connection: its certificate is not genuine"
            .to_owned(),
        End::Removed => "the device was removed on the phone".to_owned(),
        End::Replaced => "another program has connected as this device".to_owned(),
        End::Banned(_) => "the account is banned for a time".to_owned(),
        End::Outdated => "the server refuses this version of the protocol (405)".to_owned(),
        End::Unscanned => "no phone has scanned the code".to_owned(),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
