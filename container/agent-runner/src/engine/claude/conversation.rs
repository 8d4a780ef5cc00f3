//! What to do when something happens in a conversation with the CLI. Pure: it knows neither
//! processes nor files nor clocks.
//!
//! Every message stays in `unanswered` until a turn that contains it has ended. So it is known at
//! each moment what the host can rely on (nothing that is not in a frame), and what to say again
//! where the CLI has to be started anew.

use std::collections::VecDeque;
use std::time::Instant;

use rust_claw_protocol::{ErrorKind, Output, Status};

use super::event::{Event, TurnEnd};
use super::failure;
use super::ledger::Spent;
use crate::limits::{EXIT_MAX, RETRY_MAX, STOP_MAX, UNTAKEN_MAX};

/// Said before the answer where a conversation had to be given up.
const OVERFLOW_NOTICE: &str = "Our conversation had become too long for the model. I start a new \
                               one; my notes and files are still there.";

/// A message of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The UUID by which the CLI names it.
    pub(super) id: String,
    pub(super) text: String,
    /// The follow-up file that it came in.
    file: Option<String>,
    /// Whether the CLI has said that it is part of a turn.
    is_taken: bool,
}

impl Message {
    /// A message that nobody has seen yet.
    pub(super) fn new(text: String, file: Option<String>, id: String) -> Message {
        Message { id, text, file, is_taken: false }
    }
}

/// What happened.
#[derive(Debug)]
pub(super) enum Happening {
    /// The CLI said something.
    Said(Event),
    /// The CLI is gone; its exit and last words.
    Ended { how: String },
    /// Follow-ups came.
    Arrived(Vec<Message>),
    /// No more follow-ups will come; may be said again and again.
    Closing,
    /// A signal asks us to end.
    Stop,
    /// The time of [`Conversation::due`] has come.
    Due,
}

/// What to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Start the CLI, in place of one that runs.
    Start { resume: Option<String> },
    /// Give it a message.
    Write(Message),
    /// Ask it to stop its turn.
    Interrupt,
    /// Tell it that nothing more will come.
    EndInput,
    /// Kill it.
    Kill,
    /// The follow-up in this file is in use.
    Taken(String),
    /// Tell the host.
    Report(Output),
    /// End the run.
    Finish { is_well: bool },
}

/// How far the run is on the way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Follow-ups may come.
    Open,
    /// None will come; what was said is still to be answered.
    Closing,
    /// All is answered, and the CLI knows that nothing more will come.
    Ending,
    /// A signal has come: nothing more is answered.
    Stopping,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    /// The session that the host knows.
    session: Option<String>,
    /// Whether the CLI that runs continued that session from an earlier process.
    is_resumed: bool,
    unanswered: VecDeque<Message>,
    spent: Spent,
    /// Turns that this process has answered.
    answered_count: u32,
    /// To be said before the next answer.
    notice: Option<&'static str>,
    /// The failure that the CLI put into the model's mouth last, in this turn.
    said: Option<String>,
    /// Since when requests have failed, and the last status.
    retrying: Option<(Instant, Option<u16>)>,
    phase: Phase,
    /// When the CLI is killed, after a stop or at the end.
    kill_at: Option<Instant>,
    secrets: Vec<String>,
}

impl Conversation {
    /// Begins with `prompt`, in `session` if there is one. `secrets` are kept out of every frame.
    pub(super) fn begin(
        prompt: Message,
        session: Option<String>,
        secrets: Vec<String>,
    ) -> (Conversation, Vec<Effect>) {
        let conversation = Conversation {
            is_resumed: session.is_some(),
            session: session.clone(),
            unanswered: [prompt.clone()].into(),
            spent: Spent::default(),
            answered_count: 0,
            notice: None,
            said: None,
            retrying: None,
            phase: Phase::Open,
            kill_at: None,
            secrets,
        };
        (conversation, vec![Effect::Start { resume: session }, Effect::Write(prompt)])
    }

    /// How many more messages the CLI may be given.
    pub(super) fn room(&self) -> usize {
        let untaken = self.unanswered.iter().filter(|message| !message.is_taken).count();
        if self.phase == Phase::Stopping { 0 } else { UNTAKEN_MAX.saturating_sub(untaken) }
    }

    /// When to say [`Happening::Due`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.kill_at
    }

    /// A CLI was started whose totals begin at `spent`.
    pub(super) fn started(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// Decides what to do at `now`, when `happening` has happened.
    pub(super) fn step(&mut self, now: Instant, happening: Happening) -> Vec<Effect> {
        match happening {
            Happening::Said(event) => self.heard(now, event),
            Happening::Ended { how } => self.ended(&how),
            Happening::Arrived(messages) => {
                self.unanswered.extend(messages.iter().cloned());
                messages.into_iter().map(Effect::Write).collect()
            }
            Happening::Closing => {
                if self.phase == Phase::Open {
                    self.phase = Phase::Closing;
                }
                self.end_if_done(now)
            }
            Happening::Stop => self.stop(now),
            Happening::Due => self.give_up(now),
        }
    }

    fn heard(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        match event {
            Event::Began { session } => {
                if self.session.as_ref() == Some(&session) {
                    return Vec::new();
                }
                self.session = Some(session);
                // At once, so that the session is known even if the turn never ends.
                let output = Output { turn_end: Some(false), ..self.output(Status::Success) };
                vec![Effect::Report(output)]
            }
            Event::Took { message } => {
                self.retrying = None;
                let taken = self.unanswered.iter_mut().find(|m| m.id == message && !m.is_taken);
                let Some(taken) = taken else { return Vec::new() };
                taken.is_taken = true;
                taken.file.clone().map(Effect::Taken).into_iter().collect()
            }
            Event::Working { error } => {
                self.retrying = None;
                self.said = error;
                Vec::new()
            }
            Event::Retrying { status } => {
                let since = self.retrying.map_or(now, |(since, _)| since);
                self.retrying = Some((since, status));
                // The CLI would try for minutes; a refused key does not get better. While a request
                // is answered it says nothing, so silence is no refusal.
                if matches!(status, Some(401 | 403)) || since + RETRY_MAX <= now {
                    self.fail_retry(status)
                } else {
                    Vec::new()
                }
            }
            Event::Ended(end) => self.turn_ended(now, &end),
            Event::Other => Vec::new(),
        }
    }

    fn turn_ended(&mut self, now: Instant, end: &TurnEnd) -> Vec<Effect> {
        self.retrying = None;
        let said = self.said.take();
        let Some((kind, error)) = failure::of(end, said.as_deref()) else {
            self.answered_count += 1;
            let mut effects = if end.origin { Vec::new() } else { self.take_command() };
            let mut output = self.settle(Some(end));
            let answer = end.result.as_deref().filter(|text| !text.trim().is_empty());
            let parts: Vec<&str> = self.notice.take().into_iter().chain(answer).collect();
            output.result = (!parts.is_empty()).then(|| parts.join("\n\n"));
            effects.push(Effect::Report(output));
            if self.phase == Phase::Stopping {
                let is_well = self.unanswered.is_empty();
                effects.extend([Effect::Kill, Effect::Finish { is_well }]);
            } else {
                effects.extend(self.end_if_done(now));
            }
            return effects;
        };
        if self.phase == Phase::Stopping {
            return self.fail(Some(end), ErrorKind::Other, "stopped before the end");
        }
        // A conversation is only worth a new start if there is something to say again in it.
        let has_history =
            !self.unanswered.is_empty() && (self.is_resumed || 0 < self.answered_count);
        match kind {
            ErrorKind::SessionUnknown if self.is_resumed => self.start_anew(),
            ErrorKind::Overflow if has_history => {
                // Not a frame of its own: to the host, what is said answers what was asked.
                self.notice = Some(OVERFLOW_NOTICE);
                self.start_anew()
            }
            kind => self.fail(Some(end), kind, &error),
        }
    }

    /// Counts the oldest message as taken, where a turn ends well that took none: it was a command
    /// of the CLI, such as `/compact`, which older versions do not replay.
    fn take_command(&mut self) -> Vec<Effect> {
        if self.unanswered.iter().any(|message| message.is_taken) {
            return Vec::new();
        }
        let Some(oldest) = self.unanswered.front_mut() else { return Vec::new() };
        oldest.is_taken = true;
        oldest.file.clone().map(Effect::Taken).into_iter().collect()
    }

    /// Starts a new session and says again in it what is not answered. Since the new session has no
    /// history, this happens at most once for each answer.
    fn start_anew(&mut self) -> Vec<Effect> {
        self.session = None;
        self.is_resumed = false;
        self.answered_count = 0;
        let mut effects = vec![Effect::Kill, Effect::Start { resume: None }];
        for message in &mut self.unanswered {
            message.is_taken = false;
            effects.push(Effect::Write(message.clone()));
        }
        effects
    }

    fn ended(&mut self, how: &str) -> Vec<Effect> {
        if self.is_resumed && self.answered_count == 0 && failure::is_unknown_session(how) {
            return self.start_anew();
        }
        match (self.unanswered.is_empty(), self.phase) {
            (true, Phase::Ending | Phase::Stopping) => vec![Effect::Finish { is_well: true }],
            // No turn has failed: the host has nothing to repeat, only to start another run.
            (true, _) => vec![Effect::Finish { is_well: false }],
            (false, Phase::Stopping) => self.fail(None, ErrorKind::Other, "stopped before the end"),
            (false, _) => {
                let error = format!("the Claude Code CLI ended in the middle of a turn: {how}");
                self.fail(None, ErrorKind::Other, &error)
            }
        }
    }

    fn stop(&mut self, now: Instant) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.phase, Phase::Stopping);
        if matches!(before, Phase::Ending | Phase::Stopping) {
            // On its way out already.
            return Vec::new();
        }
        self.kill_at = Some(now + STOP_MAX);
        if self.unanswered.is_empty() {
            return vec![Effect::EndInput];
        }
        // Its input ends only with its turn: what it has not taken yet must not be answered.
        vec![Effect::Interrupt]
    }

    fn give_up(&mut self, now: Instant) -> Vec<Effect> {
        if self.kill_at.is_some_and(|at| at <= now) {
            return if self.unanswered.is_empty() {
                vec![Effect::Kill, Effect::Finish { is_well: true }]
            } else {
                self.fail(None, ErrorKind::Other, "stopped before the end")
            };
        }
        Vec::new()
    }

    fn fail_retry(&mut self, status: Option<u16>) -> Vec<Effect> {
        let (kind, error) = failure::retried(status);
        self.fail(None, kind, &error)
    }

    /// Reports a failed turn and ends the run: the CLI is killed before it takes more, so that what
    /// it has not taken stays with the host.
    fn fail(&mut self, end: Option<&TurnEnd>, kind: ErrorKind, error: &str) -> Vec<Effect> {
        let mut output = self.settle(end);
        output.status = Status::Error;
        output.error = Some(failure::shown(error, &self.secrets));
        output.error_kind = Some(kind);
        vec![Effect::Kill, Effect::Report(output), Effect::Finish { is_well: false }]
    }

    /// The frame of a turn that is over, with all that it had taken. `end` is not there where the
    /// CLI did not come to say it.
    fn settle(&mut self, end: Option<&TurnEnd>) -> Output {
        let mut consumed = Vec::new();
        self.unanswered.retain_mut(|message| {
            if message.is_taken {
                consumed.extend(message.file.take());
            }
            !message.is_taken
        });
        let usage = end.map(|end| self.spent.turn(end));
        Output {
            turn_end: Some(true),
            consumed: Some(consumed),
            usage,
            ..self.output(Status::Success)
        }
    }

    /// Ends the CLI's input when all is answered and no more will come.
    fn end_if_done(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase != Phase::Closing || !self.unanswered.is_empty() {
            return Vec::new();
        }
        self.phase = Phase::Ending;
        self.kill_at = Some(now + EXIT_MAX);
        vec![Effect::EndInput]
    }

    fn output(&self, status: Status) -> Output {
        Output { new_session_id: self.session.clone(), ..Output::new(status) }
    }
}

#[cfg(test)]
mod tests;
